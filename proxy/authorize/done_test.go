package authorize

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// verify is what an app does with its values.
func verify(t *testing.T, s *site, location string) (appID, result, state string) {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(location, returnTo+"&") {
		t.Fatalf("goes on to %q", location)
	}
	q := u.Query()
	mac := hmac.New(sha256.New, []byte(s.conf.ReturnSecret.Reveal()))
	io.WriteString(mac, strings.Join([]string{q.Get("timestamp"), q.Get("app_id"), q.Get("result"), q.Get("state")}, "\n"))
	if q.Get("signature") != hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("the signature of %q is wrong", location)
	}
	if at, err := strconv.ParseInt(q.Get("timestamp"), 10, 64); err != nil || time.Since(time.Unix(at, 0)) > time.Minute {
		t.Errorf("timestamp %q", q.Get("timestamp"))
	}
	if q.Get("tenant") != "7" {
		t.Error("the page's own query is lost")
	}
	return q.Get("app_id"), q.Get("result"), q.Get("state")
}

func TestDoneShowsTheAccount(t *testing.T) {
	s := newSite(t, nil)
	for _, state := range []string{s.state(nil), ""} { // "": of a link that an app made
		a := s.visit(doneURL(authCode, state)).is(http.StatusOK, pageDone)
		a.says(shop, "阳光花店", "Messages", "Development and data analysis", "Permission set 99", "close this page")
		if got := a.Header().Get("Referrer-Policy"); got != "no-referrer" {
			t.Errorf("Referrer-Policy %q: the code is in the address", got)
		}
		s.visit(doneURL(authCode, state)).is(http.StatusOK, pageDone).says(shop) // reloaded
	}
	if want := tokens.LinkOf(secret.New(preAuthCode)); s.fake.spent[0] != authCode || s.fake.links[0] != want || s.fake.links[2] != "" {
		t.Errorf("%q %q", s.fake.spent, s.fake.links)
	}
	s.fake.authorized = tokens.Authorized{AppID: shop}
	s.visit(doneURL(authCode, "")).is(http.StatusOK, pageDone).says("WeChat lists no permissions")
	s.fake.authorized = tokens.Authorized{AppID: shop, Name: `<img title=x>`}
	s.visit(doneURL(authCode, "")).is(http.StatusOK, pageDone).says("&lt;img")
}

func TestDoneGoesOnToTheApp(t *testing.T) {
	s := newSite(t, nil)
	state := s.state(url.Values{"return_to": {returnTo}, "state": {appState}, "biz_appid": {shop}})
	for range 2 { // the second is a reload
		a := s.visit(doneURL(authCode, state))
		if a.Code != http.StatusSeeOther || a.body != "" {
			t.Fatalf("%d %q", a.Code, a.body)
		}
		if appID, result, state := verify(t, s, a.Header().Get("Location")); appID != shop || result != resultAuthorized || state != appState {
			t.Errorf("%q %q %q", appID, result, state)
		}
	}
	// The app's page has been taken off the list since: the visitor stays here.
	config := s.conf
	config.ReturnURLs = nil
	s.Reconfigure(config)
	s.visit(doneURL(authCode, state)).is(http.StatusOK, pageDone).says(shop)
}

func TestAnotherAccountThanAskedFor(t *testing.T) {
	s := newSite(t, nil)
	state := s.state(url.Values{"return_to": {returnTo}, "state": {appState}, "biz_appid": {otherShop}})
	a := s.visit(doneURL(authCode, state)).is(http.StatusOK, pageOther).says(shop, otherShop, "in effect")
	links := a.links()
	if again, _ := url.Parse(links[0]); again.Path != Path || again.Query().Get("biz_appid") != otherShop || again.Query().Get("state") != appState {
		t.Errorf("authorize the other: %q", links[0])
	}
	if appID, result, _ := verify(t, s, links[1]); appID != shop || result != resultOther {
		t.Errorf("%q %q", appID, result)
	}
	state = s.state(url.Values{"biz_appid": {otherShop}})
	if links := s.visit(doneURL(authCode, state)).is(http.StatusOK, pageOther).links(); len(links) != 1 {
		t.Errorf("%q", links)
	}
}

