package proxy

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"lingpai/tokens/wechat/wechattest"
)

// Whatever form a token is asked for in, a placeholder is the answer.
func TestTokenRequests(t *testing.T) {
	s, sim := withWeChat(t, nil)
	f := func(rule, text, want string) {
		t.Helper()
		r := s.call(text)
		if r.status != 200 || !strings.Contains(r.body, want) {
			t.Errorf("%s: %d %s, want %s", rule, r.status, r.body, want)
		}
		if r.header.Get("Cache-Control") != "no-store" || r.header.Get("Content-Type") != "application/json" || r.header.Get("X-Openapi-Seqid") != "" || len(r.header["Date"]) != 1 {
			t.Errorf("%s: %s", rule, r.head)
		}
	}
	const token, stable, of = "/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/component/api_authorizer_token"
	const ours, directs = `"access_token":"lingpai-authorizer-` + authorizer + `"`, `"access_token":"lingpai-account-` + direct + `"`
	f("query", get(token+"?grant_type=client_credential&appid="+direct+"&secret=x"), directs)
	f("percent-encoded", get(token+"?app%69d="+direct), directs)
	f("form", request("POST", token, "grant_type=client_credential&appid="+direct+"&secret=x"), directs)
	f("JSON", request("POST", token, `{"appid":"`+direct+`"}`), directs)
	f("query above body", request("POST", token+"?appid="+direct, `{"appid":"`+authorizer+`"}`), directs)
	f("the call's own appid above the header", get(token+"?appid="+direct, "X-Wechat-Appid: "+authorizer), directs)
	f("header", get(token, "X-Wechat-Appid: "+direct), directs)
	f("from_appid", get(token+"?from_appid="+direct), directs)
	f("prefix", get("/@"+direct+token), directs)
	f("placeholder", get(token+"?access_token=lingpai-account-"+direct), directs)
	f("default", get(token), ours)
	f("foreign token", get(token+"?access_token=57_foreign"), ours)
	f("body", request("POST", stable, ` {"appid":"`+direct+`","force_refresh":"false","secret":5}`), directs)
	f("byte order mark", request("POST", stable, "\ufeff"+`{"appid":"`+direct+`"}`), directs)
	f("number for an appid", request("POST", stable, `{"appid":5}`), `"errcode":40013`)
	f("no JSON", request("POST", stable, `appid=`+direct), `"errcode":47001`)
	f("array", request("POST", stable, `["`+direct+`"]`), `"errcode":47001`)
	f("GET", get(stable+"?appid="+direct), `"errcode":43002`)
	f("chunked", "POST "+stable+" HTTP/1.1\r\nHost: api.weixin.qq.com\r\nTransfer-Encoding: chunked\r\n\r\n"+itoaHex(len(direct)+13)+"\r\n"+`{"appid":"`+direct+`" }`+"\r\n0\r\n\r\n", directs)
	f("authorizer", request("POST", of, `{"authorizer_appid":"`+authorizer+`"}`), `"authorizer_refresh_token":"lingpai-refresh-`+authorizer+`"`)
	f("authorizer by header", request("POST", of, `{}`, "X-Wechat-Appid: "+authorizer), `"authorizer_access_token":"lingpai-authorizer-`)
	f("another platform", request("POST", of, `{"component_appid":"wxffffffffffffffff","authorizer_appid":"`+authorizer+`"}`), `"errcode":40013`)
	f("the platform", get(token+"?appid="+platform), `"errcode":61024`)
	if r := s.call(request("POST", of, `{"authorizer_appid":"wxcccccccccccccccc"}`)); r.status != 404 {
		t.Errorf("an unknown authorizer: %d %s", r.status, r.body)
	}
	if r := s.call("HEAD " + token + " HTTP/1.1\r\nHost: api.weixin.qq.com\r\n\r\n"); r.status != 200 || r.body != "" {
		t.Errorf("HEAD: %d %q", r.status, r.body)
	}
	if r := s.call(request("POST", stable, strings.Repeat(" ", 1<<20+1))); r.status != 413 {
		t.Errorf("a long body: %d", r.status)
	}
	for _, value := range sim.Secrets() {
		if strings.Contains(s.log.String(), value) {
			t.Error("a secret is in the log")
		}
	}
}

