package wechattest

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestComponentTokenChecks(t *testing.T) {
	s := newSim(t)
	ticket := s.IssueTicket()
	good := func() object {
		return object{
			"component_appid": DefaultComponentAppID, "component_appsecret": DefaultComponentAppSecret, "component_verify_ticket": ticket,
		}
	}
	with := func(name string, value any) object {
		o := good()
		o[name] = value
		return o
	}
	for rule, c := range map[string]struct {
		method string
		body   any
		want   int
	}{
		"GET is refused":             {"GET", nil, 43002},
		"an empty body":              {"POST", nil, 44002},
		"bad JSON":                   {"POST", `{"component_appid":`, 47001},
		"a field of the wrong type":  {"POST", with("component_appid", 1), 47001},
		"no component_appid":         {"POST", with("component_appid", ""), 41018},
		"a foreign component_appid":  {"POST", with("component_appid", "wxffffffffffffffff"), 40013},
		"no secret":                  {"POST", with("component_appsecret", ""), 41004},
		"a wrong secret":             {"POST", with("component_appsecret", "x"), 40125},
		"a ticket never issued":      {"POST", with("component_verify_ticket", "ticket@@@x"), 61006},
		"no ticket":                  {"POST", with("component_verify_ticket", ""), 61006},
		"everything right":           {"POST", good(), 0},
		"a ticket may be used again": {"POST", good(), 0},
	} {
		t.Run(rule, func(t *testing.T) {
			call(t, s, c.method, pathComponentToken, c.body).want(c.want)
		})
	}
	a := fetchComponent(t, s, ticket).want(0)
	if _, ok := a.fields["errcode"]; ok {
		t.Error("a token call has an errcode on success")
	}
	if n := len(a.text("component_access_token")); n < 130 || n > 157 {
		t.Errorf("token of %d characters", n)
	}
	if got := a.number("expires_in"); got != 7200 {
		t.Errorf("expires_in %d", got)
	}
}

func TestErrorText(t *testing.T) {
	s := newSim(t)
	a := use(t, s, "short").want(40014)
	form := regexp.MustCompile(`^invalid access_token rid: [0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{8}$`)
	if !form.MatchString(a.text("errmsg")) {
		t.Errorf("errmsg %q", a.text("errmsg"))
	}
	if got := a.header.Get("Content-Type"); got != "application/json; encoding=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	s.SetKnobs(func(k *Knobs) { k.ErrcodeType, k.JSONContentType = ErrcodeString, "text/plain" })
	a = use(t, s, "short")
	if a.text("errcode") != "40014" || a.header.Get("Content-Type") != "text/plain" {
		t.Errorf("%s as %s", a.raw, a.header.Get("Content-Type"))
	}
	s.SetKnobs(func(k *Knobs) { k.JSONContentType = NoContentType })
	if a = use(t, s, "short"); a.header.Get("Content-Type") != "" {
		t.Errorf("Content-Type %q", a.header.Get("Content-Type"))
	}
}

func TestTicketValidity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		old := s.IssueTicket()
		time.Sleep(12*time.Hour - time.Nanosecond)
		fetchComponent(t, s, old).want(0)
		newer := s.IssueTicket()
		time.Sleep(time.Nanosecond)
		fetchComponent(t, s, old).want(61005)
		fetchComponent(t, s, newer).want(0)
	})
}

func TestOnlyNewestTicket(t *testing.T) {
	s := newSim(t, func(k *Knobs) { k.OnlyNewestTicket = true })
	first, second := s.IssueTicket(), s.IssueTicket()
	fetchComponent(t, s, first).want(61006)
	fetchComponent(t, s, second).want(0)
}

func TestComponentTokenLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		token := componentToken(t, s)
		time.Sleep(2*time.Hour - time.Nanosecond)
		useComponent(t, s, token).want(0)
		time.Sleep(time.Nanosecond)
		useComponent(t, s, token).want(42001)
		s.SetKnobs(func(k *Knobs) { k.ComponentErrcodes = ErrcodesComponent })
		useComponent(t, s, token).want(42006)
	})
}

func TestComponentTokenOverlap(t *testing.T) {
	for older, wantFirst := range map[string]int{OlderLive: 0, OlderDead: 40001} {
		t.Run("first of three "+older, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, func(k *Knobs) { k.OlderTokens = older })
				first := componentToken(t, s)
				time.Sleep(time.Minute)
				second := componentToken(t, s)
				if first == second {
					t.Fatal("a fetch did not rotate")
				}
				useComponent(t, s, first).want(0)
				time.Sleep(time.Minute)
				third := componentToken(t, s)
				useComponent(t, s, first).want(wantFirst)
				useComponent(t, s, second).want(0)
				useComponent(t, s, third).want(0)
				time.Sleep(4 * time.Minute) // five after the second fetch
				useComponent(t, s, first).want(40001)
				useComponent(t, s, second).want(0)
				time.Sleep(time.Minute)
				useComponent(t, s, second).want(40001)
				useComponent(t, s, third).want(0)
				if n := s.Refreshes(KindComponent, DefaultComponentAppID); n != 3 {
					t.Errorf("%d refreshes", n)
				}
			})
		})
	}
	t.Run("none", func(t *testing.T) {
		s := newSim(t, func(k *Knobs) { k.ComponentOverlap = 0 })
		first := componentToken(t, s)
		componentToken(t, s)
		useComponent(t, s, first).want(40001)
	})
}

