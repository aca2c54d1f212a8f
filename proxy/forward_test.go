package proxy

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestForwardRequest(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), nil)
	host := "Host: " + p.Addr().String()
	f := func(rule, text, wantLine string, wantFields ...string) {
		t.Helper()
		if r := s.call(text); r.status != 200 {
			t.Fatalf("%s: status %d: %s", rule, r.status, r.body)
		}
		got := p.only(t)
		if got.line() != wantLine {
			t.Errorf("%s: line %q, want %q", rule, got.line(), wantLine)
		}
		if want := append([]string{host}, wantFields...); !slices.Equal(got.fields(), want) {
			t.Errorf("%s: fields %q, want %q", rule, got.fields(), want)
		}
	}
	token := "access_token=" + authorizerValue
	f("nothing is added but Host and the token", get(authorizerPath), "GET "+authorizerPath+"?"+token+" HTTP/1.1")
	f("path and query stay byte for byte", get("/cgi-bin//%61/./x;p?b=%7e&&a=+1&"), "GET /cgi-bin//%61/./x;p?b=%7e&&a=+1&&"+token+" HTTP/1.1")
	f("? alone", get("/x?"), "GET /x?"+token+" HTTP/1.1")
	f("no token, ? alone", get(nonePath+"?"), "GET "+nonePath+"? HTTP/1.1")
	f("no token, all of the query is lingpai's", get(nonePath+"?from_appid=wx1&access_token=x"), "GET "+nonePath+" HTTP/1.1")
	f("exactly one token", get("/x?access_token=&a=1&%61ccess_token=old&component_access_token=y&access_token"), "GET /x?a=1&"+token+" HTTP/1.1")
	f("the platform's token", get(componentPath), "GET "+componentPath+"?component_access_token="+componentValue+" HTTP/1.1")
	f("a direct account's token", get("/x", "X-Wechat-Appid: "+direct), "GET /x?access_token="+accountValue+" HTTP/1.1")
	f("app id in the query", get("/x?from_appid="+direct+"&a"), "GET /x?a&access_token="+accountValue+" HTTP/1.1")
	f("app id in the path", get("/@"+direct+"/x?a"), "GET /x?a&access_token="+accountValue+" HTTP/1.1")
	f("placeholder", get("/x?access_token=lingpai-account-"+direct), "GET /x?access_token="+accountValue+" HTTP/1.1")
	f("either, account named", get(eitherPath, "X-Wechat-Appid: "+authorizer), "GET "+eitherPath+"?"+token+" HTTP/1.1")
	f("either, none named", get(eitherPath), "GET "+eitherPath+"?access_token="+componentValue+" HTTP/1.1")
	f("a user's own token", get(userPath+"?access_token=u%2B&openid=o"), "GET "+userPath+"?access_token=u%2B&openid=o HTTP/1.1")
	f("override", get("/x", "X-Wechat-Token: none"), "GET /x HTTP/1.1")
	f("method", request("pUrGe", "/x", ""), "pUrGe /x?"+token+" HTTP/1.1")
	f("absolute form", "GET http://API.weixin.qq.com:80/x HTTP/1.1\r\nHost: evil.example\r\n\r\n", "GET /x?"+token+" HTTP/1.1")
	f("https absolute form", "GET https://api.weixin.qq.com:443/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?"+token+" HTTP/1.1")
	f("own name", "GET /x HTTP/1.1\r\nHost: "+s.addr+"\r\n\r\n", "GET /x?"+token+" HTTP/1.1")
	f("HTTP/1.0 without Host", "GET /x HTTP/1.0\r\n\r\n", "GET /x?"+token+" HTTP/1.1")
	f("a URL in the query", get("/x?url=http://evil.example/?a"), "GET /x?url=http://evil.example/?a&"+token+" HTTP/1.1")

	f("end-to-end fields stay as they are, in their order",
		get("/x", "coOkie: a=b; c=d", "X-A: 1", "user-agent: me", "x-a:2", "X-A:  3", "content-TYPE: Text/Plain ; a=b", "Wechatmp-Signature: Ab+/=", "Empty:"),
		"GET /x?"+token+" HTTP/1.1",
		"coOkie: a=b; c=d", "X-A: 1", "user-agent: me", "x-a:2", "X-A:  3", "content-TYPE: Text/Plain ; a=b", "Wechatmp-Signature: Ab+/=", "Empty:")
	f("hop-by-hop and lingpai's own fields go",
		get("/x", "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers", "Trailer: X-T", "Upgrade: websocket",
			"Proxy-Connection: close", "Proxy-Authorization: Basic eA==", "Accept-Encoding: gzip", "X-Wechat-Appid: "+authorizer, "X-Wechat-Other: 1",
			"X-Forwarded-For: 10.0.0.1", "x-forwarded-host: a", "Kept: 1"),
		"GET /x?"+token+" HTTP/1.1", "Kept: 1")
	f("a body's length stays as it is", request("POST", "/x", "abc", "A: 1"), "POST /x?"+token+" HTTP/1.1", "A: 1", "Content-Length: 3")
	f("a GET with a body", request("GET", "/x", "abc"), "GET /x?"+token+" HTTP/1.1", "Content-Length: 3")
	f("an empty body", get("/x", "Content-Length: 0"), "GET /x?"+token+" HTTP/1.1", "Content-Length: 0")
	f("a POST without body", request("POST", "/x", ""), "POST /x?"+token+" HTTP/1.1")
	f("a measured body gets its length", "POST /x HTTP/1.1\r\nHost: api.weixin.qq.com\r\nTransfer-Encoding: Chunked\r\nA: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST /x?"+token+" HTTP/1.1", "A: 1", "Content-Length: 3")
}