func TestCancelled(t *testing.T) {
	s := newSite(t, nil)
	state := s.state(url.Values{"return_to": {returnTo}, "state": {appState}})
	links := s.visit(doneURL("", state)).is(http.StatusOK, pageCancelled).links()
	if appID, result, state := verify(t, s, links[1]); appID != "" || result != resultCancelled || state != appState {
		t.Errorf("%q %q %q", appID, result, state)
	}
	if again, _ := url.Parse(links[0]); again.Query().Get("return_to") != returnTo {
		t.Errorf("%q", links[0])
	}
	if links := s.visit(doneURL("", "")).is(http.StatusOK, pageCancelled).links(); len(links) != 1 || links[0] != Path {
		t.Errorf("%q", links)
	}
	if len(s.fake.spent) != 0 {
		t.Error("something was exchanged")
	}
}

func TestStatesThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		state := s.state(url.Values{"return_to": {returnTo}})
		payload, mac, _ := strings.Cut(state, ".")
		other := newSite(t, func(c *Config) { c.StateSecret = secret.New("another sEcReT-state") })
		for rule, forged := range map[string]string{
			"rubbish": "x", "a dot": ".", "no signature": payload, "empty signature": payload + ".", "cut": state[:len(state)-2],
			"changed": "A" + state[1:], "two": state + "." + mac, "signature alone": "." + mac, "another secret": other.state(nil),
		} {
			a := s.visit(doneURL(authCode, forged)).is(http.StatusBadRequest, pageForged)
			if links := a.links(); len(links) != 1 || links[0] != Path {
				t.Errorf("%s: %q", rule, links)
			}
		}
		// present, but empty
		s.visit(doneURL(authCode, "")+"&state=").is(http.StatusBadRequest, pageForged)
		// Another sidecar with the same secret accepts it, up to its end.
		peer := newSite(t, nil)
		time.Sleep(stateLifetime - time.Second)
		if a := peer.visit(doneURL(authCode, state)); a.Code != http.StatusSeeOther {
			t.Errorf("%d just before the end", a.Code)
		}
		time.Sleep(time.Second)
		a := peer.visit(doneURL(authCode, state)).is(http.StatusGone, pageExpired)
		if again, _ := url.Parse(a.links()[0]); again.Query().Get("return_to") != returnTo || len(a.links()) != 1 {
			t.Errorf("%q", a.links())
		}
		if len(s.fake.spent) != 0 || len(peer.fake.spent) != 1 {
			t.Errorf("%q %q", s.fake.spent, peer.fake.spent)
		}
		ahead := passage{request: request{Type: 3}, IssuedAt: time.Now().Add(time.Hour).Unix()}.seal(deriveKey(s.conf.StateSecret))
		s.visit(doneURL(authCode, ahead)).is(http.StatusGone, pageExpired)
	})
}

// Only a human's visit exchanges a code, and only what may be one.
func TestWhoExchanges(t *testing.T) {
	s := newSite(t, nil)
	for _, c := range []struct {
		rule, method, code string
		fields             []string
		status             int
		page               page
	}{
		{"HEAD", "HEAD", authCode, nil, 200, ""},
		{"a prefetch", "GET", authCode, []string{"Sec-Purpose", "prefetch"}, 503, pageEmbedded},
		{"an old prefetch", "GET", authCode, []string{"X-Moz", "prefetch", "Sec-Fetch-Mode", ""}, 503, pageEmbedded},
		{"a frame", "GET", authCode, []string{"Sec-Fetch-Dest", "", "Sec-Fetch-Dest", "iframe"}, 403, pageEmbedded},
		{"an image", "GET", authCode, []string{"Sec-Fetch-Mode", "", "Sec-Fetch-Mode", "no-cors"}, 403, pageEmbedded},
		{"too long", "GET", strings.Repeat("x", maxCode+1), nil, 400, pageForged},
		{"spaces", "GET", "a b", nil, 400, pageForged},
		{"no ASCII", "GET", "码", nil, 400, pageForged},
		{"another method", "POST", authCode, nil, 405, ""},
	} {
		if a := s.ask(c.method, doneURL(c.code, ""), c.fields...); a.Code != c.status || a.page() != c.page {
			t.Errorf("%s: %d %q", c.rule, a.Code, a.page())
		}
		if len(s.fake.spent) != 0 {
			t.Fatalf("%s: a code was exchanged", c.rule)
		}
	}
	s.visit(doneURL(authCode, ""), "Sec-Fetch-Mode", "").is(200, pageDone) // an old browser
}

