package wechattest

import (
	"strings"
	"testing"
)

func TestControlAPI(t *testing.T) {
	s, rc := newPushSim(t)
	control := func(method, path string, body any) answer {
		t.Helper()
		return call(t, s, method, ControlPrefix+path, body)
	}
	good := func(method, path string, body any) answer {
		t.Helper()
		a := control(method, path, body)
		if a.status != 200 || a.header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s %s: %d %s", method, path, a.status, a.raw)
		}
		return a
	}
	bad := func(method, path string, body any, status int, says string) {
		t.Helper()
		if a := control(method, path, body); a.status != status || !strings.Contains(a.text("error"), says) {
			t.Errorf("%s %s: %d %s", method, path, a.status, a.raw)
		}
	}
	list := good("GET", "", nil).fields["endpoints"].([]any)
	if len(list) < 20 || !strings.Contains(call(t, s, "GET", "/_simulate/v1", nil).raw, ControlPrefix+"authorize") {
		t.Errorf("%d endpoints", len(list))
	}
	bad("GET", "nothing", nil, 404, ControlPrefix)
	bad("GET", "ticket", nil, 405, "POST")

	good("POST", "ticket", nil)
	if len(rc.all()) != 1 {
		t.Error("no ticket was pushed")
	}
	ticket := good("POST", "ticket", `{"without_push":true}`).text("ticket")
	component := fetchComponent(t, s, ticket).want(0).text("component_access_token")

	a := good("POST", "authorize", `{"app_id":"`+authorizerA+`","scopes":[1],"redirect_uri":"https://p.example/done?x=1"}`)
	if !strings.HasPrefix(a.text("redirect_url"), "https://p.example/done?x=1&auth_code=queryauthcode%40%40%40") {
		t.Error(a.raw)
	}
	queryAuth(t, s, component, a.text("code")).want(0)
	good("POST", "reauthorize", object{"app_id": authorizerA})
	good("POST", "update-authorize", object{"app_id": authorizerA})
	good("POST", "fast-register", object{"app_id": "wxcccccccccccccccc"})
	rt := good("POST", "authorizers", object{"app_id": authorizerB}).text("refresh_token")
	refresh(t, s, component, authorizerB, rt).want(0)
	good("POST", "unauthorize", object{"app_id": authorizerB})
	bad("POST", "unauthorize", object{"app_id": authorizerB}, 400, "not authorized")
	bad("POST", "authorize", object{"app_id": "x"}, 400, `"x"`)
	bad("POST", "authorize", object{"appid": "x"}, 400, `unknown field "appid"`)
	bad("POST", "authorize", `{} {}`, 400, "more than one")
	good("POST", "event", `{"info_type":"x","fields":[{"name":"a","value":"b"}]}`)
	bad("POST", "event", `{}`, 400, "info_type")
	good("POST", "message", object{"app_id": authorizerA, "text": "hello"})
	if n := len(good("GET", "pushes", nil).fields["pushes"].([]any)); n != len(rc.all()) {
		t.Errorf("%d pushes", n)
	}

	if got := good("PATCH", "knobs", `{"authorizer_overlap":"5m","quotas":{"/x":3}}`); got.text("authorizer_overlap") != "5m0s" || got.text("component_overlap") != "5m0s" {
		t.Error(got.raw)
	}
	if k := s.Knobs(); k.Quotas["/x"] != 3 || k.Quotas[pathToken] != 2000 {
		t.Errorf("quotas %v", k.Quotas)
	}
	bad("PATCH", "knobs", `{"overlap":"5m"}`, 400, `unknown field "overlap"`)
	bad("PATCH", "knobs", `{"authorizer_overlap":300}`, 400, "body")
	bad("PATCH", "knobs", `{"authorizer_overlap":"-1s"}`, 400, "300s")
	bad("PATCH", "knobs", `{"ticket":"x"}`, 400, "knob ticket")
	bad("PATCH", "knobs", `{"component_token_lifetime":"0s"}`, 400, "component_token_lifetime")

	id := good("POST", "faults", `{"kind":"errcode","errcode":-1,"path":"/wxa/*"}`).number("id")
	use(t, s, "x").want(-1)
	if n := len(good("GET", "faults", nil).fields["faults"].([]any)); n != 1 || id != 1 {
		t.Errorf("%d faults, id %d", n, id)
	}
	bad("POST", "faults", `{"kind":"x"}`, 400, "errcode")
	bad("POST", "faults", `{"kind":"delay"}`, 400, "delay")
	bad("DELETE", "faults?id=7", nil, 404, "7")
	bad("DELETE", "faults?ids=7", nil, 400, "ids")
	good("DELETE", "faults?id=1", nil)
	good("DELETE", "faults", nil)

	calls := good("GET", "calls?path="+pathQueryAuth+"&limit=1", nil)
	if calls.number("count") != 1 || calls.number("executed") != 1 || len(calls.fields["calls"].([]any)) != 1 {
		t.Error(calls.raw)
	}
	calls = good("GET", "calls?path="+pathAuthorizerToken+"&app_id="+authorizerB, nil)
	if calls.number("count") != 1 || len(good("GET", "calls?after=1000", nil).fields["calls"].([]any)) != 0 {
		t.Error(calls.raw)
	}
	bad("GET", "calls?limit=x", nil, 400, "limit")
	use(t, s, component+"&access_token=x").want(40014)
	good("GET", "violations", nil)
	good("DELETE", "calls", nil)
	if got := good("GET", "violations", nil); len(got.fields["violations"].([]any)) != 0 {
		t.Error(got.raw)
	}

	if n := good("POST", "revoke", object{"kind": "component", "app_id": DefaultComponentAppID}).number("revoked"); n != 1 {
		t.Errorf("%d revoked", n)
	}
	bad("POST", "revoke", object{"kind": "x"}, 400, "kind")
	good("POST", "revoke", object{"all": true})

	state := good("GET", "state", nil)
	if len(state.fields["authorizers"].([]any)) != 3 || strings.Contains(state.raw, "refreshtoken@@@") {
		t.Error(state.raw)
	}
	if got := good("PATCH", "config", `{"event_url":"http://127.0.0.1:1/e","message_token":"next-token"}`); got.text("event_url") != "http://127.0.0.1:1/e" ||
		got.text("message_token") != "next-token" || got.text("encoding_aes_key") != DefaultEncodingAESKey {
		t.Error(got.raw)
	}
	bad("PATCH", "config", `{"event_url":"nowhere"}`, 400, "event_url")
	bad("PATCH", "config", `{"encoding_aes_key":"x"}`, 400, "encoding_aes_key")
	bad("PATCH", "config", `{"component_app_id":"wx9999999999999999"}`, 400, "cannot be changed")
	good("GET", "config", nil)
	good("GET", "messages", nil)
	if !strings.Contains(good("GET", "secrets", nil).raw, "next-token") {
		t.Error("the new message token is no secret")
	}
	good("POST", "reset", nil)
	if st := s.State(); len(st.Authorizers) != 0 || len(st.Tokens) != 0 || s.Knobs().AuthorizerOverlap != 0 {
		t.Errorf("after reset %+v", st)
	}
	s.SetEventURL("")
	bad("POST", "ticket", nil, 409, "no URL")
}
