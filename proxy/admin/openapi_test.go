package admin

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lingpai/tokens"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat/wechattest"
)

const (
	codePath  = "/cgi-bin/component/api_create_preauthcode"
	listPath  = "/cgi-bin/component/api_get_authorizer_list"
	tokenOf   = "/cgi-bin/component/api_authorizer_token"
	startPath = "/cgi-bin/component/api_start_push_ticket"
	redirect  = `{"redirect_uri":"https://wx.example.com/done"}`
	ticket    = `{"ticket":"ticket@@@x"}`
	newOne    = `{"app_id":"wx1","refresh_token":"refreshtoken@@@x"}`
)

// TestEveryAnswerIsDescribedAndSeen brings about each status of each operation
// that is described; that the answers are as described is checked where they
// are asked for.
func TestEveryAnswerIsDescribedAndSeen(t *testing.T) {
	long := strings.Repeat(" ", maxBody+1)
	seen := map[string]bool{}
	in := func(w *world, fn func(call func(want int, method, path, body string))) {
		t.Helper()
		fn(func(want int, method, path, body string) {
			t.Helper()
			w.call(want, method, path, body)
		})
		for what := range w.seen {
			seen[what] = true
		}
	}

	w := newWorld(t)
	in(w, func(call func(int, string, string, string)) { // all is well
		call(503, "POST", "/v1/authorizers/sync", "") // no ticket yet
		call(503, "POST", "/v1/component/refresh", "")
		call(503, "POST", "/v1/authorization-link", redirect)
		call(200, "POST", "/v1/component/ticket", `{"ticket":"`+w.sim.IssueTicket()+`"}`)
		call(200, "POST", "/v1/component/refresh", "")
		call(200, "POST", "/v1/component/start-push-ticket", "")
		call(200, "POST", "/v1/component/clear-quota", "")
		call(200, "POST", "/v1/authorization-link", "")
		call(200, "POST", "/v1/authorizers", `{"app_id":"`+authorizer+`","refresh_token":"`+w.sim.AddAuthorizer(authorizer)+`"}`)
		call(200, "GET", "/v1/authorizers", "")
		call(200, "GET", "/v1/authorizers/"+authorizer, "")
		call(200, "POST", "/v1/authorizers/"+authorizer+"/refresh", "")
		call(200, "POST", "/v1/authorizers/sync", "")
		call(200, "GET", "/v1/status", "")
		call(200, "POST", "/v1/reload", "")
		call(200, "GET", "/v1/openapi.json", "")
		w.do(w.api, httptest.NewRequest("GET", "http://localhost/v1/openapi.yaml", nil))
		first, second := w.dead("orders", 1), w.dead("crm", 2)
		call(200, "GET", "/v1/deliveries", "")
		call(200, "GET", "/v1/deliveries/dead", "")
		call(200, "GET", "/v1/deliveries/"+first, "")
		call(200, "GET", "/v1/deliveries/"+second, "")
		call(200, "POST", "/v1/deliveries/"+first+"/resend", "")
		call(200, "DELETE", "/v1/deliveries/"+second, "")
		call(200, "POST", "/v1/deliveries/resend", `{"target":"orders"}`)
		w.put("wxgoes", store.StateActive)
		call(200, "DELETE", "/v1/authorizers/wxgoes", "")

		call(400, "GET", "/v1/authorizers?limit=0", "")
		call(400, "GET", "/v1/deliveries/dead?limit=0", "")
		for path, body := range map[string]string{"/v1/authorizers": newOne, "/v1/component/ticket": ticket, "/v1/authorization-link": redirect, "/v1/deliveries/resend": `{"target":"orders"}`} {
			call(400, "POST", path, "x"+body)
			call(413, "POST", path, body+long)
		}
		call(404, "GET", "/v1/authorizers/wx404", "")
		call(404, "DELETE", "/v1/authorizers/wx404", "")
		call(404, "POST", "/v1/authorizers/wx404/refresh", "")
		call(404, "GET", "/v1/deliveries/404", "")
		call(404, "DELETE", "/v1/deliveries/404", "")
		call(404, "POST", "/v1/deliveries/404/resend", "")
		call(409, "POST", "/v1/deliveries/resend", `{"target":"gone"}`)
		call(409, "POST", "/v1/deliveries/"+w.dead("gone", 3)+"/resend", "")
		call(409, "GET", "/v1/deliveries/"+w.deadWith("crm", 4, "<xml><unfinished>"), "")
		w.put("wxended", store.StateUnauthorized)
		call(409, "POST", "/v1/authorizers/wxended/refresh", "")
		w.reload = errors.New("config.yaml:3:1: upstream.timeout: is no duration")
		call(422, "POST", "/v1/reload", "")

		for _, path := range []string{codePath, listPath, startPath, "/cgi-bin/component/clear_quota/v2"} {
			w.sim.AddFault(wechattest.Fault{Path: path, Kind: wechattest.FaultErrcode, Errcode: 48006})
		}
		call(502, "POST", "/v1/authorization-link", redirect)
		call(502, "POST", "/v1/authorizers/sync", "")
		call(502, "POST", "/v1/component/start-push-ticket", "")
		call(502, "POST", "/v1/component/clear-quota", "")
		w.sim.ClearFaults()
		// What goes on after these may answer a later call of the same.
		w.leaving(504, "POST", "/v1/component/refresh", "", tokenPath)
		w.call(200, "POST", "/v1/component/refresh", "") // joins the flight that goes on
		w.leaving(504, "POST", "/v1/authorizers/"+authorizer+"/refresh", "", tokenOf)
		w.leaving(504, "POST", "/v1/authorizers/sync", "", listPath)

		for path, item := range describedAPI().Paths {
			for method := range item.operations() {
				request := httptest.NewRequest(method, concrete(path), nil)
				request.Host = "evil.example"
				if rec := w.do(w.api, request); rec.Code != 403 {
					t.Errorf("%s %s: %d", method, path, rec.Code)
				}
			}
		}

		w.store.fail(errors.New("disk on fire"))
		for _, c := range [][3]string{
			{"GET", "/v1/authorizers"}, {"GET", "/v1/authorizers/" + authorizer}, {"DELETE", "/v1/authorizers/" + authorizer},
			{"POST", "/v1/authorizers/" + authorizer + "/refresh"}, {"POST", "/v1/authorizers", newOne}, {"POST", "/v1/component/ticket", ticket},
			{"POST", "/v1/component/start-push-ticket"}, {"POST", "/v1/component/clear-quota"},
			{"GET", "/v1/deliveries"}, {"GET", "/v1/deliveries/dead"}, {"GET", "/v1/deliveries/1"}, {"DELETE", "/v1/deliveries/1"},
			{"POST", "/v1/deliveries/1/resend"}, {"POST", "/v1/deliveries/resend", `{"target":"orders"}`},
		} {
			call(503, c[0], c[1], c[2])
		}
		call(200, "GET", "/v1/status", "")
	})

	w = newWorld(t)
	w.give()
	in(w, func(func(int, string, string, string)) {
		w.leaving(504, "POST", "/v1/authorization-link", redirect, tokenPath)
	})

	w = newWorld(t, withoutComponent)
	w.api = w.apiWith(Info{})
	in(w, func(call func(int, string, string, string)) {
		for path, body := range map[string]string{
			"/v1/authorizers/sync": "", "/v1/authorizers": newOne, "/v1/authorization-link": redirect, "/v1/component/refresh": "",
			"/v1/component/ticket": ticket, "/v1/component/start-push-ticket": "", "/v1/component/clear-quota": "",
		} {
			call(409, "POST", path, body)
		}
		call(200, "GET", "/v1/status", "")
		call(200, "GET", "/v1/deliveries", "")
		call(404, "GET", "/v1/deliveries/dead", "")
		call(404, "POST", "/v1/deliveries/resend", `{"target":"orders"}`)
	})

	w = newWorld(t, func(c *tokens.Config) { c.Follower = true })
	in(w, func(call func(int, string, string, string)) {
		w.put(authorizer, store.StateActive)
		call(409, "DELETE", "/v1/authorizers/"+authorizer, "")
		for path, body := range map[string]string{
			"/v1/authorizers/sync": "", "/v1/authorizers": newOne, "/v1/authorization-link": redirect, "/v1/component/refresh": "",
			"/v1/component/ticket": ticket, "/v1/component/start-push-ticket": "", "/v1/component/clear-quota": "",
			"/v1/authorizers/" + authorizer + "/refresh": "",
		} {
			call(409, "POST", path, body)
		}
	})

	for path, item := range describedAPI().Paths {
		for method, o := range item.operations() {
			for status := range o.Responses {
				if !seen[o.OperationID+" "+status] {
					t.Errorf("%s %s: nothing here brings about the %s that is described", method, path, status)
				}
			}
		}
	}
}