// A call that is answered without its body being read leaves the connection
// usable: the body is not taken for the next request.
func TestUnreadBodiesAreNoRequests(t *testing.T) {
	s, _ := withWeChat(t, nil)
	smuggled := get("/cgi-bin/menu/get?smuggled=1")
	for _, first := range []string{
		request("PUT", "/cgi-bin/stable_token", smuggled), request("GET", "/_lingpai/v1/health", smuggled),
		request("POST", "/_lingpai/v1/health", smuggled), request("GET", "/_lingpai/v1/jssdk-signature?url=https%3A%2F%2Fe.com", smuggled),
	} {
		c := s.dial()
		c.send(first + get("/cgi-bin/token"))
		c.receive("GET")
		if r := c.receive("GET"); !strings.Contains(r.body, "lingpai-authorizer-") {
			t.Errorf("after %.40q: %s", first, r.body)
		}
		c.Close()
	}
}

// Answers with tokens come back with placeholders, or not at all.
func TestAnswersWithTokensAreMaskedOrRefused(t *testing.T) {
	s, sim := withWeChat(t, nil)
	const info, list = "/cgi-bin/component/api_get_authorizer_info", "/cgi-bin/component/api_get_authorizer_list"
	call := func(path string) reply {
		r := s.call(request("POST", path, `{"authorizer_appid":"`+authorizer+`","offset":0,"count":500}`))
		for _, value := range sim.Secrets() {
			if strings.Contains(r.body, value) {
				t.Errorf("%s: a secret is in the answer", path)
			}
		}
		return r
	}
	for i := range 499 {
		sim.AddAuthorizer("wx" + strings.Repeat("0", 13) + itoaHex(0x100+i))
	}
	for _, path := range []string{info, list} {
		if r := call(path); r.status != 200 || !strings.Contains(r.body, "lingpai-refresh-"+authorizer) {
			t.Errorf("%s: %d %.200s", path, r.status, r.body)
		}
		for _, fault := range []wechattest.Fault{
			{Kind: wechattest.FaultGarbage, AfterEffect: true}, {Kind: wechattest.FaultHuge, Size: 5 << 20}, {Kind: wechattest.FaultTruncated}, {Kind: wechattest.FaultEmpty},
		} {
			fault.Path = path
			id := sim.AddFault(fault)
			if r := call(path); r.status != 502 || !strings.Contains(r.body, `"errcode":990502`) {
				t.Errorf("%s %s: %d %.200s", path, fault.Kind, r.status, r.body)
			}
			sim.RemoveFault(id)
		}
		id := sim.AddFault(wechattest.Fault{Path: path, Kind: wechattest.FaultErrcode, Errcode: 61003})
		if r := call(path); r.status != 200 || errcodeOf([]byte(r.body)) != 61003 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		sim.RemoveFault(id)
	}
	if r := s.call(get("/cgi-bin/menu/get", "X-Wechat-Appid: wx0000000000000100")); r.status != 200 || errcodeOf([]byte(r.body)) != 0 {
		t.Errorf("a listed authorizer: %d %s", r.status, r.body)
	}
}

const ticketPath = "/cgi-bin/ticket/getticket"

