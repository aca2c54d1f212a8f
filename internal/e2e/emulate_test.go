package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// wantJSON fails the test unless an answer is the JSON object wanted; 0 stands
// for a number that is checked to be positive.
func wantJSON(t *testing.T, what string, r result, want map[string]any) {
	t.Helper()
	var got map[string]any
	if r.status != 200 || json.Unmarshal([]byte(r.body), &got) != nil || len(got) != len(want) {
		t.Errorf("%s: status %d %s, want %v", what, r.status, r.body, want)
		return
	}
	for name, value := range want {
		if number, ok := got[name].(float64); ok && value == 0 {
			if number <= 0 {
				t.Errorf("%s: %s is %v", what, name, number)
			}
			continue
		}
		if fmt.Sprint(got[name]) != fmt.Sprint(value) {
			t.Errorf("%s: %s is %v, want %v", what, name, got[name], value)
		}
	}
}

const platform = wechattest.DefaultComponentAppID

// TestTokenEndpoints: they are answered here, in WeChat's shape, with
// placeholders, and cause no call to WeChat while a token is fresh.
func TestTokenEndpoints(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(1)
	s.pushTicket()
	app := appID(0)
	post := func(what, path, body string, want map[string]any) {
		t.Helper()
		r, err := s.call("POST", path, "", []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		wantJSON(t, what, r, want)
	}
	get := func(what, path string, want map[string]any) {
		t.Helper()
		r, err := s.call("GET", path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		wantJSON(t, what, r, want)
	}
	post("component", "/cgi-bin/component/api_component_token",
		`{"component_appid":"`+platform+`","component_appsecret":"dummy","component_verify_ticket":"ticket@@@dummy"}`,
		map[string]any{"component_access_token": "lingpai-component-" + platform, "expires_in": 0})
	for range 1000 {
		r, err := s.call("POST", "/cgi-bin/component/api_authorizer_token?component_access_token=lingpai-component-"+platform, "",
			[]byte(`{"component_appid":"`+platform+`","authorizer_appid":"`+app+`","authorizer_refresh_token":"whatever"}`))
		if err != nil {
			t.Fatal(err)
		}
		wantJSON(t, "authorizer", r, map[string]any{"authorizer_access_token": "lingpai-authorizer-" + app, "expires_in": 0, "authorizer_refresh_token": "lingpai-refresh-" + app})
	}
	get("an authorizer by /cgi-bin/token", "/cgi-bin/token?grant_type=client_credential&appid="+app+"&secret=dummy",
		map[string]any{"access_token": "lingpai-authorizer-" + app, "expires_in": 0})
	get("a direct account by /cgi-bin/token", "/cgi-bin/token?grant_type=client_credential&appid="+directAppID+"&secret=dummy",
		map[string]any{"access_token": "lingpai-account-" + directAppID, "expires_in": 0})
	post("a direct account by stable_token", "/cgi-bin/stable_token", `{"grant_type":"client_credential","appid":"`+directAppID+`","secret":"dummy"}`,
		map[string]any{"access_token": "lingpai-account-" + directAppID, "expires_in": 0})
	get("the platform by /cgi-bin/token", "/cgi-bin/token?grant_type=client_credential&appid="+platform+"&secret=dummy",
		map[string]any{"errcode": 61024, "errmsg": "must use api_component_token to get token for component acct"})
	get("an unknown account", "/cgi-bin/token?grant_type=client_credential&appid=wxffffffffffffffff&secret=dummy",
		map[string]any{"errcode": 40013, "errmsg": "invalid appid"})
	get("no account", "/cgi-bin/token?grant_type=client_credential", map[string]any{"errcode": 41002, "errmsg": "appid missing"})
	get("another grant", "/cgi-bin/token?grant_type=password&appid="+app, map[string]any{"errcode": 40002, "errmsg": "invalid grant_type"})
	post("no JSON", "/cgi-bin/stable_token", `{"appid":`, map[string]any{"errcode": 47001, "errmsg": "data format error"})
	post("another platform", "/cgi-bin/component/api_component_token", `{"component_appid":"wxffffffffffffffff"}`, map[string]any{"errcode": 40013, "errmsg": "invalid appid"})
	get("another spelling of the path", "//cgi-bin/%74oken?grant_type=client_credential&appid="+app+"&secret=dummy",
		map[string]any{"access_token": "lingpai-authorizer-" + app, "expires_in": 0})

	for path, want := range map[string]int{componentPath: 1, authorizerPath: 1, "/cgi-bin/token": 0, "/cgi-bin/stable_token": 1} {
		if n := w.Count(path); n != want {
			t.Errorf("%s reached WeChat %d times, want %d", path, n, want)
		}
	}
	// The placeholder is enough to make calls.
	r, err := s.call("GET", "/cgi-bin/menu/get?access_token=lingpai-authorizer-"+app, "", nil)
	if err != nil || r.failed() != "" || w.CallsTo("/cgi-bin/menu/get")[0].TokenAppID != app {
		t.Errorf("a call with the placeholder: %v %s", err, r.failed())
	}
	if id := r.header.Get("X-Openapi-Seqid"); id == "" {
		t.Error("the relayed answer has no X-Openapi-Seqid")
	}
}

// TestForceRefresh: force_refresh does not rotate a token more than once per
// min_refresh_interval.
func TestForceRefresh(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "tokens: {min_refresh_interval: 2s}")
	s.addAuthorizers(1)
	s.pushTicket()
	force := func(app string) {
		t.Helper()
		r, err := s.call("POST", "/cgi-bin/stable_token", "", []byte(`{"grant_type":"client_credential","appid":"`+app+`","secret":"x","force_refresh":true}`))
		if err != nil || r.failed() != "" {
			t.Fatalf("%v %s", err, r.failed())
		}
	}
	began := time.Now()
	for range 50 {
		force(appID(0))
	}
	if took := time.Since(began); took < 2*time.Second {
		if n := w.CountFor(authorizerPath, appID(0)); n != 1 {
			t.Errorf("%d refreshes in %v, want 1", n, took)
		}
	}
	eventually(t, 15*time.Second, "a token older than the interval is rotated", func() bool {
		force(appID(0))
		return w.CountFor(authorizerPath, appID(0)) == 2
	})
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("rotated again after %v", took)
	}
	// A direct account's: WeChat itself allows it only each 30 s.
	force(directAppID)
	if n := w.Count("/cgi-bin/stable_token"); n != 1 {
		t.Errorf("%d calls of stable_token, want 1", n)
	}
}

