package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// screenshotsEnv names the folder that pictures of all pages are written to, if
// somebody wants to look at them.
const screenshotsEnv = "LINGPAI_SCREENSHOTS"

// What the scripts do, in this order.
const (
	visitSteps = "authorize on_a_phone again_with_the_same_permissions again_with_fewer_permissions cancel back_from_login back_from_result " +
		"double_submit result_in_two_tabs expired_button expired_code return_to return_without_consent return_to_a_stranger " +
		"event_first_same event_first_different redirect_first_same redirect_first_different event_late_same event_late_different " +
		"event_twice_same event_twice_different event_held_same event_held_different event_lost_same event_lost_different " +
		"redirect_lost_same redirect_lost_different nothing_twice"
	pageSteps = "not_ready offer offer/one_account offer/over ask_first login/simulator cancelled/simulator error/simulator done " +
		"done/without_permissions other_account cancelled expired forged spent ended bad_link bad_return embedded busy unreachable " +
		"too_many quota unconfigured" // the last two have WeChat left alone for a while
)

// TestBrowserVisits has administrators authorize, with clicks in a real browser
// on the pages of lingpai and the simulator. Nothing that a page shows is secret,
// no browser's console complains, and nothing leaves the machine.
func TestBrowserVisits(t *testing.T) {
	t.Parallel() // with TestBrowserPages, after all that measure
	b := newBrowserTest(t)
	t.Run("browser of today", func(t *testing.T) { b.run(t, "visits.mjs", false, visitSteps) })
	t.Run("browser of before 2023", func(t *testing.T) { b.run(t, "visits.mjs", true, "authorize double_submit return_to nothing_twice") })
}

// TestBrowserPages looks at every page in every shape, see browser/pages.mjs.
func TestBrowserPages(t *testing.T) {
	t.Parallel()
	newBrowserTest(t).run(t, "pages.mjs", false, pageSteps)
}

// browserTest is what is installed once.
type browserTest struct {
	chromium, scripts string
}

func newBrowserTest(t *testing.T) browserTest {
	t.Helper()
	const how = "install Node.js 20 or later, with npm (Debian: apt-get install nodejs npm)"
	need(t, "node", how)
	npm := need(t, "npm", how)
	b := browserTest{scripts: t.TempDir()}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			b.chromium = path
			break
		}
	}
	if b.chromium == "" {
		unavailable(t, "chromium is not installed: install Chromium or Chrome (Debian: apt-get install chromium)")
	}
	if err := os.CopyFS(b.scripts, os.DirFS("browser")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "ci")
	install.Dir = b.scripts
	if out, err := install.CombinedOutput(); err != nil {
		unavailable(t, fmt.Sprintf("npm ci: %v: the packages of browser/package-lock.json are needed once\n%s", err, tail(string(out))))
	}
	return b
}

// run has a script do its steps against a sidecar. An old browser does not say
// what it asks for.
func (b browserTest) run(t *testing.T, script string, old bool, steps string) {
	w := newWeChat(t, func(k *wechattest.Knobs) { k.TokenLatency = 0 })
	s := newSidecar(t, w, binaries.race, "")
	secret := filepath.Join(s.dir, "return-secret")
	if err := os.WriteFile(secret, []byte("what-signs-the-results"), 0o600); err != nil {
		t.Fatal(err)
	}
	var home atomic.Value // address of the pages
	app := httptest.NewServer(appPage("what-signs-the-results", &home))
	t.Cleanup(app.Close)
	s.serve()
	silent := httptest.NewServer(withoutFetchMetadata(s.events))
	t.Cleanup(silent.Close)
	home.Store(s.events)
	if old {
		home.Store(silent.URL)
	}
	// The port of the pages is known only now. Visitors have addresses of their
	// own since visits are limited for each.
	s.extra = fmt.Sprintf("callback: {public_url: %q, login_url: %q, return_urls: [%q], return_secret: %q, trusted_proxies: [127.0.0.1]}",
		home.Load(), w.url, app.URL+"/", "file:"+secret)
	s.program("check") // which writes the file
	s.post("/v1/reload", "")
	if script != "pages.mjs" { // which shows what is there without one, first
		s.pushTicket()
	}

	env := map[string]string{
		"CHROMIUM": b.chromium, "LINGPAI": home.Load().(string), "SILENT": silent.URL, "PROXY": s.proxy, "WECHAT": w.url, "APP": app.URL,
		"APP_SECRET": wechattest.DefaultComponentAppSecret, "SCREENSHOTS": os.Getenv(screenshotsEnv), "STEPS": steps,
	}
	seen := runScript(t, env, append(strings.Fields(steps), "watch"), "node", filepath.Join(b.scripts, script))
	if n := strings.Count(seen, "<!DOCTYPE html>"); n < 3 {
		t.Errorf("the sources of only %d pages were kept", n)
	}
	for _, secret := range w.Secrets() {
		// The button's link has to hold its visitor's pre_auth_code. What follows the
		// @@@ of the others needs no escapes, wherever it is.
		kind, own, found := strings.Cut(secret, "@@@")
		if !found {
			own = secret
		}
		if kind != "preauthcode" && strings.Contains(seen, own) {
			t.Errorf("a secret of %d characters that begins with %.12q is in a page", len(secret), secret)
		}
	}
	for _, violation := range w.Violations() {
		t.Errorf("WeChat objects: %s", violation)
	}
}

// withoutFetchMetadata passes on what a browser sends, without what no browser of
// before 2023 did.
func withoutFetchMetadata(target string) http.Handler {
	to, err := url.Parse(target)
	if err != nil {
		panic(err) // an address of the harness
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		for name := range r.Out.Header {
			if strings.HasPrefix(name, "Sec-") {
				r.Out.Header.Del(name)
			}
		}
	}}
}

// appPage is a page of an app: it has a link to the pages at home, and checks what
// they come back with as the package comment of proxy/authorize says.
func appPage(secret string, home *atomic.Value) http.Handler {
	page := template.Must(template.New("").Parse(`<!DOCTYPE html><title>app</title><body data-page="app">
{{if .Link}}<a href="{{.Link}}">authorize</a>{{else}}<main>{{.Says}}</main>{{end}}`))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		var view struct{ Link, Says string }
		if !q.Has("signature") {
			view.Link = home.Load().(string) + "/authorize?" + url.Values{"return_to": {"http://" + r.Host + "/back"}, "state": {q.Get("state")}}.Encode()
		} else {
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(strings.Join([]string{q.Get("timestamp"), q.Get("app_id"), q.Get("result"), q.Get("state")}, "\n")))
			sent, _ := strconv.ParseInt(q.Get("timestamp"), 10, 64)
			view.Says = "forged"
			if q.Get("signature") == hex.EncodeToString(mac.Sum(nil)) && time.Since(time.Unix(sent, 0)).Abs() < 5*time.Minute {
				view.Says = strings.Join([]string{"signed", q.Get("result"), q.Get("app_id"), q.Get("state")}, ";")
			}
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		page.Execute(w, view)
	})
}
