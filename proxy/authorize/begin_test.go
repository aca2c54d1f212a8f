package authorize

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/secret"
)

const here = "https://wx.example.com/authorize"

func TestOffer(t *testing.T) {
	s := newSite(t, nil)
	query := url.Values{"type": {"2"}, "biz_appid": {shop}, "category_id_list": {"1|18"}, "return_to": {returnTo}, "state": {appState}}
	a := s.visit(here+"?"+query.Encode()).is(http.StatusOK, pageOffer)
	a.says(shop, "Mini Program", "Continue to WeChat", "29 minutes")
	// WeChat wants to know the domain, and need not know more.
	if got := a.Header().Get("Referrer-Policy"); got != "strict-origin" {
		t.Errorf("Referrer-Policy %q", got)
	}
	if strings.Contains(a.body, "noreferrer") || strings.Contains(a.body, "<form") {
		t.Error("the click does not lead to WeChat with a Referer")
	}
	links := a.links()
	pc, err := url.Parse(links[0])
	if err != nil || pc.Scheme != "https" || pc.Host != "mp.weixin.qq.com" || pc.Path != "/cgi-bin/componentloginpage" {
		t.Fatalf("the button leads to %q", links[0])
	}
	for _, q := range []url.Values{pc.Query(), a.login("open.weixin.qq.com")} {
		for name, want := range map[string]string{
			"component_appid": component, "pre_auth_code": preAuthCode, "auth_type": "2", "biz_appid": shop, "category_id_list": "1|18",
		} {
			if q.Get(name) != want {
				t.Errorf("%s = %q", name, q.Get(name))
			}
		}
		back, err := url.Parse(q.Get("redirect_uri"))
		if err != nil || back.Scheme+"://"+back.Host+back.Path != "https://wx.example.com/authorize/done" {
			t.Errorf("redirect_uri %q", q.Get("redirect_uri"))
		}
		p, err := openState(deriveKey(s.conf.StateSecret), back.Query().Get("state"), time.Now())
		want := passage{request{2, shop, "1|18", returnTo, appState}, tokens.LinkOf(secret.New(preAuthCode)), p.IssuedAt}
		if err != nil || p != want {
			t.Errorf("%v %+v", err, p)
		}
	}
	mobile := links[2]
	if !strings.HasPrefix(mobile, "https://open.weixin.qq.com/wxaopen/safe/bindcomponent?action=bindcomponent&no_scan=1&") || !strings.HasSuffix(mobile, "#wechat_redirect") {
		t.Errorf("the other way is %q", mobile)
	}
	// A new button asks for the same.
	again, _ := url.Parse(links[1])
	if again.Path != Path || again.Query().Encode() != query.Encode() {
		t.Errorf("a new button is at %q", links[1])
	}
	s.visit(here+"?"+query.Encode()).is(http.StatusOK, pageOffer)
	if s.fake.codes != 2 {
		t.Errorf("%d codes for two pages", s.fake.codes)
	}
}