// TestRequestBodiesAreDescribed: the schemas let through what the handlers take,
// and no body that they refuse for its form.
func TestRequestBodiesAreDescribed(t *testing.T) {
	w := newWorld(t)
	w.give()
	w.dead("orders", 1)
	f := func(path string, want int, bodies ...string) {
		t.Helper()
		media := describedAPI().Paths[path].Post.RequestBody.Content["application/json"]
		for _, body := range bodies {
			w.call(want, "POST", path, body)
			if err := describedAPI().validate(media, []byte(body)); (err == nil) != (want == 200) {
				t.Errorf("%s: %d, but by the schema: %v", body, want, err)
			}
		}
	}
	f("/v1/component/ticket", 200, ticket)
	f("/v1/component/ticket", 400, `{}`, `[]`, `{"ticket":""}`, `{"ticket":1}`, `{"ticket":"x","x":1}`, `{"ticket":"`+strings.Repeat("x", maxSecret+1)+`"}`)
	f("/v1/authorizers", 200, newOne)
	f("/v1/authorizers", 400, `{}`, `{"app_id":"wx1"}`, `{"refresh_token":"x"}`, `{"app_id":"wx 1","refresh_token":"x"}`, `{"app_id":"wx1","refresh_token":""}`)
	f("/v1/authorization-link", 200, `{}`, redirect, `{"auth_type":1}`, `{"auth_type":8,"biz_appid":"wx1","category_id_list":"1|2"}`, `{"auth_type":null,"biz_appid":"","category_id_list":""}`)
	f("/v1/authorization-link", 400, `[]`, `{"auth_type":7}`, `{"auth_type":"3"}`, `{"biz_appid":"wx 1"}`, `{"category_id_list":"1,2"}`, `{"x":1}`, `{"redirect_uri":"/done"}`)
	f("/v1/deliveries/resend", 200, `{"target":"orders"}`)
	f("/v1/deliveries/resend", 400, `{}`, `{"target":""}`, `{"target":1}`, `{"target":"orders","x":1}`)
}

