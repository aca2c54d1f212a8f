package authorize

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/internal/dom"
	"lingpai/tokens"
	"lingpai/tokens/secret"
)

const (
	component   = "wx0123456789abcdef"
	shop        = "wx1111222233334444"
	otherShop   = "wx9999888877776666"
	preAuthCode = "preauthcode@@@sEcReT-preauth"
	authCode    = "queryauthcode@@@sEcReT-auth"
	returnTo    = "https://app.example.com/wechat/callback?tenant=7"
	appState    = "opaque & 状态=1"
)

// fake is a Platform that answers as it is told to.
type fake struct {
	mu         sync.Mutex
	none       bool // no platform is configured
	codeErr    error
	spendErr   error
	authorized tokens.Authorized
	codes      int
	spent      []string
	links      []tokens.Link
}

func (f *fake) ComponentKey() (tokens.Key, bool) {
	return tokens.Key{Kind: tokens.Component, AppID: component}, !f.none
}

func (f *fake) PreAuthCode(context.Context) (secret.String, time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.codes++
	return secret.New(preAuthCode), 30 * time.Minute, f.codeErr
}

func (f *fake) Authorize(_ context.Context, code secret.String, link tokens.Link) (tokens.Authorized, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spent, f.links = append(f.spent, code.Reveal()), append(f.links, link)
	return f.authorized, f.spendErr
}

// site is a Handler and what it stands on.
type site struct {
	*Handler
	t    *testing.T
	fake *fake
	log  *bytes.Buffer
	conf Config
}

func newSite(t *testing.T, change func(*Config)) *site {
	s := &site{t: t, fake: &fake{authorized: tokens.Authorized{AppID: shop, Name: "阳光花店", Scopes: []int{1, 18, 99}}}, log: &bytes.Buffer{}}
	s.conf = Config{
		PublicURL:    "https://wx.example.com",
		ReturnURLs:   []string{"https://app.example.com/wechat", "http://localhost:8080"},
		ReturnSecret: secret.New("sEcReT-return"),
		StateSecret:  secret.New("sEcReT-state"),
	}
	if change != nil {
		change(&s.conf)
	}
	h, err := New(s.conf, s.fake, slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	s.Handler = h
	return s
}

// browser are the fields of a navigation.
var browser = map[string]string{
	"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none",
	"Accept-Language": "en", "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/130",
}

type answer struct {
	*httptest.ResponseRecorder
	t    *testing.T
	body string
}

// visit asks for a page as a browser does. fields are names and values that are
// added to a browser's; an empty value takes a field away.
func (s *site) visit(target string, fields ...string) answer {
	return s.ask("GET", target, fields...)
}

func (s *site) ask(method, target string, fields ...string) answer {
	s.t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for name, value := range browser {
		r.Header.Set(name, value)
	}
	for i := 0; i < len(fields); i += 2 {
		switch {
		case fields[i] == "remote":
			r.RemoteAddr = fields[i+1]
		case fields[i+1] == "":
			r.Header.Del(fields[i])
		default:
			r.Header.Add(fields[i], fields[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	a := answer{w, s.t, w.Body.String()}
	a.check()
	for _, leak := range []string{"sEcReT-return", "sEcReT-state", "sEcReT-auth", url.QueryEscape(authCode)} {
		if strings.Contains(a.body, leak) || strings.Contains(w.Header().Get("Location"), leak) {
			s.t.Errorf("%s: %q is in the answer", target, leak)
		}
	}
	if strings.Contains(a.body, preAuthCode) || a.page() != pageOffer && strings.Contains(a.body, "sEcReT-preauth") {
		s.t.Errorf("%s: the pre_auth_code is in the page, not only in its link", target)
	}
	if strings.Contains(s.log.String(), "sEcReT") {
		s.t.Errorf("%s: a secret is in the log", target)
	}
	return a
}

// check looks at what holds for every answer.
func (a answer) check() {
	a.t.Helper()
	h := a.Header()
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
		if got := h.Get(name); got != want {
			a.t.Errorf("%s: %q", name, got)
		}
	}
	if h.Get("Set-Cookie") != "" {
		a.t.Error("a cookie is set")
	}
	if !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		return
	}
	policy := h.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(policy, want) {
			a.t.Errorf("policy %q lacks %s", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "script-src") {
		a.t.Errorf("policy %q", policy)
	}
	if a.body == "" {
		return // HEAD
	}
	nonce := regexp.MustCompile(`style-src 'nonce-([A-Za-z0-9]{20,})'`).FindStringSubmatch(policy)
	if nonce == nil || !strings.Contains(a.body, `<style nonce="`+nonce[1]+`">`) || strings.Count(a.body, "<style") != 1 {
		a.t.Errorf("the style is not let in by %q", policy)
	}
	for _, bad := range []string{"<script", " style=", " onclick", "src=", "<link", "@import", "url(", dom.RefusedURL, "{wait}", "{accounts}", "{lasts}"} {
		if strings.Contains(a.body, bad) {
			a.t.Errorf("%q is in the page", bad)
		}
	}
	for _, want := range []string{"<!DOCTYPE html>", "<main", "<h1>", "<title>", `name="viewport"`, `<html lang="` + h.Get("Content-Language") + `">`} {
		if !strings.Contains(a.body, want) {
			a.t.Errorf("%q is not in the page", want)
		}
	}
}

var pageAttribute = regexp.MustCompile(`data-page="([a-z_]+)"`)

// page is which page it is.
func (a answer) page() page {
	if m := pageAttribute.FindStringSubmatch(a.body); m != nil {
		return page(m[1])
	}
	return ""
}

// is fails the test unless the answer is a page with a status.
func (a answer) is(status int, p page) answer {
	a.t.Helper()
	if a.Code != status || a.page() != p {
		a.t.Fatalf("status %d, page %q; want %d, %q", a.Code, a.page(), status, p)
	}
	return a
}

func (a answer) says(texts ...string) answer {
	a.t.Helper()
	for _, want := range texts {
		if !strings.Contains(a.body, want) {
			a.t.Errorf("page %q does not say %q", a.page(), want)
		}
	}
	return a
}

var anchor = regexp.MustCompile(`<a [^>]*href="([^"]*)"[^>]*>([^<]*)</a>`)

// links are the links of a page, in order.
func (a answer) links() (urls []string) {
	for _, m := range anchor.FindAllStringSubmatch(a.body, -1) {
		urls = append(urls, strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(m[1]))
	}
	return urls
}

// login is the query of the link to WeChat's page on a host.
func (a answer) login(host string) url.Values {
	a.t.Helper()
	for _, link := range a.links() {
		if u, err := url.Parse(link); err == nil && u.Host == host {
			return u.Query()
		}
	}
	a.t.Fatalf("no link to %s in %q", host, a.links())
	return nil
}

// state is the signed state in the link of an offer.
func (s *site) state(query url.Values) string {
	s.t.Helper()
	target := "https://wx.example.com/authorize?" + query.Encode()
	login := s.visit(target).is(http.StatusOK, pageOffer).login("mp.weixin.qq.com")
	redirect, err := url.Parse(login.Get("redirect_uri"))
	if err != nil {
		s.t.Fatal(err)
	}
	return redirect.Query().Get("state")
}

// doneURL is where WeChat sends the browser back to.
func doneURL(code, state string) string {
	query := url.Values{"expires_in": {"600"}}
	if code != "" {
		query.Set("auth_code", code)
	}
	if state != "" {
		query.Set("state", state)
	}
	return "https://wx.example.com/authorize/done?" + query.Encode()
}
