package e2e

import (
	"fmt"
	"strings"
	"testing"

	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/wechat/wechattest"
)

// A platform on WxJava moves to lingpai: what lies in its Redis is imported and
// served. No merchant authorizes again, and not even a token is refreshed.
func TestMoveFromWxJava(t *testing.T) {
	const authorizers = 50
	w := newWeChat(t, nil)
	old := redistest.Start(t)
	set := func(key, value, ttl string) { old.Must("SET wx:open:" + key + " " + value + ttl) }
	issue := func(kind wechattest.TokenKind, app string) string {
		value, err := w.IssueToken(kind, app)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	const platform = wechattest.DefaultComponentAppID
	ticket := w.IssueTicket()
	set("wechat_component_verify_ticket:"+platform, ticket, " EX 2147483647")
	set("wechat_component_access_token:"+platform, issue(wechattest.KindComponent, platform), " EX 7000")
	for i := range authorizers {
		set(fmt.Sprintf("wechat_authorizer_refresh_token:%s:%s", platform, appID(i)), w.AddAuthorizer(appID(i)), "")
		set(fmt.Sprintf("wechat_authorizer_access_token:%s:%s", platform, appID(i)), issue(wechattest.KindAuthorizer, appID(i)), " EX 7000")
	}

	s := newSidecar(t, w, binaries.race, "")
	var printed strings.Builder
	run := func(args ...string) {
		t.Helper()
		command := s.program("import", append([]string{"-from", "wxjava", "-redis-url", old.URL()}, args...)...)
		out, err := command.CombinedOutput()
		printed.Write(out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run()         // only looks
	run("-write") // takes over
	run("-write") // and once more, which changes nothing
	s.serve()
	for i := range authorizers {
		if !s.usable(appID(i)) {
			t.Errorf("%s is not served", appID(i))
		}
	}
	w.want(t, "/cgi-bin/component/api_query_auth", "", 0)
	w.want(t, componentPath, "", 0)
	w.want(t, authorizerPath, "", 0)
	// The refresh tokens and the ticket are good too.
	w.RevokeAll()
	for i := range authorizers {
		if !s.usable(appID(i)) {
			t.Errorf("%s cannot be refreshed", appID(i))
		}
	}
	w.want(t, "/cgi-bin/component/api_query_auth", "", 0)
	w.want(t, componentPath, "", 1)
	if n := w.Executed(authorizerPath); n != authorizers { // one more met the dead token of the platform
		t.Errorf("%d refreshes, want %d", n, authorizers)
	}
	for _, secret := range w.Secrets() {
		if len(secret) >= 8 && strings.Contains(printed.String(), secret) {
			t.Error("import printed a secret")
		}
	}
	t.Log(tail(printed.String()))
}