// TestJSTickets: a thousand callers on a cold cache are one call to WeChat, and
// errors are not kept.
func TestJSTickets(t *testing.T) {
	w := newWeChat(t, func(k *wechattest.Knobs) { k.JSTicketLifetime = wechattest.Duration(303 * time.Second) })
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(2)
	s.pushTicket()
	const path, calls = "/cgi-bin/ticket/getticket", 1000
	ticket := func(app, query string, header ...string) result {
		request, err := http.NewRequest("GET", s.proxy+path+"?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Wechat-Appid", app)
		if len(header) > 0 {
			request.Header.Set(header[0], header[1])
		}
		r, err := s.do(request)
		if err != nil {
			t.Fatal(err)
		}
		s.answers.Delete(r.body) // WeChat means the ticket for the app
		return r
	}
	var failed failures
	var done sync.WaitGroup
	for range calls {
		done.Go(func() {
			if r := ticket(appID(0), "type=jsapi"); r.failed() != "" || !strings.HasPrefix(r.header.Get("Cache-Status"), "lingpai; ") {
				failed.add(r.failed() + r.header.Get("Cache-Status"))
			}
		})
	}
	done.Wait()
	failed.check(t, calls)
	if n := w.Count(path); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	hit := ticket(appID(0), "type=jsapi&access_token=lingpai-authorizer-"+appID(0))
	if !strings.HasPrefix(hit.header.Get("Cache-Status"), "lingpai; hit; ttl=") || hit.header.Get("Age") == "" {
		t.Errorf("fields %v", hit.header)
	}
	ticket(appID(0), "type=wx_card")
	ticket(appID(1), "type=jsapi")
	if n := w.Count(path); n != 3 {
		t.Errorf("%d calls after another type and another account, want 3", n)
	}
	if r := ticket(appID(0), "type=jsapi", "Cache-Control", "no-cache"); !strings.Contains(r.header.Get("Cache-Status"), "fwd=request") || w.Count(path) != 4 {
		t.Errorf("no-cache: %q, %d calls", r.header.Get("Cache-Status"), w.Count(path))
	}
	// It lives 303 s: 3 s without the margin. Then it is fetched anew, before it
	// lapses.
	eventually(t, 10*time.Second, "the ticket is renewed before it lapses", func() bool {
		ticket(appID(0), "type=jsapi")
		return w.Count(path) == 5
	})
	// An error answer is not kept.
	w.AddFault(wechattest.Fault{Path: path, Kind: wechattest.FaultErrcode, Errcode: 45009, Times: 1})
	if r := ticket(appID(1), "type=other"); r.errcode != 45009 {
		t.Errorf("%s", r.body)
	}
	before := w.Count(path)
	ticket(appID(1), "type=other")
	if n := w.Count(path); n != before+1 {
		t.Error("an error answer was kept")
	}
	// An account's answers go when it authorizes again.
	before = w.CountFor(path, appID(1))
	ticket(appID(1), "type=jsapi")
	if _, err := w.Reauthorize(context.Background(), appID(1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the kept answer is gone after a new authorization", func() bool {
		return ticket(appID(1), "type=jsapi").failed() == "" && w.CountFor(path, appID(1)) > before+1
	})
	if n := s.metric("lingpai_response_cache_total", `result="hit"`); n < 1 {
		t.Errorf("%v hits counted", n)
	}
	// wx.config without a ticket in the app.
	r, err := s.call("GET", "/_lingpai/v1/jssdk-signature?url=https%3A%2F%2Fexample.com%2Fp%3Fa%3D1%23top", appID(0), nil)
	var signed struct {
		AppID, NonceStr, Signature string
		Timestamp                  int64
	}
	if err != nil || json.Unmarshal([]byte(r.body), &signed) != nil || signed.AppID != appID(0) || len(signed.Signature) != 40 || signed.Timestamp == 0 || signed.NonceStr == "" {
		t.Errorf("%v %s", err, r.body)
	}
}