func TestForwardAnswer(t *testing.T) {
	p := newPeerWith(t, func(p *peer, c net.Conn, _ received) bool {
		text := *p.text.Load()
		_, err := io.WriteString(c, text)
		return err == nil && !strings.Contains(text, "lose")
	})
	s := start(t, p.url(), nil)
	f := func(rule, method, answer, wantLine, wantBody string, wantFields ...string) {
		t.Helper()
		p.say(answer)
		c := s.dial()
		for range 2 { // the second call shows that the connection is still good
			c.send(request(method, "/x", ""))
			r := c.receive(method)
			lines := strings.Split(strings.TrimSuffix(r.head, "\r\n\r\n"), "\r\n")
			if lines[0] != wantLine || r.body != wantBody || r.err != nil {
				t.Errorf("%s: %q with body %q (%v)", rule, lines[0], r.body, r.err)
			}
			got := lines[1:]
			slices.Sort(got)
			named := len(got)
			got = slices.DeleteFunc(got, func(field string) bool { return strings.HasPrefix(field, "X-Openapi-Seqid: ") })
			if named -= len(got); named != 1 {
				t.Errorf("%s: %d fields X-Openapi-Seqid", rule, named)
			}
			slices.Sort(wantFields)
			if !slices.Equal(got, wantFields) {
				t.Errorf("%s: fields %q, want %q", rule, got, wantFields)
			}
		}
	}
	f("nothing is added", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK", "hi", "Content-Length: 2")
	f("fields stay", "GET",
		"HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nServer: nginx\r\nContent-disposition: attachment; filename=\"a b\"\r\n"+
			"Set-Cookie: a=b; Path=/\r\nSet-Cookie: a=c\r\nX-A: 1\r\nx-a: 2\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK", "hi",
		"Date: Mon, 02 Jan 2006 15:04:05 GMT", "Server: nginx", "Content-disposition: attachment; filename=\"a b\"",
		"Set-Cookie: a=b; Path=/", "Set-Cookie: a=c", "X-A: 1", "x-a: 2", "Content-Type: text/plain", "Content-Length: 2")
	f("hop-by-hop fields go", "GET",
		"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nx-hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\nTrailer: X-T\r\nUpgrade: h2c\r\n"+
			"Kept: 1\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK", "hi", "Kept: 1", "Content-Length: 2")
	f("hop-by-hop fields go in any spelling", "GET",
		"HTTP/1.1 200 OK\r\nconnection: x-Hop\r\nX-HOP: 1\r\nkeep-alive: timeout=5\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK", "hi", "Content-Length: 2")
	f("a second Connection field counts", "GET",
		"HTTP/1.1 200 OK\r\nConnection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 1\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK", "hi", "Content-Length: 2")
	f("the end of WeChat's connection is not the client's", "GET",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nX-A: lose\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK", "hi", "X-A: lose", "Content-Length: 2")
	f("... in any spelling", "GET",
		"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nX-A: lose\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK", "hi", "X-A: lose", "Content-Length: 2")
	f("HEAD keeps the length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n", "HTTP/1.1 200 OK", "", "Content-Length: 5", "X-A: 1")
	f("HEAD of a chunked answer", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK", "")
	f("204", "GET", "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", "HTTP/1.1 204 No Content", "", "X-A: 1")
	f("304", "GET", "HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n", "HTTP/1.1 304 Not Modified", "", "Etag: x")
	f("412", "GET", "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 412 Precondition Failed", "no", "Content-Length: 2")
	f("500 with a reason of its own", "GET", "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 500 Oh", "no", "Content-Length: 2")
	f("302 is not followed", "GET", "HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 302 Found", "", "Location: http://x/", "Content-Length: 0")
	f("informational answers before the real one", "GET",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
		"HTTP/1.1 200 OK", "hi", "Content-Length: 2")
	f("an answer of HTTP/1.0 becomes one of HTTP/1.1", "GET", "HTTP/1.0 200 OK\r\nX-A: lose\r\n\r\nhi", "HTTP/1.1 200 OK", "hi", "X-A: lose", "Transfer-Encoding: chunked")
	f("an empty answer", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK", "", "Content-Length: 0")
}

// What stands behind an answer must not become the answer of another call.
func TestBytesBehindAnAnswer(t *testing.T) {
	calls := 0
	p := newPeerWith(t, func(_ *peer, c net.Conn, r received) bool {
		calls++
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%dHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", calls)
		return true
	})
	s := start(t, p.url(), nil)
	c := s.dial()
	for want := range 3 {
		c.send(get("/x"))
		if r := c.receive("GET"); r.body != fmt.Sprint(want+1) {
			t.Fatalf("call %d is answered %q", want+1, r.body)
		}
	}
}

func TestClientEndsConnection(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), nil)
	f := func(rule, text string, want bool) {
		t.Helper()
		c := s.dial()
		c.send(text)
		r := c.receive("GET")
		if !want {
			c.send(get("/x"))
			c.receive("GET")
			return
		}
		if !c.closed() {
			t.Errorf("%s: the connection stays open", rule)
		}
		if r.status == 200 && !strings.Contains(r.head, "\r\nConnection: close\r\n") {
			t.Errorf("%s: nothing says so: %q", rule, r.head)
		}
	}
	f("keep-alive", get("/x", "Connection: keep-alive"), false)
	f("close", get("/x", "Connection: close"), true)
	f("close without case", get("/x", "Connection: Close"), true)
	f("close among others", get("/x", "Connection: TE, close"), true)
	f("close of a call that is refused", get("/x", "Connection: CLOSE", "X-Wechat-Token: x"), true)
	f("HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", true)
	f("HTTP/1.0 kept alive", "GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false)
}
