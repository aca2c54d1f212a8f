package wechattest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	officialOne = "wx1111111111111111"
	miniTwo     = "wx2222222222222222"
	entryPage   = "https://wx.example.com/authorize"
	donePage    = "https://wx.example.com/authorize/done?state=a%2Fb"
)

// browser visits the login pages of a simulator over the network. It keeps no
// redirect to itself.
type browser struct {
	t      *testing.T
	s      *Server
	rc     *receiver
	url    string
	client *http.Client
}

func newBrowser(t *testing.T, change ...func(*Knobs)) *browser {
	t.Helper()
	s, rc := newPushSim(t, change...)
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	client := ts.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &browser{t, s, rc, ts.URL, client}
}

// seen is the page that a browser got.
type seen struct {
	page, body, location string
	status               int
}

func (b *browser) do(r *http.Request) seen {
	b.t.Helper()
	resp, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return seen{resp.Header.Get(PageHeader), string(body), resp.Header.Get("Location"), resp.StatusCode}
}

func (b *browser) visit(link, referer string) seen {
	b.t.Helper()
	r, err := http.NewRequest("GET", b.url+link, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if referer != "" {
		r.Header.Set("Referer", referer)
	}
	return b.do(r)
}

func (b *browser) submit(form url.Values) seen {
	b.t.Helper()
	r, err := http.NewRequest("POST", b.url+pathLoginPC, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Referer", b.url+pathLoginPC+"?pre_auth_code=preauthcode@@@x")
	return b.do(r)
}

// code fetches a pre_auth_code as a platform does.
func (b *browser) code() string {
	b.t.Helper()
	return componentCall(b.t, b.s, "api_create_preauthcode", componentToken(b.t, b.s), object{}).want(0).text("pre_auth_code")
}

// loginLink makes a login link; pairs of names and values change its query.
func loginLink(path, code string, change ...string) string {
	q := url.Values{
		"component_appid": {DefaultComponentAppID}, "pre_auth_code": {code}, "redirect_uri": {donePage}, "auth_type": {"3"},
	}
	for i := 0; i < len(change); i += 2 {
		if q.Del(change[i]); change[i+1] != "" {
			q.Set(change[i], change[i+1])
		}
	}
	return path + "?" + q.Encode()
}

var (
	formID    = regexp.MustCompile(`name="login" value="([0-9a-f]+)"`)
	formApps  = regexp.MustCompile(`name="app_id" value="([^"]+)"`)
	formScope = regexp.MustCompile(`name="scope" value="([^"]+)"`)
)

func all(re *regexp.Regexp, text string) []string {
	out := []string{}
	for _, m := range re.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// form is what the page's Confirm would send, with other values in place.
func (p seen) form(t *testing.T, appID, action string, scopes ...string) url.Values {
	t.Helper()
	ids := all(formID, p.body)
	if p.page != "login" || len(ids) != 1 || !strings.Contains(p.body, `<form method="post" action="`) {
		t.Fatalf("no login page: %q %s", p.page, p.body)
	}
	if scopes == nil {
		scopes = all(formScope, p.body)
	}
	return url.Values{"login": ids, "app_id": {appID}, "action": {action}, "scope": scopes}
}

// authCode is the code that a redirect carries.
func (p seen) authCode(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(p.location)
	if err != nil || p.page != "redirect" || p.status != http.StatusFound || u.Query().Get("auth_code") == "" {
		t.Fatalf("no redirect: %+v", p)
	}
	return u.Query().Get("auth_code")
}

func TestLoginIsRefused(t *testing.T) {
	domain := func(k *Knobs) { k.LoginDomain = "wx.example.com" }
	for name, c := range map[string]struct {
		path    string
		change  []string
		referer string
		knobs   func(*Knobs)
		want    string // the reason, "" for the page
		says    string
	}{
		"pc":                                {path: pathLoginPC, referer: entryPage},
		"mobile":                            {path: pathLoginMobile, referer: entryPage, change: []string{"action", "bindcomponent", "no_scan", "1"}},
		"mobile, old host":                  {path: pathLoginMobileOld, referer: entryPage},
		"registered domain":                 {path: pathLoginPC, referer: "https://WX.example.com:8443", knobs: domain},
		"other component":                   {path: pathLoginPC, referer: entryPage, change: []string{"component_appid", officialOne}, want: RefusedComponent},
		"no component":                      {path: pathLoginPC, referer: entryPage, change: []string{"component_appid", ""}, want: RefusedComponent},
		"no referer":                        {path: pathLoginPC, want: RefusedReferer, says: "授权入口页所在域名：空"},
		"no referer, mobile":                {path: pathLoginMobile, want: RefusedReferer, says: "授权入口页所在域名：空"},
		"referer of another host":           {path: pathLoginPC, referer: "https://evil.example.com/", want: RefusedReferer, says: "evil.example.com"},
		"referer that only ends alike":      {path: pathLoginPC, referer: "https://x.wx.example.com/", want: RefusedReferer},
		"no referer, not looked at":         {path: pathLoginPC, knobs: func(k *Knobs) { k.LoginReferer = false }},
		"redirect to another domain":        {path: pathLoginPC, referer: entryPage, change: []string{"redirect_uri", "https://other.example.com/"}, knobs: domain, want: RefusedRedirect},
		"both on another domain":            {path: pathLoginPC, referer: "https://other.example.com/", change: []string{"redirect_uri", "https://other.example.com/"}, knobs: domain, want: RefusedRedirect},
		"no redirect_uri":                   {path: pathLoginPC, referer: entryPage, change: []string{"redirect_uri", ""}, want: RefusedRedirect},
		"redirect_uri without a scheme":     {path: pathLoginPC, referer: entryPage, change: []string{"redirect_uri", "wx.example.com/done"}, want: RefusedRedirect},
		"redirect_uri with a user":          {path: pathLoginPC, referer: entryPage, change: []string{"redirect_uri", "https://u@wx.example.com/"}, want: RefusedRedirect},
		"redirect_uri of script":            {path: pathLoginPC, referer: entryPage, change: []string{"redirect_uri", "javascript://wx.example.com/%0aalert(1)"}, want: RefusedRedirect},
		"http where https is wanted":        {path: pathLoginPC, referer: entryPage, change: []string{"redirect_uri", "http://wx.example.com/"}, knobs: func(k *Knobs) { k.RedirectHTTPS = true }, want: RefusedRedirect},
		"http":                              {path: pathLoginPC, referer: entryPage, change: []string{"redirect_uri", "http://wx.example.com/"}},
		"unknown code":                      {path: pathLoginPC, referer: entryPage, change: []string{"pre_auth_code", "preauthcode@@@x"}, want: RefusedUnknownCode},
		"no code":                           {path: pathLoginPC, referer: entryPage, change: []string{"pre_auth_code", ""}, want: RefusedUnknownCode},
		"no auth_type":                      {path: pathLoginPC, referer: entryPage, change: []string{"auth_type", ""}, want: RefusedAuthType},
		"auth_type 7":                       {path: pathLoginPC, referer: entryPage, change: []string{"auth_type", "7"}, want: RefusedAuthType},
		"auth_type that is no number":       {path: pathLoginPC, referer: entryPage, change: []string{"auth_type", "x"}, want: RefusedAuthType},
		"biz_appid in place of auth_type":   {path: pathLoginPC, referer: entryPage, change: []string{"auth_type", "", "biz_appid", miniTwo}},
		"biz_appid that is none":            {path: pathLoginPC, referer: entryPage, change: []string{"biz_appid", "gh_1"}, want: RefusedBizAppID},
		"category_id_list":                  {path: pathLoginPC, referer: entryPage, change: []string{"category_id_list", "1|17"}},
		"category_id_list with commas":      {path: pathLoginPC, referer: entryPage, change: []string{"category_id_list", "1,17"}, want: RefusedCategories},
		"category_id_list with an empty id": {path: pathLoginPC, referer: entryPage, change: []string{"category_id_list", "1||17"}, want: RefusedCategories},
	} {
		t.Run(name, func(t *testing.T) {
			var change []func(*Knobs)
			if c.knobs != nil {
				change = append(change, c.knobs)
			}
			b := newBrowser(t, change...)
			code := b.code()
			want := "login"
			if c.want != "" {
				want = "error/" + c.want
			}
			got := b.visit(loginLink(c.path, code, c.change...), c.referer)
			if got.page != want || got.status != 200 || !strings.Contains(got.body, c.says) ||
				!strings.Contains(got.body, "Simulated by lingpai") || c.want != "" && !strings.Contains(got.body, `data-reason="`+c.want+`"`) {
				t.Errorf("page %q, want %q: %s", got.page, want, got.body)
			}
			calls := b.s.CallsTo(c.path)
			if len(calls) != 1 || calls[0].Page != want || calls[0].Executed != (c.want == "") {
				t.Errorf("journal %+v", calls)
			}
			// A link that cannot work does not use its code up.
			if got := b.visit(loginLink(pathLoginPC, code), entryPage); c.knobs == nil && got.page != "login" {
				t.Errorf("the code is gone: %q", got.page)
			}
		})
	}
}

func TestLoginOffersAccounts(t *testing.T) {
	b := newBrowser(t)
	for _, a := range []LoginAccount{
		{AppID: "wx5555555555555555", Type: TypeChannels},
		{AppID: "wx8888888888888888", Type: TypeSalesAssistant},
		{AppID: miniTwo, Type: TypeMiniProgram, Scopes: []int{17, 99}},
	} {
		if err := b.s.SetLoginAccount(a); err != nil {
			t.Fatal(err)
		}
	}
	b.s.RemoveLoginAccount("wx4444444444444444")
	b.s.AddAuthorizer(authorizerA)
	for name, c := range map[string]struct {
		change       []string
		apps, scopes string // "" scopes: not compared
	}{
		"1":                    {[]string{"auth_type", "1"}, "wx1111111111111111 wx3333333333333333", "1 2 3 4 5 6 7 8 9 10 11 12 13 15"},
		"2":                    {[]string{"auth_type", "2"}, miniTwo, "17 99"},
		"3":                    {nil, "wx1111111111111111 wx2222222222222222 wx3333333333333333", ""},
		"4":                    {[]string{"auth_type", "4"}, "", ""},
		"5":                    {[]string{"auth_type", "5"}, "wx5555555555555555", ""},
		"6":                    {[]string{"auth_type", "6"}, "wx1111111111111111 wx2222222222222222 wx3333333333333333 wx5555555555555555 wx8888888888888888", ""},
		"8":                    {[]string{"auth_type", "8"}, "wx8888888888888888", ""},
		"biz_appid overrides":  {[]string{"auth_type", "1", "biz_appid", miniTwo}, miniTwo, "17 99"},
		"biz_appid known":      {[]string{"biz_appid", authorizerA}, authorizerA, ""},
		"biz_appid of no one":  {[]string{"biz_appid", authorizerB}, "", ""},
		"category_id_list":     {[]string{"category_id_list", "99|1|3"}, "wx1111111111111111 wx2222222222222222 wx3333333333333333", "1 3 99"},
		"category_id_list, 17": {[]string{"auth_type", "2", "category_id_list", "17"}, miniTwo, "17"},
	} {
		t.Run(name, func(t *testing.T) {
			got := b.visit(loginLink(pathLoginMobile, b.code(), c.change...), entryPage)
			if apps := strings.Join(all(formApps, got.body), " "); apps != c.apps {
				t.Errorf("accounts %q, want %q", apps, c.apps)
			}
			if scopes := strings.Join(all(formScope, got.body), " "); c.scopes != "" && scopes != c.scopes {
				t.Errorf("permission sets %q, want %q", scopes, c.scopes)
			}
			if strings.Contains(got.body, `value="confirm"`) != (c.apps != "") || !strings.Contains(got.body, `value="cancel"`) {
				t.Errorf("buttons: %s", got.body)
			}
		})
	}
}

func TestLoginConfirm(t *testing.T) {
	b := newBrowser(t)
	component, code := componentToken(t, b.s), b.code()
	link := loginLink(pathLoginPC, code)
	opened := b.visit(link, entryPage)
	form := opened.form(t, miniTwo, "confirm", "18", "17", "1") // 1 is no mini program's
	second := b.visit(link, entryPage)                          // loading the page again does no harm yet
	got := b.submit(form)
	auth := got.authCode(t)
	if want := donePage + "&auth_code=" + url.QueryEscape(auth) + "&expires_in=3600"; got.location != want {
		t.Errorf("Location %s, want %s", got.location, want)
	}
	if e := b.rc.all(); len(e) != 1 || e[0].fields["InfoType"] != "authorized" || e[0].fields["AuthorizerAppid"] != miniTwo ||
		e[0].fields["AuthorizationCode"] != auth || e[0].fields["PreAuthCode"] != code {
		t.Errorf("events %+v", e)
	}
	info := queryAuth(t, b.s, component, auth).want(0).object("authorization_info")
	if info.text("authorizer_appid") != miniTwo || len(info.fields["func_info"].([]any)) != 2 {
		t.Error(info.raw)
	}
	about := componentCall(t, b.s, "api_get_authorizer_info", component, object{"authorizer_appid": miniTwo}).object("authorizer_info")
	if about.text("nick_name") != "模拟小程序乙" || about.fields["MiniProgramInfo"] == nil {
		t.Error(about.raw)
	}
	for name, again := range map[string]func() seen{
		"submitted again":     func() seen { return b.submit(form) },
		"back button":         func() seen { return b.visit(link, entryPage) },
		"the other page":      func() seen { return b.submit(second.form(t, officialOne, "confirm")) },
		"cancelled afterward": func() seen { return b.submit(opened.form(t, miniTwo, "cancel")) },
	} {
		if got := again(); got.page != "error/"+RefusedUsedCode || got.status != 200 {
			t.Errorf("%s: %q %d", name, got.page, got.status)
		}
	}
	if n := len(b.rc.all()); n != 1 || len(b.s.State().Authorizers) != 1 {
		t.Errorf("%d events", n)
	}
	if v := b.s.Violations(); len(v) != 0 {
		t.Errorf("violations %q", v)
	}
	if got := b.s.CountFor(pathLoginPC, miniTwo); got != 3 { // the form names the account
		t.Errorf("%d calls for the account", got)
	}
}

// Two clicks at once lead to one authorization, whichever comes first.
func TestLoginDoubleClick(t *testing.T) {
	b := newBrowser(t)
	form := b.visit(loginLink(pathLoginPC, b.code()), entryPage).form(t, officialOne, "confirm")
	var group sync.WaitGroup
	pages := make([]string, 8)
	for i := range pages {
		group.Go(func() { pages[i] = b.submit(form).page })
	}
	group.Wait()
	slices.Sort(pages)
	if want := slices.Repeat([]string{"error/" + RefusedUsedCode}, 7); !slices.Equal(pages, append(want, "redirect")) || len(b.rc.all()) != 1 {
		t.Errorf("pages %q, %d events", pages, len(b.rc.all()))
	}
}

func TestLoginFormIsRefused(t *testing.T) {
	b := newBrowser(t)
	code := b.code()
	opened := b.visit(loginLink(pathLoginPC, code, "auth_type", "1"), entryPage)
	unknown := opened.form(t, officialOne, "confirm")
	unknown.Set("login", "0123456789abcdef")
	for name, c := range map[string]struct {
		form url.Values
		want string
	}{
		"account of another type": {opened.form(t, miniTwo, "confirm"), RefusedAccount},
		"account of no one":       {opened.form(t, authorizerB, "confirm"), RefusedAccount},
		"no account":              {opened.form(t, "", "confirm"), RefusedAccount},
		"unknown page":            {unknown, RefusedPage},
	} {
		if got := b.submit(c.form); got.page != "error/"+c.want {
			t.Errorf("%s: %q", name, got.page)
		}
	}
	if got := b.do(mustRequest(t, "DELETE", b.url+pathLoginPC)); got.status != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", got.status)
	}
	b.submit(opened.form(t, officialOne, "confirm")).authCode(t) // and still it works
}

func mustRequest(t *testing.T, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLoginCancel(t *testing.T) {
	b := newBrowser(t)
	code := b.code()
	got := b.submit(b.visit(loginLink(pathLoginPC, code), entryPage).form(t, officialOne, "cancel"))
	if got.page != "cancelled" || got.location != "" || len(b.rc.all()) != 0 || len(b.s.State().Authorizers) != 0 {
		t.Errorf("%q %q", got.page, got.location)
	}
	if got := b.visit(loginLink(pathLoginPC, code), entryPage); got.page != "error/"+RefusedUsedCode {
		t.Errorf("after cancel %q", got.page)
	}
	if l := b.s.Logins(); len(l) != 1 || l[0].Status != LoginCancelled {
		t.Errorf("logins %+v", l)
	}
}

func TestLoginWithoutPermission(t *testing.T) {
	b := newBrowser(t)
	opened := b.visit(loginLink(pathLoginPC, b.code()), entryPage)
	auth := b.submit(opened.form(t, officialOne, "confirm", "99")).authCode(t)
	info := queryAuth(t, b.s, componentToken(t, b.s), auth).want(0).object("authorization_info")
	if info.fields["authorizer_refresh_token"] != nil || len(info.fields["func_info"].([]any)) != 0 {
		t.Error(info.raw)
	}
}
