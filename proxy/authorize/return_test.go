package authorize

import (
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
)

func TestReturnURLs(t *testing.T) {
	f := func(prefix, target string, want bool) {
		t.Helper()
		s := newSite(t, func(c *Config) { c.ReturnURLs = []string{prefix} })
		if got := s.settings.Load().mayReturnTo(target); got != want {
			t.Errorf("%s for %s: %v", target, prefix, got)
		}
	}
	const app = "https://app.example.com/cb"
	f(app, app, true)
	f(app, app+"/", true)
	f(app, app+"/x?y=z#w", true)
	f(app, app+"?x=y", true)
	f(app, "https://APP.example.com:443/cb", true)
	f("https://app.example.com:443/cb/", app+"/x", true)
	f("https://app.example.com", "https://app.example.com", true)
	f("https://app.example.com", "https://app.example.com/any", true)
	f("https://app.example.com/", "https://app.example.com", true)
	f("https://app.example.com/", "https://app.example.com?x", true)
	f(app+"/", app, false)
	f(app, app+"x", false)
	f(app, "https://app.example.com/", false)
	f(app, "https://app.example.com/CB", false)
	f(app, "http://app.example.com/cb", false)
	f(app, "https://app.example.com:8443/cb", false)
	f(app, "https://app.example.com.evil.example/cb", false)
	f(app, "https://evil.example/https://app.example.com/cb", false)
	f(app, "https://app.example.com@evil.example/cb", false)
	f(app, "https://user@app.example.com/cb", false)
	f(app, `https://evil.example\@app.example.com/cb`, false)
	f(app, `https://app.example.com\.evil.example/cb`, false)
	f(app, app+"/../admin", false)
	f(app, app+"/%2e%2e/admin", false)
	f(app, app+"/..%2fadmin", false)
	f(app, app+"/x%2F..%2Fy", false)
	f(app, app+"/x%5c..%5cy", false)
	f(app, app+"/./x", false)
	f(app, "//app.example.com/cb", false)
	f(app, "/cb", false)
	f(app, "javascript:alert(1)", false)
	f(app, "https:app.example.com/cb", false)
	f(app, "https:///cb", false)
	f(app, "\thttps://app.example.com/cb", false)
	f(app, "https://app.example.com/cb\n", false)
	f(app, app+"?signature=x", false) // it could be taken for ours
	f(app, app+"?x=1&app_id=x", false)
	f(app, app+"?%73tate=x", false)
	f(app, app+"?x;y", false)
	f(app, app+"/"+strings.Repeat("x", maxReturnTo), false)
	f("https://app.example.com/cb?x=1", "https://app.example.com/cb?x=1", true)
	f("https://app.example.com/cb?x=1", "https://app.example.com/cb?x=12", false)
	f("https://app.example.com/cb?x=1", "https://app.example.com/cb", false)
	f("http://[::1]:8080/", "http://[::1]:8080/x", true)
}

func TestReturnURLKeepsThePage(t *testing.T) {
	s := newSite(t, func(c *Config) { c.ReturnURLs = []string{"https://app.example.com"} }).settings.Load()
	for page, want := range map[string]string{
		"https://app.example.com":          "https://app.example.com?app_id=wx",
		"https://app.example.com/a?b=%20c": "https://app.example.com/a?b=%20c&app_id=wx",
		"https://app.example.com/#/done":   "https://app.example.com/?app_id=wx",
	} {
		got := s.returnURL(passage{request: request{ReturnTo: page}}, "wx", resultAuthorized, time.Unix(1e9, 0))
		if !strings.HasPrefix(got, want) || strings.HasSuffix(page, "#/done") != strings.HasSuffix(got, "#/done") {
			t.Errorf("%s: %s", page, got)
		}
	}
}

// What Python makes of the same, by the lines in the package's comment.
func TestSignatureVector(t *testing.T) {
	const want = "b72a06c8d87fce6ace35e2184eb565459f9f0c2b640c73ad1872ea92a16b0f8e"
	if got := signature(secret.New("sEcReT-return"), "1700000000", shop, resultAuthorized, "a b=状态"); got != want {
		t.Error(got)
	}
}

func TestLanguage(t *testing.T) {
	for accept, want := range map[string]language{
		"":                                english,
		"zh":                              chinese,
		"zh-CN":                           chinese,
		"zh-Hant-HK,en;q=0.9":             chinese,
		"ZH-tw":                           chinese,
		"zh-CN,zh;q=0.9,en;q=0.8":         chinese,
		"en-US,en;q=0.9,zh-CN;q=0.8":      english,
		"en;q=0.5, zh;q=0.8":              chinese,
		"fr, zh;q=0.1":                    chinese,
		"fr":                              english,
		"zh;q=0":                          english,
		"zh;q=0, en;q=0":                  english,
		"en;q=0.8,zh;q=0.8":               english,
		"zh;q=0.8,en;q=0.8":               chinese,
		"zh;q=x,en;q=0.1":                 english,
		"zh;q=7,en;q=0.1":                 english,
		"zhx":                             english,
		"*":                               english,
		strings.Repeat("fr,", 100) + "zh": english, // bounded
	} {
		if got := languageOf(accept); got != want {
			t.Errorf("%q: %s", accept, got.html())
		}
	}
}

func TestTextsAreWhole(t *testing.T) {
	for _, p := range []page{
		pageOffer, pageAskFirst, pageDone, pageOther, pageCancelled, pageExpired, pageForged, pageSpent, pageEnded, pageBadLink,
		pageBadReturn, pageEmbedded, pageTooMany, pageNotReady, pageStoreDown, pageBusy, pageQuota, pageUnreachable, pageSlow, pageUnconfigured,
	} {
		says, ok := pages[p]
		if !ok || len(says.lines) == 0 || says.mood == "" {
			t.Errorf("%s says nothing", p)
		}
		for _, line := range append(says.lines, says.title) {
			if line.zh == "" || line.en == "" || strings.ContainsFunc(line.en, func(r rune) bool { return r > 0x2fff }) {
				t.Errorf("%s: %+v", p, line)
			}
			for _, engineer := range []string{"api", "API", "token", "errcode", "pre_auth"} {
				if p != pageUnconfigured && strings.Contains(line.en+line.zh, engineer) {
					t.Errorf("%s speaks of %q to merchants", p, engineer)
				}
			}
		}
	}
	for auth := range 10 {
		if (request{Type: auth}).link().Check() == nil && accountNames[auth] == (text{}) {
			t.Errorf("type %d has no name", auth)
		}
	}
	if scopeName(1, chinese) != "消息管理" || scopeName(1, english) != "Messages" || scopeName(12345, chinese) != "权限集 12345" {
		t.Error("names of permission sets")
	}
}

func TestDurations(t *testing.T) {
	for seconds, want := range map[int][2]string{
		1: {"1 秒", "1 second"}, 99: {"99 秒", "99 seconds"}, 100: {"2 分钟", "2 minutes"}, 1740: {"29 分钟", "29 minutes"},
		7199: {"120 分钟", "120 minutes"}, 7201: {"3 小时", "3 hours"},
	} {
		if chinese.duration(seconds) != want[0] || english.duration(seconds) != want[1] {
			t.Errorf("%d: %s, %s", seconds, chinese.duration(seconds), english.duration(seconds))
		}
	}
}
