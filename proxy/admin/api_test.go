package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat/wechattest"
)

func withoutComponent(c *tokens.Config) { c.Component = nil }

func TestStatus(t *testing.T) {
	w := newWorld(t)
	s := w.call(200, "GET", "/v1/status", "")
	for path, want := range map[string]string{
		"":                 "authorizers component store version",
		"component":        "app_id ticket token",
		"component.ticket": "received_at",
		"component.token":  "expires_at generation refreshed_at state",
		"authorizers":      "active reauthorize unauthorized",
		"store":            "kind ok",
	} {
		if got := s.keys(path); got != want {
			t.Errorf("%q holds %s, want %s", path, got, want)
		}
	}
	f := func(s object, path string, want any) {
		t.Helper()
		if got := s.at(path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	f(s, "version", "v1")
	f(s, "component.app_id", component)
	f(s, "component.ticket.received_at", nil)
	f(s, "component.token.state", "missing")
	f(s, "component.token.expires_at", nil)
	f(s, "component.token.refreshed_at", nil)
	f(s, "component.token.generation", 0.0)
	f(s, "authorizers.active", 0.0)
	f(s, "store.kind", "memory")
	f(s, "store.ok", true)

	w.give()
	w.call(200, "POST", "/v1/component/refresh", "")
	s = w.call(200, "GET", "/v1/status", "")
	f(s, "component.token.state", "fresh")
	f(s, "component.token.generation", 1.0)
	if at := s.time(t, "component.ticket.received_at"); time.Since(at) > time.Minute || at.Location() != time.UTC {
		t.Errorf("received_at %v", at)
	}
	if left := time.Until(s.time(t, "component.token.expires_at")); left < time.Hour || left > 2*time.Hour {
		t.Errorf("%v left", left)
	}
	if age := time.Since(s.time(t, "component.token.refreshed_at")); age < 0 || age > time.Minute {
		t.Errorf("refreshed %v ago", age)
	}

	token := func(left time.Duration) {
		t.Helper()
		if _, err := w.store.Store.UpdateComponent(context.Background(), component, func(c *store.Component) error {
			c.Token.ExpiresAt = time.Now().Add(left)
			c.Token.RefreshedAt = c.Token.ExpiresAt.Add(-2 * time.Hour)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	token(5 * time.Minute)
	f(w.call(200, "GET", "/v1/status", ""), "component.token.state", "stale")
	token(-time.Second)
	f(w.call(200, "GET", "/v1/status", ""), "component.token.state", "missing")

	for i, state := range []store.State{store.StateActive, store.StateReauthorize, store.StateReauthorize, store.StateUnauthorized, store.StateUnauthorized, store.StateUnauthorized} {
		w.put("wx000"+strconv.Itoa(i), state)
	}
	s = w.call(200, "GET", "/v1/status", "")
	f(s, "authorizers.active", 1.0)
	f(s, "authorizers.reauthorize", 2.0)
	f(s, "authorizers.unauthorized", 3.0)

	// What the store would know is unknown, not 0, while it fails.
	w.store.fail(errors.New("disk on fire"))
	s = w.call(200, "GET", "/v1/status", "")
	f(s, "store.ok", false)
	f(s, "component.app_id", component)
	f(s, "component.token", nil)
	f(s, "component.ticket", nil)
	f(s, "authorizers", nil)
}

func TestStatusWithoutComponent(t *testing.T) {
	w := newWorld(t, withoutComponent)
	s := w.call(200, "GET", "/v1/status", "")
	if s.at("component") != nil || s.at("store.ok") != true {
		t.Errorf("%v", s)
	}
	for _, path := range []string{"/v1/component/refresh", "/v1/component/start-push-ticket", "/v1/component/clear-quota"} {
		w.wrong(409, "POST", path, "", "no component is configured")
	}
	w.wrong(409, "POST", "/v1/component/ticket", `{"ticket":"ticket@@@x"}`, "no component")
	w.wrong(409, "POST", "/v1/authorizers", `{"app_id":"`+authorizer+`","refresh_token":"refreshtoken@@@x"}`, "no component")
}

// put stores an authorizer.
func (w *world) put(appID string, state store.State) {
	w.t.Helper()
	_, err := w.store.Store.UpdateAuthorizer(context.Background(), appID, func(a *store.Authorizer) error {
		a.State = state
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestAuthorizerShape(t *testing.T) {
	w := newWorld(t)
	authorizedAt := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 8*3600))
	w.store.Store.UpdateAuthorizer(context.Background(), authorizer, func(a *store.Authorizer) error {
		a.State, a.RefreshToken, a.AuthorizedAt, a.Scopes = store.StateActive, secret.New("refreshtoken@@@x"), authorizedAt, []int{1, 15}
		return nil
	})
	w.put("wxbare", store.StateUnauthorized)
	a := w.call(200, "GET", "/v1/authorizers/"+authorizer, "")
	if got, want := a.keys(""), "app_id authorized_at has_refresh_token scopes state token"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := a.keys("token"), "expires_at generation refreshed_at state"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a["authorized_at"] != "2026-01-01T19:04:05Z" || a["has_refresh_token"] != true || a["state"] != "active" || a.at("token.state") != "missing" {
		t.Errorf("%v", a)
	}
	if text, _ := json.Marshal(a["scopes"]); string(text) != "[1,15]" {
		t.Errorf("scopes %s", text)
	}
	bare := w.call(200, "GET", "/v1/authorizers/wxbare", "")
	if text, _ := json.Marshal(bare["scopes"]); string(text) != "[]" || bare["authorized_at"] != nil || bare["has_refresh_token"] != false || bare["state"] != "unauthorized" {
		t.Errorf("%v", bare)
	}
	w.wrong(404, "GET", "/v1/authorizers/wxunknown", "", "no such authorizer")
	w.wrong(404, "GET", "/v1/authorizers/%20", "", "no such authorizer")
	w.wrong(404, "GET", "/v1/authorizers/"+strings.Repeat("x", 5000), "", "no such authorizer")
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	empty := w.call(200, "GET", "/v1/authorizers", "")
	if text, _ := json.Marshal(empty); string(text) != `{"authorizers":[],"next_cursor":""}` {
		t.Errorf("an empty list as %s", text)
	}
	for i := range 10 {
		w.put("wx000"+strconv.Itoa(i), store.StateActive)
	}
	f := func(limit string, wantPages ...int) {
		t.Helper()
		cursor, seen := "", 0
		for i, want := range wantPages {
			page := w.call(200, "GET", "/v1/authorizers?limit="+limit+"&cursor="+cursor, "")
			list, _ := page["authorizers"].([]any)
			if len(list) != want {
				t.Errorf("limit %s: page %d has %d", limit, i, len(list))
			}
			for _, entry := range list {
				if id := object(entry.(map[string]any))["app_id"]; id != "wx000"+strconv.Itoa(seen) {
					t.Errorf("limit %s: %v is number %d", limit, id, seen)
				}
				seen++
			}
			cursor, _ = page["next_cursor"].(string)
			if last := i == len(wantPages)-1; last != (cursor == "") {
				t.Errorf("limit %s: page %d has cursor %q", limit, i, cursor)
			}
		}
	}
	f("", 10)
	f("1000", 10)
	f("10", 10) // exactly full: there is no further page
	f("5", 5, 5)
	f("4", 4, 4, 2)
	f("9", 9, 1)
	for _, limit := range []string{"0", "-1", "1001", "x", "1.5", "99999999999999999999", "%00"} {
		w.wrong(400, "GET", "/v1/authorizers?limit="+limit, "", "limit must be")
	}
	w.wrong(400, "GET", "/v1/authorizers?cursor=%2e%2e%2f", "", "cursor")
}

func TestMethodsAndPaths(t *testing.T) {
	w := newWorld(t)
	for path, allow := range map[string]string{
		"/v1/status":                      "GET, HEAD",
		"/v1/authorizers":                 "GET, HEAD, POST",
		"/v1/authorizers/sync":            "POST",
		"/v1/authorizers/wx1":             "DELETE, GET, HEAD",
		"/v1/authorizers/wx1/refresh":     "POST",
		"/v1/component/refresh":           "POST",
		"/v1/component/ticket":            "POST",
		"/v1/component/start-push-ticket": "POST",
		"/v1/component/clear-quota":       "POST",
		"/v1/reload":                      "POST",
		"/v1/authorization-link":          "POST",
		"/v1/deliveries":                  "GET, HEAD",
		"/v1/deliveries/dead":             "GET, HEAD",
		"/v1/deliveries/resend":           "POST",
		"/v1/deliveries/7":                "DELETE, GET, HEAD",
		"/v1/deliveries/7/resend":         "POST",
		"/v1/openapi.yaml":                "GET, HEAD",
		"/v1/openapi.json":                "GET, HEAD",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"} {
			if strings.Contains(" "+allow+",", " "+method+",") {
				continue
			}
			request := httptest.NewRequest(method, path, nil)
			request.Host = "localhost:9063"
			rec := w.do(w.api, request)
			if rec.Code != 405 || rec.Header().Get("Allow") != allow || rec.Header().Get("Content-Type") != "application/json" || !strings.HasPrefix(rec.Body.String(), `{"error":"`) {
				t.Errorf("%s %s: %d, Allow %q, %s", method, path, rec.Code, rec.Header().Get("Allow"), rec.Body)
			}
		}
	}
	for _, path := range []string{"/v1", "/v1/", "/v1/status/", "/v1/authorizers/", "/v1/authorizers/wx1/x", "/v2/status", "/v1/deliveries/7/x", "/v1/deliveries/", "/v1/openapi", "/metrics", "/wechat/events", "/v1/component"} {
		w.wrong(404, "GET", path, "", "nothing at this path")
		w.wrong(404, "POST", path, "", "nothing at this path")
	}
	request := httptest.NewRequest("HEAD", "/v1/status", nil)
	request.Host = "localhost"
	if rec := w.do(w.api, request); rec.Code != 200 {
		t.Errorf("HEAD: %d", rec.Code)
	}
}

func TestBodies(t *testing.T) {
	w := newWorld(t)
	long := `"` + strings.Repeat("x", maxBody) + `"`
	f := func(path, good, key string) {
		t.Helper()
		w.wrong(400, "POST", path, "", "it is empty")
		w.wrong(400, "POST", path, "{", "it is no JSON")
		w.wrong(400, "POST", path, "x", "it is no JSON")
		w.wrong(400, "POST", path, "[]", "it is no object")
		w.wrong(400, "POST", path, "null", "must be")
		w.wrong(400, "POST", path, "{}", "must be")
		w.wrong(400, "POST", path, `{"`+key+`":1}`, "the value of "+key)
		w.wrong(400, "POST", path, good+good, "more than one")
		w.wrong(400, "POST", path, good+"x", "no JSON")
		w.wrong(400, "POST", path, `{"secretkey":"x"}`, "a key that this operation does not know")
		w.wrong(413, "POST", path, `{"`+key+`":`+long+`}`, "too long")
		w.wrong(413, "POST", path, good+strings.Repeat(" ", maxBody), "too long")
	}
	f("/v1/component/ticket", `{"ticket":"ticket@@@x"}`, "ticket")
	f("/v1/authorizers", `{"app_id":"wx1","refresh_token":"refreshtoken@@@x"}`, "refresh_token")
	if _, err := w.store.Store.Component(context.Background(), component); !errors.Is(err, store.ErrNotFound) {
		t.Error("a refused ticket was stored")
	}
	for _, value := range []string{"", " x", "x\\n", "a b", "x\\u0000", strings.Repeat("x", maxSecret+1)} {
		w.wrong(400, "POST", "/v1/component/ticket", `{"ticket":"`+value+`"}`, "ticket must be")
		w.wrong(400, "POST", "/v1/authorizers", `{"app_id":"wx1","refresh_token":"`+value+`"}`, "refresh_token must be")
	}
	for _, appID := range []string{"", "wx 1", "../x", "wx/1", strings.Repeat("x", 65), "wx\\u0000"} {
		w.wrong(400, "POST", "/v1/authorizers", `{"app_id":"`+appID+`","refresh_token":"x"}`, "app_id must be")
	}
	w.wrong(400, "POST", "/v1/authorizers", `{"app_id":"`+component+`","refresh_token":"x"}`, "platform's own")
	w.wrong(409, "POST", "/v1/authorizers", `{"app_id":"`+direct+`","refresh_token":"x"}`, "direct account")
	if list := w.call(200, "GET", "/v1/authorizers", ""); len(list["authorizers"].([]any)) != 0 {
		t.Errorf("refused authorizers were stored: %v", list)
	}
}

func TestTicket(t *testing.T) {
	w := newWorld(t)
	w.wrong(503, "POST", "/v1/component/refresh", "", "ticket")
	ticket := w.sim.IssueTicket()
	c := w.call(200, "POST", "/v1/component/ticket", `{"ticket":"`+ticket+`"}`)
	if c.keys("") != "app_id ticket token" || c["app_id"] != component || time.Since(c.time(t, "ticket.received_at")) > time.Minute {
		t.Errorf("%v", c)
	}
	first := w.call(200, "POST", "/v1/component/refresh", "")
	second := w.call(200, "POST", "/v1/component/refresh", "")
	if first.at("token.generation") != 1.0 || second.at("token.generation") != 2.0 || second.at("token.state") != "fresh" {
		t.Errorf("%v then %v", first, second)
	}
	w.call(200, "POST", "/v1/component/ticket", `{"ticket":"`+ticket+`"}`) // a repeat is fine
	// WeChat's next push may carry this very second.
	if changed, err := w.service.ReceiveTicket(context.Background(), secret.New(w.sim.IssueTicket()), time.Now().Truncate(time.Second)); !changed || err != nil {
		t.Errorf("the next push was taken for older: %v", err)
	}
}

// A ticket that does not replace the stored one is not answered as if it did.
func TestTicketOlderThanTheStoredOne(t *testing.T) {
	w := newWorld(t)
	if _, err := w.store.Store.UpdateComponent(context.Background(), component, func(c *store.Component) error {
		c.Ticket = secret.New(w.sim.IssueTicket())
		c.TicketCreatedAt, c.TicketReceivedAt = time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	given := w.sim.IssueTicket()
	request := httptest.NewRequest("POST", "http://localhost/v1/component/ticket", strings.NewReader(`{"ticket":"`+given+`"}`))
	rec := w.do(w.api, request)
	c, err := w.store.Store.Component(context.Background(), component)
	if err != nil {
		t.Fatal(err)
	}
	if replaced := c.Ticket.Reveal() == given; replaced != (rec.Code == 200) || rec.Code != 200 && rec.Code != 409 {
		t.Errorf("%d, replaced: %v", rec.Code, replaced)
	}
}

func TestRefreshFailures(t *testing.T) {
	w := newWorld(t)
	w.give()
	fault := func(f wechattest.Fault) {
		w.sim.ClearFaults()
		f.Path = tokenPath
		w.sim.AddFault(f)
	}
	fault(wechattest.Fault{Kind: wechattest.FaultErrcode, Errcode: 40125})
	w.wrong(503, "POST", "/v1/component/refresh", "", "40125")
	fault(wechattest.Fault{Kind: wechattest.FaultErrcode, Errcode: 45009})
	w.wrong(503, "POST", "/v1/component/refresh", "", "45009")
	fault(wechattest.Fault{Kind: wechattest.FaultStatus})
	w.wrong(503, "POST", "/v1/component/refresh", "", "does not answer as it should")
	fault(wechattest.Fault{Kind: wechattest.FaultGarbage})
	w.wrong(503, "POST", "/v1/component/refresh", "", "does not answer as it should")
	w.sim.ClearFaults()
	// An operator's refresh is not held back by what failed before.
	if c := w.call(200, "POST", "/v1/component/refresh", ""); c.at("token.state") != "fresh" {
		t.Errorf("%v", c)
	}
}

func TestAuthorizers(t *testing.T) {
	w := newWorld(t)
	w.give()
	w.wrong(404, "POST", "/v1/authorizers/"+authorizer+"/refresh", "", "no such authorizer")
	w.wrong(404, "DELETE", "/v1/authorizers/"+authorizer, "", "no such authorizer")
	refreshToken := w.sim.AddAuthorizer(authorizer)
	put := w.call(200, "POST", "/v1/authorizers", `{"app_id":"`+authorizer+`","refresh_token":"`+refreshToken+`"}`)
	if put["app_id"] != authorizer || put["state"] != "active" || put["has_refresh_token"] != true || put.at("token.state") != "missing" || put["authorized_at"] == nil {
		t.Errorf("%v", put)
	}
	first := w.call(200, "POST", "/v1/authorizers/"+authorizer+"/refresh", "")
	second := w.call(200, "POST", "/v1/authorizers/"+authorizer+"/refresh", "")
	if a, b := first.at("token.generation").(float64), second.at("token.generation").(float64); b <= a || second.at("token.state") != "fresh" {
		t.Errorf("generation %v then %v", a, b)
	}
	if _, err := w.service.Token(context.Background(), tokens.Key{Kind: tokens.Authorizer, AppID: authorizer}); err != nil {
		t.Error(err)
	}
	gone := w.call(200, "DELETE", "/v1/authorizers/"+authorizer, "")
	if gone["app_id"] != authorizer || gone.keys("") != first.keys("") {
		t.Errorf("%v", gone)
	}
	w.wrong(404, "GET", "/v1/authorizers/"+authorizer, "", "no such authorizer")
	w.wrong(404, "DELETE", "/v1/authorizers/"+authorizer, "", "no such authorizer")
	if _, err := w.service.Token(context.Background(), tokens.Key{Kind: tokens.Authorizer, AppID: authorizer}); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("a deleted authorizer's token: %v", err)
	}

	// A refresh token that WeChat refuses, though its list has no other.
	w.call(200, "POST", "/v1/authorizers", `{"app_id":"`+authorizer+`","refresh_token":"`+w.sim.AddAuthorizer(authorizer)+`"}`)
	w.sim.AddFault(wechattest.Fault{Path: "/cgi-bin/component/api_authorizer_token", Kind: wechattest.FaultErrcode, Errcode: 61023, Times: 1})
	rec := w.call(409, "POST", "/v1/authorizers/"+authorizer+"/refresh", "")
	if text, _ := rec["error"].(string); !strings.Contains(text, "authorize") {
		t.Errorf("%v", rec)
	}
	w.put("wxended", store.StateUnauthorized)
	w.call(409, "POST", "/v1/authorizers/wxended/refresh", "")

	// WeChat's list knows one account more.
	w.sim.AddAuthorizer("wx00000000000000aa")
	learned := w.call(200, "POST", "/v1/authorizers/sync", "")
	if len(learned) != 4 || learned["total"] != 2.0 || learned["added"] != 1.0 || learned["updated"] != 0.0 || learned["without_refresh_token"] != 0.0 {
		t.Errorf("%v", learned)
	}
	w.call(200, "POST", "/v1/authorizers/wx00000000000000aa/refresh", "")
}

func TestComponentOperations(t *testing.T) {
	w := newWorld(t)
	w.sim.SetTicketPush(false)
	for _, want := range []string{"ok", "in a normal state"} {
		c := w.call(200, "POST", "/v1/component/start-push-ticket", "")
		if text, _ := c["errmsg"].(string); !strings.HasPrefix(text, want) || c["app_id"] != component {
			t.Errorf("%v, want %s", c, want)
		}
	}
	if c := w.call(200, "POST", "/v1/component/clear-quota", ""); c["app_id"] != component {
		t.Errorf("%v", c)
	}
	w.sim.AddFault(wechattest.Fault{Path: "/cgi-bin/component/*", Kind: wechattest.FaultErrcode, Errcode: 48006})
	w.wrong(502, "POST", "/v1/component/start-push-ticket", "", "48006")
	w.wrong(502, "POST", "/v1/component/clear-quota", "", "48006")
	w.sim.ClearFaults()
	w.sim.AddFault(wechattest.Fault{Path: "/cgi-bin/component/*", Kind: wechattest.FaultCut})
	w.wrong(502, "POST", "/v1/component/start-push-ticket", "", "does not answer as it should")
	w.wrong(502, "POST", "/v1/component/clear-quota", "", "does not answer as it should")
}

func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	w.put(authorizer, store.StateActive)
	w.store.fail(errors.New("disk on fire"))
	for _, c := range [][3]string{
		{"GET", "/v1/authorizers"}, {"GET", "/v1/authorizers/" + authorizer}, {"DELETE", "/v1/authorizers/" + authorizer},
		{"POST", "/v1/authorizers/" + authorizer + "/refresh"}, {"POST", "/v1/component/refresh"},
		{"POST", "/v1/component/ticket", `{"ticket":"x"}`}, {"POST", "/v1/authorizers", `{"app_id":"wx1","refresh_token":"x"}`},
	} {
		w.wrong(503, c[0], c[1], c[2], "store does not work")
	}
	if strings.Contains(w.said.String(), "disk on fire") {
		t.Error("an answer quotes the store")
	}
	if !strings.Contains(w.log.String(), "disk on fire") {
		t.Error("the log does not say what failed")
	}
}

func TestReload(t *testing.T) {
	w := newWorld(t)
	if s := w.call(200, "POST", "/v1/reload", ""); s["version"] != "v1" {
		t.Errorf("%v", s)
	}
	w.reload = errors.New("config.yaml:3:1: upstream.timeout: is no duration\nconfig.yaml:4:1: <x>: is unknown")
	w.wrong(422, "POST", "/v1/reload", "", "upstream.timeout: is no duration\nconfig.yaml:4:1: <x>")
}

func TestAnswersAreNotForPages(t *testing.T) {
	w := newWorld(t)
	rec := w.do(w.api, httptest.NewRequest("GET", "http://localhost/v1/status", nil))
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": ""} {
		if got := rec.Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
