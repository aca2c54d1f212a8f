package wechattest

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// console sends a form of the console.
func (b *browser) console(form ...string) seen {
	b.t.Helper()
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	resp, err := b.client.PostForm(b.url+ConsolePath, values)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return seen{resp.Header.Get(PageHeader), string(body), "", resp.StatusCode}
}

func TestConsole(t *testing.T) {
	b := newBrowser(t)
	good := func(says string, form ...string) {
		t.Helper()
		if got := b.console(form...); got.page != "console" || !strings.Contains(got.body, `data-ok="true"`) || !strings.Contains(got.body, says) {
			t.Errorf("%v: %s", form, got.body)
		}
	}
	bad := func(says string, form ...string) {
		t.Helper()
		if got := b.console(form...); !strings.Contains(got.body, `data-ok="false"`) || !strings.Contains(got.body, says) {
			t.Errorf("%v: %s", form, got.body)
		}
	}
	kinds := func() string {
		var out []string
		for _, p := range b.s.Pushes() {
			out = append(out, p.Kind)
		}
		return strings.Join(out, " ")
	}
	if got := b.visit(ConsolePath, ""); got.page != "console" || !strings.Contains(got.body, "Simulated by lingpai") || strings.Contains(got.body, `id="result"`) {
		t.Errorf("%q %s", got.page, got.body)
	}
	if got := b.do(mustRequest(t, "PUT", b.url+ConsolePath)); got.status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", got.status)
	}
	good("", "do", "ticket")
	good("", "do", "order", "push_order", OrderEventHeld, "redirect_code", CodeDifferent)
	if k := b.s.Knobs(); k.PushOrder != OrderEventHeld || k.RedirectCode != CodeDifferent {
		t.Errorf("knobs %+v", k)
	}
	bad("push_order", "do", "order", "push_order", "x", "redirect_code", CodeSame)

	first, second := openPage(t, b.s, b.code()), openPage(t, b.s, b.code())
	if got := b.visit(ConsolePath, ""); !strings.Contains(got.body, `data-login="`+first+`"`) {
		t.Errorf("no pending page: %s", got.body)
	}
	good("auth_code=", "do", "confirm", "login", first, "app_id", officialOne)
	good(`<span>authorized `+officialOne, "do", "cancel", "login", second)
	bad(RefusedUsedCode, "do", "cancel", "login", second)
	good("authorized", "do", "release", "id", "1")
	bad("no such held event", "do", "release", "id", "1")
	good("", "do", "order", "push_order", OrderEventFirst, "redirect_code", CodeSame)
	good("queryauthcode", "do", "update", "app_id", officialOne, "scopes", "3, 4，5")
	if st := b.s.State().Authorizers; len(st) != 1 || !sameScopes(st[0].Scopes, []int{3, 4, 5}) {
		t.Errorf("authorizers %+v", st)
	}
	bad("no permission set", "do", "update", "app_id", officialOne, "scopes", "1;2")
	good(`data-authorized="false"`, "do", "unauthorize", "app_id", officialOne)
	bad("not authorized", "do", "unauthorize", "app_id", officialOne)
	good("hello", "do", "message", "app_id", officialOne, "text", "hello")
	bad("pair must be", "do", "release-test", "pair", "9")
	bad("no such form", "do", "x")
	if got, want := kinds(), "component_verify_ticket authorized updateauthorized unauthorized message"; got != want {
		t.Errorf("pushes %s, want %s", got, want)
	}
	// What was typed is text, and the page is not in the journal.
	bad("&lt;script&gt;", "do", "update", "app_id", "<script>", "scopes", "1")
	if n := b.s.Count(ConsolePath); n != 0 {
		t.Errorf("%d calls", n)
	}
	for range shownAuthorizers + 2 {
		b.s.AddAuthorizer("wx" + b.s.values.hex(16))
	}
	if got := b.visit(ConsolePath, ""); !strings.Contains(got.body, "and 3 more") {
		t.Error("the list has no end")
	}
}
