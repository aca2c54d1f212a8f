package link

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
)

func TestRead(t *testing.T) {
	const done = "https://wx.example.com/done"
	public := Config{PublicURL: "https://wx.example.com/lingpai"}
	f := func(c Config, body, wantRedirect string, want error) {
		t.Helper()
		r, err := c.Read([]byte(body))
		if err != want || r.RedirectURI != wantRedirect {
			t.Errorf("%s: %q %v, want %q %v", body, r.RedirectURI, err, wantRedirect, want)
		}
	}
	for _, body := range []string{"", " \n", "{}", "null", `{"redirect_uri":""}`} {
		f(public, body, "https://wx.example.com/lingpai/authorize/done", nil)
		f(Config{}, body, "", ErrRedirect)
	}
	f(Config{PublicURL: "https://wx.example.com/"}, "", "https://wx.example.com/authorize/done", nil)
	f(public, `{"redirect_uri":"`+done+`"}`, done, nil)
	f(Config{}, `{"redirect_uri":"http://localhost:8080/x?a=1"}`, "http://localhost:8080/x?a=1", nil)
	for _, redirect := range []string{"/done", "//wx.example.com/done", "ftp://wx.example.com", "javascript:alert(1)", "https://", "https:///x", ":", "https://a b"} {
		f(public, `{"redirect_uri":"`+redirect+`"}`, "", ErrRedirect)
	}
	for _, body := range []string{"{", "x", "[]", "1", `""`, "{}{}", "{}x", `{"redirect":"x"}`, `{"redirect_uri":1}`, `{"auth_type":"3"}`, `{"auth_type":1.5}`} {
		f(public, body, "", ErrBody)
	}
	g := func(field string, want error) {
		t.Helper()
		redirect := ""
		if want == nil {
			redirect = done
		}
		f(public, `{"redirect_uri":"`+done+`",`+field+`}`, redirect, want)
	}
	for _, n := range []string{"1", "2", "3", "4", "5", "6", "8", "null"} {
		g(`"auth_type":`+n, nil)
	}
	for _, n := range []string{"0", "7", "9", "-1", "100"} {
		g(`"auth_type":`+n, ErrAuthType)
	}
	g(`"biz_appid":"wx0123456789abcdef"`, nil)
	g(`"biz_appid":"wx 1"`, ErrBizAppID)
	g(`"biz_appid":"`+strings.Repeat("x", 65)+`"`, ErrBizAppID)
	g(`"category_id_list":"1|15|123456789"`, nil)
	g(`"category_id_list":"1`+strings.Repeat("|2", 99)+`"`, nil)
	g(`"category_id_list":"1`+strings.Repeat("|2", 100)+`"`, ErrCategory)
	for _, list := range []string{"|", "1|", "|1", "1,2", "1234567890", "x"} {
		g(`"category_id_list":"`+list+`"`, ErrCategory)
	}
}

func TestURLs(t *testing.T) {
	two := 2
	whole := Request{RedirectURI: "https://wx.example.com/done?a=1&b=2", AuthType: &two, BizAppID: "wxm", CategoryIDList: "1|2"}
	code := secret.New("preauthcode@@@x")
	f := func(link, wantStart string, want url.Values) {
		t.Helper()
		u, err := url.Parse(link)
		if err != nil || u.Scheme+"://"+u.Host+u.Path != wantStart || u.Query().Encode() != want.Encode() {
			t.Errorf("%s: %v, want %s with %v", link, err, wantStart, want)
		}
	}
	query := url.Values{
		"component_appid": {"wxp"}, "pre_auth_code": {"preauthcode@@@x"}, "redirect_uri": {"https://wx.example.com/done?a=1&b=2"},
		"auth_type": {"2"}, "biz_appid": {"wxm"}, "category_id_list": {"1|2"},
	}
	const pcPath, mobilePath = "/cgi-bin/componentloginpage", "/wxaopen/safe/bindcomponent"
	pc, mobile := Config{}.URLs("wxp", code, whole)
	f(pc, "https://mp.weixin.qq.com"+pcPath, query)
	if !strings.Contains(mobile, "?action=bindcomponent&no_scan=1&component_appid=") || !strings.HasSuffix(mobile, "#wechat_redirect") {
		t.Error(mobile)
	}
	query["action"], query["no_scan"] = []string{"bindcomponent"}, []string{"1"}
	f(mobile, "https://open.weixin.qq.com"+mobilePath, query)

	for _, origin := range []string{"http://127.0.0.1:1", "http://127.0.0.1:1/"} {
		pc, mobile = Config{LoginURL: origin}.URLs("wxp", code, Request{RedirectURI: "https://a.example/"})
		least := url.Values{"component_appid": {"wxp"}, "pre_auth_code": {"preauthcode@@@x"}, "redirect_uri": {"https://a.example/"}, "auth_type": {"3"}}
		f(pc, "http://127.0.0.1:1"+pcPath, least)
		least["action"], least["no_scan"] = []string{"bindcomponent"}, []string{"1"}
		f(mobile, "http://127.0.0.1:1"+mobilePath, least)
	}
}

func TestAnswer(t *testing.T) {
	c, r := Config{}, Request{RedirectURI: "https://a.example/"}
	pc, mobile := c.URLs("wxp", secret.New("x"), r)
	if got, want := c.Answer("wxp", secret.New("x"), 600*time.Second, r), (Answer{"x", 600, pc, mobile}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}
