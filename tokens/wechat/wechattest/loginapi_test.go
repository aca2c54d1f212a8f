package wechattest

import (
	"strings"
	"testing"
)

func TestLoginControlAPI(t *testing.T) {
	s, rc := newPushSim(t)
	good := func(method, path string, body any) answer {
		t.Helper()
		a := call(t, s, method, ControlPrefix+path, body)
		if a.status != 200 {
			t.Fatalf("%s %s: %d %s", method, path, a.status, a.raw)
		}
		return a
	}
	bad := func(method, path string, body any, status int, says string) {
		t.Helper()
		if a := call(t, s, method, ControlPrefix+path, body); a.status != status || !strings.Contains(a.text("error"), says) {
			t.Errorf("%s %s: %d %s", method, path, a.status, a.raw)
		}
	}
	count := func(a answer, name string) int {
		t.Helper()
		list, ok := a.fields[name].([]any)
		if !ok {
			t.Fatalf("no list %s: %s", name, a.raw)
		}
		return len(list)
	}
	link := func() string {
		return "https://mp.weixin.qq.com" + loginLink(pathLoginMobile, newCode(t, s)) + "#wechat_redirect"
	}

	// A link without a referer comes from the page of the platform.
	l := good("POST", "logins", object{"url": link()})
	if l.text("status") != "pending" || l.text("form") != "mobile" || l.text("entry_host") != "wx.example.com" || count(l, "accounts") != 4 {
		t.Error(l.raw)
	}
	bad("POST", "logins", object{"url": link(), "referer": ""}, 409, "referer: ")
	bad("POST", "logins", object{"url": link(), "referer": "https://other.example.com/"}, 409, "other.example.com")
	bad("POST", "logins", object{"url": "https://mp.weixin.qq.com/"}, 400, "no login link")
	bad("POST", "logins", object{}, 400, "url is missing")

	bad("POST", "logins/confirm", object{"login": l.text("id")}, 400, "app_id")
	bad("POST", "logins/confirm", object{"app_id": officialOne}, 400, "login or url")
	bad("POST", "logins/confirm", object{"login": "x", "url": "y", "app_id": officialOne}, 400, "exclude")
	bad("POST", "logins/confirm", object{"login": "x", "app_id": officialOne}, 409, "login: ")
	bad("POST", "logins/confirm", object{"login": l.text("id"), "app_id": officialOne, "scopes": []int{1, 17}}, 409, "[17]")
	a := good("POST", "logins/confirm", object{"login": l.text("id"), "app_id": officialOne, "scopes": []int{1, 2}})
	if a.text("event") != "authorized" || !strings.HasPrefix(a.text("redirect_url"), donePage+"&auth_code=") || a.fields["pushed"] != true {
		t.Error(a.raw)
	}
	bad("POST", "logins/confirm", object{"login": l.text("id"), "app_id": officialOne}, 409, RefusedUsedCode)
	again := good("POST", "logins/confirm", object{"url": link(), "app_id": officialOne})
	if again.text("event") != "updateauthorized" || len(rc.all()) != 2 {
		t.Error(again.raw)
	}
	none := good("POST", "logins/confirm", object{"url": link(), "app_id": miniTwo, "scopes": []int{}})
	info := queryAuth(t, s, componentToken(t, s), none.text("code")).want(0).object("authorization_info")
	if info.fields["authorizer_refresh_token"] != nil {
		t.Error("tokens without any permission")
	}
	good("POST", "logins/cancel", object{"url": link()})
	bad("POST", "logins/cancel", object{}, 400, "login or url")
	bad("POST", "logins/cancel", object{"login": "x"}, 409, "login: ")
	for status, want := range map[string]int{"": 4, "confirmed": 3, "cancelled": 1, "pending": 0} {
		if n := count(good("GET", "logins?status="+status, nil), "logins"); n != want {
			t.Errorf("%d logins %s, want %d", n, status, want)
		}
	}
	if n := count(good("GET", "logins?limit=1", nil), "logins"); n != 1 {
		t.Errorf("%d logins", n)
	}
	bad("GET", "logins?limit=-1", nil, 400, "limit")

	if n := count(good("POST", "login-accounts", object{"app_id": authorizerA, "type": 5}), "accounts"); n != 5 {
		t.Errorf("%d accounts", n)
	}
	bad("POST", "login-accounts", object{"app_id": authorizerA, "type": 3}, 400, "type 3")
	bad("POST", "login-accounts", object{"app_id": "x"}, 400, "16 hexadecimal")
	bad("POST", "login-accounts", object{"app_id": authorizerA, "scopes": []int{0}}, 400, "permission set 0")
	if n := count(good("DELETE", "login-accounts?app_id="+authorizerA, nil), "accounts"); n != 4 {
		t.Errorf("%d accounts", n)
	}
	bad("DELETE", "login-accounts?app_id="+authorizerA, nil, 404, authorizerA)
	if n := count(good("GET", "login-accounts", nil), "accounts"); n != 4 {
		t.Errorf("%d accounts", n)
	}

	good("PATCH", "knobs", object{"push_order": OrderEventHeld, "login_domain": "wx.example.com"})
	bad("PATCH", "knobs", object{"login_domain": "https://wx.example.com"}, 400, "login_domain")
	for _, appID := range []string{officialOne, miniTwo, "wx3333333333333333"} {
		good("POST", "authorize", object{"app_id": appID})
	}
	before := len(rc.all())
	if held := good("GET", "held-events", nil); count(held, "held_events") != 3 || len(rc.all()) != before {
		t.Error(held.raw)
	}
	if n := count(good("POST", "held-events/release", object{"id": 2}), "pushes"); n != 1 || rc.all()[before].fields["AuthorizerAppid"] != miniTwo {
		t.Error("the wrong event was released")
	}
	bad("POST", "held-events/release", object{"id": 2}, 404, "2")
	if n := count(good("POST", "held-events/release", nil), "pushes"); n != 2 || len(rc.all()) != before+3 {
		t.Errorf("%d released", n)
	}
	good("PATCH", "knobs", object{"push_order": OrderRedirectLost})
	if lost := good("POST", "authorize", object{"app_id": officialOne, "redirect_uri": donePage}); lost.fields["redirect_url"] != nil || lost.text("code") == "" {
		t.Error(lost.raw)
	}

	if one := good("POST", "message", object{"app_id": officialOne, "event": "subscribe"}); !strings.Contains(one.text("plain"), "subscribe") {
		t.Error(one.raw)
	}
	if many := good("POST", "message", object{"app_ids": []string{officialOne, miniTwo}, "text": "x"}); many.number("sent") != 2 || many.number("acknowledged") != 2 {
		t.Error(many.raw)
	}
	bad("POST", "message", object{"text": "x"}, 400, "app_id")
	bad("POST", "message", object{"app_id": officialOne, "count": -1}, 400, "count")
	bad("POST", "release-test", object{"pair": 7}, 400, "pair")
	report := good("POST", "release-test", object{"wait": "1ms"})
	if report.fields["passed"] != false || count(report, "cases") != 4 {
		t.Error(report.raw)
	}
	good("POST", "reset", nil)
	if count(good("GET", "held-events", nil), "held_events")+count(good("GET", "logins", nil), "logins") != 0 {
		t.Error("a reset forgets neither")
	}
}