// failures are the errors of a Platform and what becomes of them.
var failures = []struct {
	err    error
	page   page
	status int
	retry  string // Retry-After
	en, zh string
}{
	{&tokens.Unavailable{Code: 61005}, pageNotReady, 503, "60", "within ten minutes", "十分钟"},
	{&tokens.Unavailable{Err: errors.New("disk sEcReT")}, pageStoreDown, 503, "10", "Nothing is lost", "不会丢失"},
	{&tokens.Unavailable{RetryAfter: 200 * time.Second}, pageBusy, 503, "200", "4 minutes", "4 分钟"},
	{&tokens.Unavailable{Code: -1, Err: &wechat.Error{Code: -1}}, pageBusy, 503, "1", "1 second.", "1 秒"},
	{&tokens.Unavailable{Code: 40125, Err: &wechat.Error{Code: 40125}}, pageUnconfigured, 503, "", "service provider", "服务商"},
	{tokens.ErrWait, pageSlow, 504, "5", "still being worked on", "仍在处理"},
	{context.DeadlineExceeded, pageSlow, 504, "5", "5 seconds", "5 秒"},
	{tokens.ErrNoComponent, pageUnconfigured, 503, "", "callback.public_url", "callback.public_url"},
	{tokens.ErrFollower, pageUnconfigured, 503, "", "an instance that refreshes", "负责刷新"},
	{tokens.ErrReauthorize, pageEnded, 409, "", "authorize it again", "重新授权"},
	{&wechat.Error{Code: 61003}, pageEnded, 409, "", "withdrawn", "取消"},
	{&wechat.Error{Code: 61010}, pageSpent, 410, "", "authorize it once more", "重新授权一次"},
	{&wechat.Error{Code: 61009}, pageForged, 400, "", "not opened by WeChat", "不是由微信打开"},
	{&wechat.Error{Code: 45011}, pageBusy, 503, "60", "60 seconds", "60 秒"},
	{&wechat.Error{Code: 45009}, pageQuota, 503, "3600", "Beijing time", "北京时间"},
	{&wechat.Error{Code: 40164}, pageUnconfigured, 503, "", "whitelist", "白名单"},
	{&wechat.TransportError{Endpoint: "/x", Err: io.EOF}, pageUnreachable, 502, "5", "did not answer", "没有回应"},
	{errors.New("something"), pageBusy, 503, "10", "try again", "再试"},
}

func TestFailures(t *testing.T) {
	for _, c := range failures {
		s := newSite(t, nil)
		state := s.state(url.Values{"return_to": {returnTo}, "type": {"1"}})
		s.fake.codeErr, s.fake.spendErr = c.err, c.err
		for _, target := range []string{here + "?type=1", doneURL(authCode, state)} {
			a := s.visit(target).is(c.status, c.page).says(c.en)
			if got := a.Header().Get("Retry-After"); got != c.retry {
				t.Errorf("%v: Retry-After %q", c.err, got)
			}
			s.visit(target, "Accept-Language", "", "Accept-Language", "zh-CN").is(c.status, c.page).says(c.zh, `lang="zh-CN"`)
			switch links := a.links(); {
			case c.page == pageUnconfigured && len(links) != 0,
				c.retry != "" && (len(links) != 1 || links[0] != ""):
				t.Errorf("%v: links %q", c.err, links)
			case c.page == pageUnconfigured, c.retry != "":
			case links[0] != Path+"?"+url.Values{"type": {"1"}}.Encode() && target != doneURL(authCode, state):
				t.Errorf("%v: begins again at %q", c.err, links[0])
			case target == doneURL(authCode, state):
				if appID, result, _ := verify(t, s, links[1]); appID != "" || result != resultFailed {
					t.Errorf("%v: %q %q", c.err, appID, result)
				}
			}
		}
	}
}

// As long as WeChat's answer would be the same, it is not asked.
func TestQuotasAreLeftAlone(t *testing.T) {
	for _, c := range []struct {
		code  int
		pause time.Duration
	}{{45009, 10 * time.Minute}, {45011, time.Minute}, {40125, time.Minute}, {-1, 0}, {61010, 0}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, nil)
			s.fake.codeErr, s.fake.spendErr = &wechat.Error{Code: c.code}, &wechat.Error{Code: c.code}
			asked := func() int { return s.fake.codes + len(s.fake.spent) }
			visit := func() {
				s.visit(here).is(outcomeOf(s.fake.codeErr).status, outcomeOf(s.fake.codeErr).page)
				s.visit(doneURL(authCode, "")).is(outcomeOf(s.fake.codeErr).status, outcomeOf(s.fake.codeErr).page)
			}
			visit()
			visit()
			if want := map[bool]int{true: 2, false: 4}[c.pause > 0]; asked() != want {
				t.Errorf("%d: asked %d times", c.code, asked())
			}
			before := asked()
			time.Sleep(c.pause)
			visit()
			if asked() != before+2 {
				t.Errorf("%d: not asked after %s", c.code, c.pause)
			}
		})
	}
}