func TestComponentQueryName(t *testing.T) {
	s := newSim(t)
	s.AddAuthorizer(authorizerA)
	token := componentToken(t, s)
	sns := "/sns/component/jscode2session?grant_type=authorization_code&component_appid=" + DefaultComponentAppID +
		"&appid=" + authorizerA + "&js_code=code-" // and the token
	for _, c := range []struct {
		accept, sent string
		want         int
	}{
		{QueryNameBoth, "access_token", 0},
		{QueryNameBoth, "component_access_token", 0},
		{QueryNameAccess, "access_token", 0},
		{QueryNameAccess, "component_access_token", 41001},
		{QueryNameComponent, "access_token", 41001},
		{QueryNameComponent, "component_access_token", 0},
	} {
		s.SetKnobs(func(k *Knobs) { k.ComponentQueryName = c.accept })
		call(t, s, "POST", "/cgi-bin/component/api_create_preauthcode?"+c.sent+"="+token,
			object{"component_appid": DefaultComponentAppID}).want(c.want)
		want := 0
		if c.sent == "access_token" {
			want = 41001
		}
		call(t, s, "GET", sns+c.accept+c.sent+"&"+c.sent+"="+token, nil).want(want)
	}
	// An account's call knows only access_token.
	call(t, s, "GET", "/cgi-bin/user/get?component_access_token="+token, nil).want(41001)
}

func TestStartPushTicket(t *testing.T) {
	s := newSim(t)
	start := func(secret string) answer {
		return call(t, s, "POST", "/cgi-bin/component/api_start_push_ticket",
			object{"component_appid": DefaultComponentAppID, "component_secret": secret})
	}
	start("").want(41004)
	start("wrong").want(40125)
	if got := start(DefaultComponentAppSecret).want(0).text("errmsg"); got != "in a normal state" {
		t.Errorf("while on: %q", got)
	}
	s.SetTicketPush(false)
	if got := start(DefaultComponentAppSecret).want(0).text("errmsg"); got != "ok" {
		t.Errorf("while off: %q", got)
	}
	if !s.State().TicketPushOn {
		t.Error("still off")
	}
}

func TestPreAuthCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		token := componentToken(t, s)
		create := func() string {
			a := componentCall(t, s, "api_create_preauthcode", token, object{}).want(0)
			if a.number("expires_in") != 1800 {
				t.Errorf("expires_in %d", a.number("expires_in"))
			}
			return a.text("pre_auth_code")
		}
		first, second, third := create(), create(), create()
		if first == second || !strings.HasPrefix(first, "preauthcode@@@") {
			t.Fatalf("codes %q %q", first, second)
		}
		if _, err := s.Authorize(t.Context(), authorizerA, WithPreAuthCode(first)); err != nil {
			t.Error(err)
		}
		if _, err := s.Authorize(t.Context(), authorizerA, WithPreAuthCode(first)); err == nil {
			t.Error("a pre_auth_code was good twice")
		}
		if _, err := s.Authorize(t.Context(), authorizerA, WithPreAuthCode(second)); err != nil {
			t.Error(err)
		}
		time.Sleep(30 * time.Minute)
		if _, err := s.Authorize(t.Context(), authorizerA, WithPreAuthCode(third)); err == nil {
			t.Error("an expired pre_auth_code was good")
		}
		componentCall(t, s, "api_create_preauthcode", token, object{"component_appid": authorizerA}).want(40013)
	})
}

func TestWhitelist(t *testing.T) {
	s := newSim(t)
	token := componentToken(t, s)
	s.SetKnobs(func(k *Knobs) { k.IPWhitelist = []string{"10.0.0.1"} })
	a := useComponent(t, s, token).want(61004)
	if !strings.Contains(a.text("errmsg"), "requestIP: 192.0.2.1") {
		t.Errorf("errmsg %q", a.text("errmsg"))
	}
	fetchComponent(t, s, s.IssueTicket()).want(61004)
	plainToken(t, s).want(40164)
	r := httptest.NewRequest("GET", "/wxa/gettemplatelist?access_token="+token, nil)
	r.RemoteAddr = "10.0.0.1:1"
	do(t, s, r).want(0)
}

func TestSecretReset(t *testing.T) {
	s := newSim(t)
	token := componentToken(t, s)
	s.SetComponentAppSecret("fedcba9876543210fedcba9876543210")
	fetchComponent(t, s, s.IssueTicket()).want(40125)
	useComponent(t, s, token).want(0)
}