// Those who wait for a failing call share its answer; the next call asks anew.
func TestFailuresOfCachedCallsAreShared(t *testing.T) {
	s, sim := withWeChat(t, nil)
	s.call(get("/cgi-bin/token"))
	delay := sim.AddFault(wechattest.Fault{Path: ticketPath, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(3e8)})
	id := sim.AddFault(wechattest.Fault{Path: ticketPath, Kind: wechattest.FaultErrcode, Errcode: 45009})
	var all sync.WaitGroup
	clients := make([]*client, 200)
	for i := range clients {
		clients[i] = s.dial()
	}
	for _, c := range clients {
		all.Go(func() {
			c.send(get(ticketPath + "?type=jsapi"))
			if r := c.receive("GET"); errcodeOf([]byte(r.body)) != 45009 || r.header.Get("Cache-Status") == "" {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	all.Wait()
	if n := sim.Count(ticketPath); n > 10 {
		t.Errorf("%d calls for 200 that failed together", n)
	}
	sim.RemoveFault(id)
	sim.RemoveFault(delay)
	before := sim.Count(ticketPath)
	for _, target := range []string{ticketPath + "?type=jsapi&a=1", "/" + ticketPath + "?a=1&type=jsapi", "/cgi-bin/./ticket/getticket?type=jsapi&a=1"} {
		if r := s.call(get(target)); !strings.Contains(r.body, `"ticket"`) || r.header.Get("X-Openapi-Seqid") == "" {
			t.Errorf("%s: %d %s", target, r.status, r.body)
		}
	}
	if n := sim.Count(ticketPath) - before; n != 1 {
		t.Errorf("%d calls for three spellings of one, want 1", n)
	}
	if r := s.call(get(ticketPath+"?type=jsapi&a=1", "cache-control: max-age=0", "cache-control: no-cache")); r.header.Get("Cache-Status") != "lingpai; fwd=request; stored" {
		t.Errorf("no-cache in lower case: %s", r.head)
	}
}

func TestOwnPaths(t *testing.T) {
	s, sim := withWeChat(t, nil)
	f := func(text string, wantStatus int, wantIn string) reply {
		t.Helper()
		r := s.call(text)
		if r.status != wantStatus || !strings.Contains(r.body, wantIn) {
			t.Errorf("%.80q: %d %s, want %d %s", text, r.status, r.body, wantStatus, wantIn)
		}
		return r
	}
	const health, sign, link = "/_lingpai/v1/health", "/_lingpai/v1/jssdk-signature", "/_lingpai/v1/authorization-link"
	f(get("/"+health), 200, "ok")
	f(get("/cgi-bin/../%5flingpai/v1/health"), 200, "ok")
	f(get("/_lingpai/v2"), 404, "990404")
	for text, allow := range map[string]string{request("POST", health, "x"): "GET, HEAD", request("POST", sign, "x"): "GET", get(link): "POST"} {
		if r := f(text, 405, "990405"); r.header.Get("Allow") != allow {
			t.Errorf("Allow: %q", r.header.Get("Allow"))
		}
	}
	f(get(sign), 400, "url must be")
	f(get(sign+"?url=%2Frelative"), 400, "url must be")
	f(get(sign+"?url=https://e.com/?a=1&b=2"), 400, "percent-encoded")
	f(get(sign+"?url=https%3A%2F%2Fe.com%2F%3Fa%3D1%26b%3D2%23top"), 200, `"signature"`)
	f(get(sign+"?url=https%3A%2F%2Fe.com", "X-Wechat-Appid: wxcccccccccccccccc"), 404, "990404")
	for _, body := range []string{
		`[]`, `{"x":1}`, `{"redirect_uri":"https://e.com"} {}`, `{"redirect_uri":"https://e.com","auth_type":"3"}`, `{"redirect_uri":"https://e.com","auth_type":7}`,
		`{"redirect_uri":"javascript:x"}`, `{}`, `{"redirect_uri":"https://e.com","biz_appid":"a b"}`, `{"redirect_uri":"https://e.com","category_id_list":"1,2"}`,
	} {
		f(request("POST", link, body), 400, "990400")
	}
	codes := map[string]bool{}
	for range 3 {
		var got struct {
			Code    string `json:"pre_auth_code"`
			Expires int    `json:"expires_in"`
		}
		r := f(request("POST", link, `{"redirect_uri":"https://e.com/?a=1&b=2","auth_type":6,"category_id_list":"1|2"}`), 200, "pc_url")
		if json.Unmarshal([]byte(r.body), &got); got.Expires != 1800 {
			t.Errorf("%s", r.body)
		}
		codes[got.Code] = true
	}
	if len(codes) != 3 {
		t.Error("a pre_auth_code was given twice")
	}
	sim.AddFault(wechattest.Fault{Path: "/cgi-bin/component/api_create_preauthcode", Kind: wechattest.FaultErrcode, Errcode: 45009})
	f(request("POST", link, `{"redirect_uri":"https://e.com"}`), 502, "errcode 45009")
}
