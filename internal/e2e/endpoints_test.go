package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"lingpai/proxy/route"
)

// TestEveryEndpoint calls every row of the endpoint table through the program:
// the token of the right kind arrives under the right name, once, and the rest
// of the query byte for byte.
func TestEveryEndpoint(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "default_app_id: "+appID(0))
	s.addAuthorizers(1)
	s.pushTicket()
	// Awkward on purpose: odd escapes, an empty part, a repeated name.
	const rest = "a=1&b=%e4%bd%a0+x&&c=a%2Fb/c&a=2&=v&q"
	userToken, _ := w.IssueUserToken(directAppID, "code-1")
	rows := route.Endpoints()
	if len(rows) < 1344 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		w.ResetCalls()
		query := "access_token=lingpai-authorizer-" + appID(0) + "&" + rest + "&component_access_token="
		if row.Rule.Token == route.User {
			query = rest + "&access_token=" + url.QueryEscape(userToken)
		}
		request, err := http.NewRequest(row.Method, s.proxy+row.Path+"?"+query, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if row.Rule.Token == route.Either {
			// Without a placeholder no account is named, and it is the platform's.
			request.URL.RawQuery = rest
		}
		response, err := s.client.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", row.Path, err)
		}
		response.Body.Close()
		calls := w.CallsTo(row.Path)
		rule, _ := route.Builtin().Find([]byte(row.Path))
		if rule.Work >= route.AnswerToken && rule.Work <= route.AnswerAuthorizerToken {
			// Answered here: an app never gets a token.
			if response.StatusCode != 200 || len(calls) > 1 || len(calls) == 1 && calls[0].RawQuery != "" {
				t.Errorf("%s: status %d, %d calls", row.Path, response.StatusCode, len(calls))
			}
			continue
		}
		if len(calls) != 1 {
			t.Errorf("%s %s: reached WeChat %d times, status %d", row.Method, row.Path, len(calls), response.StatusCode)
			continue
		}
		call := calls[0]
		wantKind, wantApp := "", ""
		switch row.Rule.Token {
		case route.Component, route.Either:
			wantKind, wantApp = "component", "wx0123456789abcdef"
		case route.Authorizer:
			wantKind, wantApp = "authorizer", appID(0)
		case route.User:
			wantKind, wantApp = "user", directAppID
		}
		if string(call.TokenKind) != wantKind || call.TokenAppID != wantApp {
			t.Errorf("%s: token %q of %q, want %q of %q", row.Path, call.TokenKind, call.TokenAppID, wantKind, wantApp)
		}
		got := call.RawQuery
		switch {
		case row.Rule.Token == route.None:
			if got != rest {
				t.Errorf("%s: query %q, want %q", row.Path, got, rest)
			}
			continue
		case row.Rule.Token == route.User:
			if got != query {
				t.Errorf("%s: query %q, want %q", row.Path, got, query)
			}
			continue
		}
		filled := ""
		if rule.Work == route.FillComponentAppID {
			filled = "component_appid=wx0123456789abcdef&" // it was missing
		}
		name, found := strings.CutPrefix(got, rest+"&"+filled)
		if !found || !strings.HasPrefix(name, row.Rule.Param.String()+"=") {
			t.Errorf("%s: query does not end in %s after %q", row.Path, row.Rule.Param, rest)
		}
		if n := strings.Count(got, "access_token="); n != 1 {
			t.Errorf("%s: %d tokens", row.Path, n)
		}
	}
	// An Either path with an account named.
	w.ResetCalls()
	if _, err := s.call("POST", "/cgi-bin/openapi/quota/get?"+rest, appID(0), []byte(`{"cgi_path":"/x"}`)); err != nil {
		t.Fatal(err)
	}
	if call := w.CallsTo("/cgi-bin/openapi/quota/get")[0]; string(call.TokenKind) != "authorizer" {
		t.Errorf("token %q, want the account's", call.TokenKind)
	}
	// A direct account on a path where an authorizer's token would go.
	w.ResetCalls()
	if _, err := s.call("GET", "/cgi-bin/menu/get?"+rest, directAppID, nil); err != nil {
		t.Fatal(err)
	}
	if call := w.CallsTo("/cgi-bin/menu/get")[0]; string(call.TokenKind) != "account" || call.TokenAppID != directAppID {
		t.Errorf("token %q of %q, want the direct account's", call.TokenKind, call.TokenAppID)
	}
}