func TestWayToWeChatByDevice(t *testing.T) {
	s := newSite(t, nil)
	const iPhone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"
	for _, c := range []struct {
		rule, agent, hint string
		phone, advice     bool
	}{
		{"a PC", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/130", "", false, false},
		{"a PC that says so", "Mozilla/5.0 (X11; Linux x86_64) Chrome/130", "?0", false, false},
		{"a phone that says so", "Mozilla/5.0 (X11; Linux x86_64) Chrome/130", "?1", true, true},
		{"a phone's browser", iPhone, "", true, true},
		{"WeChat on a phone", iPhone + " MicroMessenger/8.0.40", "", true, false},
		{"WeChat on Android", "Mozilla/5.0 (Linux; Android 13) Chrome/116 Mobile MicroMessenger/8.0.44 XWEB/5", "?1", true, false},
		{"WeChat on a PC", "Mozilla/5.0 (Windows NT 10.0) Chrome/107 MicroMessenger/7.0.20 WindowsWechat", "", false, false},
		{"WeChat on a Mac", "Mozilla/5.0 (Macintosh) Safari MicroMessenger/6.8.0 MacWechat/3.8 Mobile", "", false, false},
		{"no agent", "", "", false, false},
	} {
		a := s.visit(here, "User-Agent", "", "User-Agent", c.agent, "Sec-CH-UA-Mobile", c.hint).is(http.StatusOK, pageOffer)
		if phone := strings.HasPrefix(a.links()[0], "https://open.weixin.qq.com/"); phone != c.phone {
			t.Errorf("%s: the button leads to %s", c.rule, a.links()[0])
		}
		if advice := strings.Contains(a.body, "inside WeChat"); advice != c.advice {
			t.Errorf("%s: advised to use WeChat: %v", c.rule, advice)
		}
	}
}

// Only what a human looks at costs a code.
func TestWhoGetsACode(t *testing.T) {
	s := newSite(t, nil)
	const ours = "https://wx.example.com/"
	for _, c := range []struct {
		rule, method, target string
		fields               []string
		status               int
		page                 page
	}{
		{"a navigation", "GET", here, nil, 200, pageOffer},
		{"a navigation from an app's page", "GET", here, []string{"Sec-Fetch-Site", "", "Sec-Fetch-Site", "cross-site"}, 200, pageOffer},
		{"HEAD", "HEAD", here, nil, 200, ""},
		{"a prefetch", "GET", here, []string{"Sec-Purpose", "prefetch"}, 503, pageAskFirst},
		{"a prerendering", "GET", here, []string{"Sec-Purpose", "prefetch;prerender"}, 503, pageAskFirst},
		{"an old prefetch", "GET", here, []string{"Purpose", "prefetch"}, 503, pageAskFirst},
		{"Firefox's prefetch", "GET", here, []string{"X-Moz", "prefetch"}, 503, pageAskFirst},
		{"Safari's preview", "GET", here, []string{"X-Purpose", "preview"}, 503, pageAskFirst},
		{"a frame", "GET", here, []string{"Sec-Fetch-Dest", "", "Sec-Fetch-Dest", "iframe"}, 200, pageAskFirst},
		{"an image", "GET", here, []string{"Sec-Fetch-Dest", "", "Sec-Fetch-Dest", "image", "Sec-Fetch-Mode", "", "Sec-Fetch-Mode", "no-cors"}, 200, pageAskFirst},
		{"a script", "GET", here + "?go=1", []string{"Sec-Fetch-Dest", "", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Mode", "", "Sec-Fetch-Mode", "cors", "Referer", ours}, 200, pageAskFirst},
		{"a program", "GET", here, []string{"Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""}, 200, pageAskFirst},
		{"a program that goes on", "GET", here + "?go=1", []string{"Sec-Fetch-Mode", "", "Sec-Fetch-Dest", ""}, 200, pageAskFirst},
		{"a click elsewhere", "GET", here + "?go=1", []string{"Sec-Fetch-Mode", "", "Referer", "https://evil.example/"}, 200, pageAskFirst},
		{"a click in an old browser", "GET", here + "?go=1", []string{"Sec-Fetch-Mode", "", "Referer", ours}, 200, pageOffer},
		{"a click that is prefetched", "GET", here + "?go=1", []string{"Sec-Fetch-Mode", "", "Referer", ours, "X-Moz", "prefetch"}, 503, pageAskFirst},
		{"another method", "POST", here, nil, 405, ""},
		{"another path", "GET", here + "/x", nil, 404, ""},
	} {
		before := s.fake.codes
		a := s.ask(c.method, c.target, c.fields...)
		if a.Code != c.status || a.page() != c.page {
			t.Errorf("%s: %d %q", c.rule, a.Code, a.page())
		}
		if got := s.fake.codes - before; (got == 1) != (c.page == pageOffer) || got > 1 {
			t.Errorf("%s: %d codes", c.rule, got)
		}
		if c.method == "HEAD" && a.body != "" {
			t.Errorf("%s: a body", c.rule)
		}
	}
}

func TestAskFirstKeepsTheRequest(t *testing.T) {
	s := newSite(t, func(c *Config) { c.PublicURL = "https://wx.example.com/gate/" })
	query := url.Values{"type": {"6"}, "return_to": {returnTo}, "state": {`"><b>`}}
	a := s.visit(here+"?"+query.Encode(), "Sec-Fetch-Mode", "").is(200, pageAskFirst)
	a.says(`method="get" action="/gate/authorize"`, `name="go" value="1"`, `name="type" value="6"`, `name="return_to" value="https://app.example.com/wechat/callback?tenant=7"`, `name="state" value="&#34;&gt;&lt;b&gt;"`)
	if got := a.Header().Get("Referrer-Policy"); got != "strict-origin" {
		t.Errorf("Referrer-Policy %q", got)
	}
	login := s.visit(here+"?"+query.Encode()).is(200, pageOffer).login("mp.weixin.qq.com")
	if got := login.Get("redirect_uri"); !strings.HasPrefix(got, "https://wx.example.com/gate/authorize/done?state=") {
		t.Errorf("redirect_uri %q", got)
	}
}

func TestLoginURL(t *testing.T) {
	s := newSite(t, func(c *Config) { c.LoginURL = "http://127.0.0.1:9000" })
	links := s.visit(here).is(200, pageOffer).links()
	if !strings.HasPrefix(links[0], "http://127.0.0.1:9000/cgi-bin/componentloginpage?") || !strings.HasPrefix(links[2], "http://127.0.0.1:9000/wxaopen/safe/bindcomponent?") {
		t.Errorf("%q", links)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	s := newSite(t, nil)
	for query, want := range map[string]page{
		"type=7":               pageBadLink,
		"type=03":              pageBadLink,
		"type=x":               pageBadLink,
		"biz_appid=a%20b":      pageBadLink,
		"category_id_list=1,2": pageBadLink,
		"category_id_list=%7C": pageBadLink,
		"state=" + strings.Repeat("x", maxState+1): pageBadLink,
		"state=a%0Ab":                    pageBadLink,
		"state=%ff":                      pageBadLink,
		"return_to=https://evil.example": pageBadReturn,
		"return_to=%2F%2Fevil.example":   pageBadReturn,
		"return_to=javascript:alert(1)":  pageBadReturn,
	} {
		s.visit(here+"?"+query).is(http.StatusBadRequest, want)
	}
	if s.fake.codes != 0 {
		t.Error("a code was fetched")
	}
	s.visit(here+"?type=8&state="+strings.Repeat("x", maxState)).is(200, pageOffer)
	// Unsigned results could be made up by anybody, so that none are sent.
	s = newSite(t, func(c *Config) { c.ReturnSecret = secret.String{} })
	s.visit(here+"?return_to="+url.QueryEscape(returnTo)).is(http.StatusBadRequest, pageBadReturn)
}

func TestNotConfigured(t *testing.T) {
	s := newSite(t, func(c *Config) { c.PublicURL = "" })
	s.visit(here).is(http.StatusServiceUnavailable, pageUnconfigured).says("callback.public_url")
	s.visit(doneURL(authCode, "")).is(http.StatusServiceUnavailable, pageUnconfigured)
	s = newSite(t, nil)
	s.fake.none = true
	s.visit(here).is(http.StatusServiceUnavailable, pageUnconfigured).says("component")
	if s.fake.codes+len(s.fake.spent) != 0 {
		t.Error("the platform was asked")
	}
}

func TestConfigIsChecked(t *testing.T) {
	s := newSite(t, nil)
	for rule, change := range map[string]func(*Config){
		"no state secret":     func(c *Config) { c.StateSecret = secret.String{} },
		"public_url no URL":   func(c *Config) { c.PublicURL = "wx.example.com" },
		"public_url, query":   func(c *Config) { c.PublicURL = "https://wx.example.com/?a" },
		"login URL":           func(c *Config) { c.LoginURL = "ftp://x" },
		"return_urls no URL":  func(c *Config) { c.ReturnURLs = []string{"app.example.com"} },
		"return_urls, dots":   func(c *Config) { c.ReturnURLs = []string{"https://app.example.com/a/../b"} },
		"return_urls, a user": func(c *Config) { c.ReturnURLs = []string{"https://a@app.example.com/"} },
	} {
		config := s.conf
		change(&config)
		if err := s.Reconfigure(config); err == nil {
			t.Errorf("%s: accepted", rule)
		}
		if _, err := New(config, s.fake, nil); err == nil {
			t.Errorf("%s: accepted by New", rule)
		}
	}
	s.visit(here).is(200, pageOffer) // with the former one
	config := s.conf
	config.PublicURL = ""
	if err := s.Reconfigure(config); err != nil {
		t.Fatal(err)
	}
	s.visit(here).is(503, pageUnconfigured)
}