// TestAnswersWithTokens: api_query_auth, api_get_authorizer_info and
// api_get_authorizer_list are learned from and come back with placeholders; a
// code is spent once, whoever has it first.
func TestAnswersWithTokens(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "")
	s.pushTicket()
	ctx := context.Background()
	query := func(code string) result {
		t.Helper()
		r, err := s.call("POST", "/cgi-bin/component/api_query_auth", "", []byte(`{"authorization_code":"`+code+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	works := func(app string) {
		t.Helper()
		eventually(t, 10*time.Second, app+" can be called for", func() bool {
			r, err := s.call("GET", "/cgi-bin/menu/get", app, nil)
			return err == nil && r.failed() == ""
		})
	}
	for i, options := range [][]wechattest.AuthorizeOption{
		{wechattest.WithoutPush()}, // the app is first, and alone
		nil,                        // the push is first, with the same code
		{wechattest.WithPushDelay(300 * time.Millisecond)}, // the app is first, then the push
	} {
		app := appID(i)
		const exchange = "/cgi-bin/component/api_query_auth"
		before := w.Count(exchange)
		authorization, err := w.Authorize(ctx, app, options...)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r := query(authorization.Code)
			if r.status != 200 || !strings.Contains(r.body, `"lingpai-authorizer-`+app+`"`) || !strings.Contains(r.body, `"lingpai-refresh-`+app+`"`) || !strings.Contains(r.body, "func_info") {
				t.Errorf("%d: status %d %s", i, r.status, r.body)
			}
		}
		works(app)
		if i > 0 { // the push is worked on to its end
			eventually(t, 10*time.Second, "the push is counted", func() bool {
				return s.metric("lingpai_pushes_total", `info_type="authorized"`) == float64(i)
			})
		}
		if n := w.Count(exchange) - before; n != 1 {
			t.Errorf("%d: the code went to WeChat %d times, want 1", i, n)
		}
	}
	if r := query("queryauthcode@@@nonsense"); r.status != 200 || r.errcode != 61009 {
		t.Errorf("a wrong code: %d %s", r.status, r.body)
	}

	// Two accounts that lingpai has never heard of.
	w.AddAuthorizer(appID(10))
	w.AddAuthorizer(appID(11))
	r, err := s.call("POST", "/cgi-bin/component/api_get_authorizer_info", "", []byte(`{"authorizer_appid":"`+appID(10)+`"}`))
	if err != nil || !strings.Contains(r.body, `"lingpai-refresh-`+appID(10)+`"`) {
		t.Errorf("%v %s", err, r.body)
	}
	works(appID(10))
	r, err = s.call("POST", "/cgi-bin/component/api_get_authorizer_list", "", []byte(`{"component_appid":"`+platform+`","offset":0,"count":500}`))
	if err != nil || !strings.Contains(r.body, `"lingpai-refresh-`+appID(11)+`"`) || strings.Contains(r.body, "refreshtoken@@@") {
		t.Errorf("%v %s", err, r.body)
	}
	works(appID(11))
	// What was known is still what it was: no account was refreshed for the list.
	if n := w.CountFor(authorizerPath, appID(0)); n != 0 {
		t.Errorf("%d refreshes of an account whose token was good", n)
	}
	// The platform's app id and secret were put in where they were missing.
	if r, err := s.call("POST", "/cgi-bin/component/api_start_push_ticket", "", nil); err != nil || r.failed() != "" {
		t.Errorf("start_push_ticket: %v %s", err, r.failed())
	}
	if r, err := s.call("POST", "/cgi-bin/component/clear_quota/v2", "", []byte(`{"appsecret":"dummy"}`)); err != nil || r.failed() != "" {
		t.Errorf("clear_quota/v2: %v %s", err, r.failed())
	}
	if r, err := s.callUnkept("GET", "/sns/jscode2session?js_code=c1&grant_type=authorization_code&secret=dummy", directAppID, nil); err != nil || r.failed() != "" {
		t.Errorf("jscode2session: %v %s", err, r.failed())
	}
	if r, err := s.callUnkept("GET", "/sns/component/jscode2session?js_code=c2&grant_type=authorization_code&appid="+appID(0), "", nil); err != nil || r.failed() != "" {
		t.Errorf("component jscode2session: %v %s", err, r.failed())
	}

	// A report of an earlier call tells its URL, without the token.
	w.AddFault(wechattest.Fault{Path: "/cgi-bin/menu/create", Kind: wechattest.FaultErrcode, Errcode: 48001, Times: 1})
	refused, err := s.call("POST", "/cgi-bin/menu/create", appID(0), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_, rid, _ := strings.Cut(refused.body, "rid: ")
	r, err = s.call("POST", "/cgi-bin/openapi/rid/get", appID(0), []byte(`{"rid":"`+strings.TrimRight(rid, `"}`)+`"}`))
	if err != nil || r.errcode != 0 || !strings.Contains(r.body, "access_token=***") {
		t.Errorf("rid/get: %v %s", err, r.body)
	}

	// Each link has a code of its own.
	codes := map[string]bool{}
	for range 3 {
		r, err := s.callUnkept("POST", "/_lingpai/v1/authorization-link", "", []byte(`{"redirect_uri":"https://wx.example.com/done"}`))
		var link struct {
			Code   string `json:"pre_auth_code"`
			PC     string `json:"pc_url"`
			Mobile string `json:"mobile_url"`
		}
		if err != nil || json.Unmarshal([]byte(r.body), &link) != nil || !strings.Contains(link.PC, "componentloginpage") || !strings.Contains(link.Mobile, "bindcomponent") {
			t.Fatalf("%v %s", err, r.body)
		}
		codes[link.Code] = true
	}
	if len(codes) != 3 {
		t.Errorf("%d different pre_auth_codes, want 3", len(codes))
	}
	if r, err := s.call("GET", "/_lingpai/v1/health", "", nil); err != nil || r.status != 200 {
		t.Errorf("health: %v %d", err, r.status)
	}
}
