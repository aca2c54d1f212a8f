package proxy

import (
	"strings"
	"testing"

	"lingpai/tokens/secret"
)

// What a path wants beside a token is put in, and nothing else is touched.
func TestCredentialsArePutIn(t *testing.T) {
	const appSecret, componentSecret = "direct-app-secret-0123", "component-app-secret-0123"
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), func(c *Config, _ *ServerConfig) {
		c.Credentials = Credentials{ComponentAppSecret: secret.New(componentSecret), Accounts: map[string]secret.String{direct: secret.New(appSecret)}}
	})
	f := func(rule, text, wantTarget, wantBody string) {
		t.Helper()
		r := s.call(text)
		if strings.Contains(r.head+r.body, appSecret) || strings.Contains(r.head+r.body, componentSecret) {
			t.Errorf("%s: a secret in the answer", rule)
		}
		got := p.only(t)
		if wantTarget != "" && got.target() != wantTarget {
			t.Errorf("%s: target %s, want %s", rule, got.target(), wantTarget)
		}
		if string(got.body) != wantBody {
			t.Errorf("%s: body %q, want %q", rule, got.body, wantBody)
		}
		if lengths := got.field("Content-Length"); len(wantBody) > 0 && (len(lengths) != 1 || lengths[0] != itoa(len(wantBody))) || len(got.field("Transfer-Encoding")) > 0 {
			t.Errorf("%s: Content-Length %q for %d bytes", rule, lengths, len(wantBody))
		}
	}
	const login, filled = "/sns/jscode2session", "&appid=" + direct + "&secret=" + appSecret
	f("secret and appid", get(login+"?js_code=c", "X-Wechat-Appid: "+direct), login+"?js_code=c"+filled, "")
	f("every other secret goes", get(login+"?secret=a&js_code=c&s%65cret=b&appid=&secre%74=", "X-Wechat-Appid: "+direct), login+"?js_code=c"+filled, "")
	f("appid stays where it is", get(login+"?appid="+direct+"&js_code=%20+"), login+"?appid="+direct+"&js_code=%20+&secret="+appSecret, "")
	f("not ours", get(login+"?appid=wxcccccccccccccccc&secret=own"), login+"?appid=wxcccccccccccccccc&secret=own", "")
	f("user", get("/sns/userinfo?access_token=u&openid=o"), "/sns/userinfo?access_token=u&openid=o", "")
	f("component_appid in a query", get("/sns/component/jscode2session?component_appid=&js_code=c"),
		"/sns/component/jscode2session?js_code=c&component_appid="+platform+"&component_access_token="+componentValue, "")

	const own = `"component_appid":"` + platform + `"`
	post := func(rule, body, want string, lines ...string) {
		t.Helper()
		f(rule, request("POST", componentPath, body, lines...), "", want)
	}
	post("empty", "", "{"+own+"}")
	post("empty object", "{}", "{"+own+"}")
	post("byte-exact", "{ \"b\":\t1e5, \"a\" : \"\\u4f60你\",\"n\":123456789012345678901234567890}", "{"+own+", \"b\":\t1e5, \"a\" : \"\\u4f60你\",\"n\":123456789012345678901234567890}")
	post("present", `{"x":1,"component_appid":"wx9"}`, `{"x":1,"component_appid":"wx9"}`)
	post("present, escaped", `{"component\u005fappid":"wx9"}`, `{"component\u005fappid":"wx9"}`)
	post("null", `{"component_appid":null}`, "{"+own+"}")
	post("nested only", `{"x":{"component_appid":"wx9"}}`, "{"+own+`,"x":{"component_appid":"wx9"}}`)
	for _, body := range []string{"[]", `{"a":`, `{"a":1,}`, "a=b&c=d", "\ufeff{}", `{"a":1}{}`, `"x"`, "--x\r\n"} {
		post("no object", body, body)
	}
	large := `{"x":"` + strings.Repeat("x", 2<<20) + `"}`
	post("streamed", large, large)
	f("chunked", "POST "+componentPath+" HTTP/1.1\r\nHost: api.weixin.qq.com\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "", "{"+own+"}")
	f("authorizer", request("POST", authorizerPath, "{}"), "", "{}")

	f("component_secret", request("POST", "/cgi-bin/component/api_start_push_ticket", `{"component_secret":["own"]}`), "", "{"+own+`,"component_secret":"`+componentSecret+`"}`)
	f("appsecret", request("POST", "/cgi-bin/component/clear_quota/v2", `{"appsecret":"a","x":1,"appsecret":2}`), "", "{"+own+`,"appsecret":"`+componentSecret+`","x":1,"appsecret":"`+componentSecret+`"}`)
	f("account's appsecret", request("POST", "/cgi-bin/clear_quota/v2", "", "X-Wechat-Appid: "+direct), "", `{"appid":"`+direct+`","appsecret":"`+appSecret+`"}`)
	if log := s.log.String(); strings.Contains(log, appSecret) || strings.Contains(log, componentSecret) {
		t.Error("a secret is in the log")
	}
}
