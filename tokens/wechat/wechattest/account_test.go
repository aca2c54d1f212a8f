package wechattest

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPlainToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		first := plainToken(t, s).want(0).text("access_token")
		stable := stableToken(t, s, false).want(0).text("access_token")
		second := plainToken(t, s).want(0).text("access_token")
		if first == second {
			t.Fatal("no rotation")
		}
		use(t, s, first).want(0)
		time.Sleep(5 * time.Minute)
		use(t, s, first).want(40001)
		use(t, s, second).want(0)
		use(t, s, stable).want(0) // the two kinds do not touch each other
		time.Sleep(2 * time.Hour)
		use(t, s, second).want(42001)
	})
}

func TestPlainTokenChecks(t *testing.T) {
	s := newSim(t)
	s.AddAuthorizer(authorizerA)
	for rule, c := range map[string]struct {
		query string
		want  int
	}{
		"no grant_type":             {"appid=" + direct + "&secret=" + secretOfD, 40002},
		"no appid":                  {"grant_type=client_credential&secret=x", 41002},
		"no secret":                 {"grant_type=client_credential&appid=" + direct, 41004},
		"a wrong secret":            {"grant_type=client_credential&appid=" + direct + "&secret=x", 40125},
		"an unknown appid":          {"grant_type=client_credential&appid=wx1111111111111111&secret=x", 40013},
		"the component's own appid": {"grant_type=client_credential&appid=" + DefaultComponentAppID + "&secret=x", 61024},
		"an authorizer's appid":     {"grant_type=client_credential&appid=" + authorizerA + "&secret=x", 40125},
	} {
		t.Run(rule, func(t *testing.T) { call(t, s, "GET", pathToken+"?"+c.query, nil).want(c.want) })
	}
	call(t, s, "POST", pathToken, `{}`).want(43001)
	call(t, s, "POST", pathStableToken, object{"grant_type": "client_credential", "appid": DefaultComponentAppID, "secret": "x"}).want(61024)
}

func TestStableToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		a := stableToken(t, s, false).want(0)
		first := a.text("access_token")
		if a.number("expires_in") != 7200 {
			t.Errorf("expires_in %s", a.raw)
		}
		time.Sleep(115*time.Minute - time.Second)
		a = stableToken(t, s, false).want(0)
		if a.text("access_token") != first || a.number("expires_in") != 301 {
			t.Errorf("before the last five minutes: %s", a.raw)
		}
		time.Sleep(time.Second)
		second := stableToken(t, s, false).want(0).text("access_token")
		if second == first {
			t.Fatal("the same token in its last five minutes")
		}
		time.Sleep(5*time.Minute - time.Nanosecond)
		use(t, s, first).want(0)
		time.Sleep(time.Nanosecond)
		use(t, s, first).want(42001)
		use(t, s, second).want(0)
		if n := s.Refreshes(KindAccount, direct); n != 2 {
			t.Errorf("%d refreshes", n)
		}
	})
}

func TestStableTokenForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		first := stableToken(t, s, false).text("access_token")
		second := stableToken(t, s, true).want(0).text("access_token")
		use(t, s, first).want(40001)
		use(t, s, second).want(0)
		time.Sleep(30*time.Second - time.Nanosecond)
		stableToken(t, s, true).want(45011)
		time.Sleep(time.Nanosecond)
		for range 19 {
			stableToken(t, s, true).want(0)
			time.Sleep(30 * time.Second)
		}
		stableToken(t, s, true).want(45009)
		stableToken(t, s, false).want(0)
		time.Sleep(24 * time.Hour)
		stableToken(t, s, true).want(0)
	})
}

func TestStableTokenMinuteLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		s.mu.Lock()
		s.stable[direct] = &stableUse{minute: time.Now().Unix() / 60, minuteCalls: stablePerMin}
		s.mu.Unlock()
		stableToken(t, s, false).want(45011)
		time.Sleep(time.Minute)
		stableToken(t, s, false).want(0)
	})
}

func TestJSTicket(t *testing.T) {
	s := newSim(t)
	token := plainToken(t, s).text("access_token")
	get := func(query string) answer { return call(t, s, "GET", "/cgi-bin/ticket/getticket?"+query, nil) }
	a := get("type=jsapi&access_token=" + token).want(0)
	if _, ok := a.fields["errcode"]; !ok || a.number("expires_in") != 7200 {
		t.Errorf("ticket %s", a.raw)
	}
	if b := get("type=wx_card&access_token=" + token).want(0); b.text("ticket") == a.text("ticket") {
		t.Error("the same ticket twice")
	}
	get("type=x&access_token=" + token).want(40097)
	get("type=jsapi").want(41001)
}

func TestQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, func(k *Knobs) { k.Quotas[pathComponentToken] = 2; k.Quotas["/cgi-bin/user/get"] = 1 })
		ticket := s.IssueTicket()
		fetchComponent(t, s, ticket).want(0)
		token := fetchComponent(t, s, ticket).want(0).text("component_access_token")
		fetchComponent(t, s, ticket).want(45009)
		get := func(path string) answer {
			return call(t, s, "POST", "/cgi-bin/openapi/quota/get?access_token="+token, object{"cgi_path": path})
		}
		if q := get(pathComponentToken).want(0).object("quota"); q.number("daily_limit") != 2 || q.number("used") != 2 || q.number("remain") != 0 {
			t.Errorf("quota %v", q.fields)
		}
		get("cgi-bin").want(76021)
		get("/sns/userinfo").want(76022)

		clearBySecret := func() answer {
			return call(t, s, "POST", "/cgi-bin/component/clear_quota/v2",
				object{"component_appid": DefaultComponentAppID, "appsecret": DefaultComponentAppSecret})
		}
		clearBySecret().want(0)
		fetchComponent(t, s, ticket).want(0)
		call(t, s, "POST", "/cgi-bin/clear_quota?access_token="+token, object{"appid": direct}).want(40013)
		call(t, s, "POST", "/cgi-bin/clear_quota?access_token="+token, object{"appid": DefaultComponentAppID}).want(0)
		for range 8 {
			clearBySecret().want(0)
		}
		clearBySecret().want(48006)

		account := plainToken(t, s).text("access_token")
		user := func() answer { return call(t, s, "GET", "/cgi-bin/user/get?access_token="+account, nil) }
		user().want(0)
		user().want(45009)
		call(t, s, "POST", "/cgi-bin/clear_quota/v2", object{"appid": direct, "appsecret": secretOfD}).want(0)
		user().want(0)
		time.Sleep(24 * time.Hour)
		account = plainToken(t, s).text("access_token")
		user().want(0)
	})
}

func TestRID(t *testing.T) {
	s := newSim(t)
	dead := plainToken(t, s).text("access_token")
	s.RevokeToken(KindAccount, direct)
	errmsg := use(t, s, dead).want(40001).text("errmsg")
	rid := errmsg[len(errmsg)-26:]
	token := plainToken(t, s).text("access_token")
	get := func(token, rid string) answer {
		return call(t, s, "POST", "/cgi-bin/openapi/rid/get?access_token="+token, object{"rid": rid})
	}
	got := get(token, rid).want(0).object("request")
	if want := "https://api.weixin.qq.com/wxa/msg_sec_check?access_token=" + dead; got.text("request_url") != want {
		t.Errorf("request_url %q", got.text("request_url"))
	}
	get(token, "x").want(76002)
	get(token, "00000000-00000000-00000000").want(76001)
	get(componentToken(t, s), rid).want(76003)
}