// TestParametersAreDescribed: the queries that handlers know are those described.
func TestParametersAreDescribed(t *testing.T) {
	for id, want := range map[string][]string{"/v1/authorizers": {"cursor", "limit"}, "/v1/deliveries/dead": {"cursor", "limit", "target"}} {
		var got []string
		for _, p := range describedAPI().Paths[id].Get.Parameters {
			got = append(got, p.Name)
			if p.Name == "limit" {
				text, _ := json.Marshal(p.Schema)
				var limit struct{ Minimum, Maximum, Default int }
				if json.Unmarshal(text, &limit); limit.Minimum != 1 || limit.Maximum != maxPage || limit.Default != defaultPage {
					t.Errorf("%s: limit %s", id, text)
				}
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
}

func TestDescriptionIsServed(t *testing.T) {
	w := newWorld(t)
	get := func(path, wantType string) []byte {
		t.Helper()
		rec := w.do(w.api, httptest.NewRequest("GET", "http://localhost"+path, nil))
		if rec.Code != 200 || rec.Header().Get("Content-Type") != wantType {
			t.Errorf("%s: %d %v", path, rec.Code, rec.Header())
		}
		return rec.Body.Bytes()
	}
	if text := get("/v1/openapi.yaml", "application/yaml"); !reflect.DeepEqual(text, openAPI) {
		t.Errorf("%.100s", text)
	}
	var asJSON struct{ Paths map[string]any }
	if err := json.Unmarshal(get("/v1/openapi.json", "application/json"), &asJSON); err != nil || len(asJSON.Paths) != len(describedAPI().Paths) {
		t.Errorf("%d paths, %v", len(asJSON.Paths), err)
	}
}
