package proxy

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const line = "POST /x HTTP/1.1\r\nHost: api.weixin.qq.com\r\n"

func TestMalformedRequests(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), nil)
	f := func(rule, text string) {
		t.Helper()
		c := s.dial()
		c.send(text)
		c.Conn.(*net.TCPConn).CloseWrite()
		r := c.receive("POST")
		if r.status != 400 || !strings.Contains(r.body, `{"errcode":990400,"errmsg":"lingpai: `) {
			t.Errorf("%s: status %d: %s", rule, r.status, r.body)
		}
		if !c.closed() {
			t.Errorf("%s: the connection stays open", rule)
		}
		if got := p.requests(); len(got) > 0 {
			t.Fatalf("%s: %q reached the upstream", rule, got[0].head)
		}
	}
	const chunked = "Transfer-Encoding: chunked\r\n"
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: api.weixin.qq.com\r\n\r\n"
	f("length and chunked", line+"Content-Length: 5\r\n"+chunked+"\r\n0\r\n\r\n"+smuggled)
	f("chunked and length", line+chunked+"Content-Length: 5\r\n\r\n0\r\n\r\n"+smuggled)
	f("two lengths", line+"Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc"+smuggled)
	f("a list of lengths", line+"Content-Length: 3, 3\r\n\r\nabc"+smuggled)
	f("a signed length", line+"Content-Length: +3\r\n\r\nabc"+smuggled)
	f("a hexadecimal length", line+"Content-Length: 0x3\r\n\r\nabc"+smuggled)
	f("a negative length", line+"Content-Length: -3\r\n\r\nabc"+smuggled)
	f("an empty length", line+"Content-Length:\r\n\r\n"+smuggled)
	f("a huge length", line+"Content-Length: 99999999999999999999999\r\n\r\n"+smuggled)
	f("length without case, twice", line+"content-length: 3\r\nCONTENT-LENGTH: 3\r\n\r\nabc"+smuggled)
	f("folded line", line+"A: b\r\n c\r\n\r\n"+smuggled)
	f("folded length", line+"Content-Length:\r\n 3\r\n\r\nabc"+smuggled)
	f("a first line that is folded", "POST /x HTTP/1.1\r\n Host: a\r\nHost: api.weixin.qq.com\r\n\r\n"+smuggled)
	f("space before the colon", line+"Content-Length : 3\r\n\r\nabc"+smuggled)
	f("space before the colon of the encoding", line+"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"+smuggled)
	f("CR in a value", line+"A: b\rContent-Length: 3\r\n\r\n"+smuggled)
	f("NUL in a value", line+"A: b\x00\r\n\r\n"+smuggled)
	f("gzip", line+"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"+smuggled)
	f("chunked twice", line+"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"+smuggled)
	f("two encodings", line+chunked+chunked+"\r\n0\r\n\r\n"+smuggled)
	f("identity", line+"Transfer-Encoding: identity\r\n\r\n"+smuggled)
	f("identity with a length", line+"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc"+smuggled)
	f("unknown encoding", line+"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"+smuggled)
	f("chunked in HTTP/1.0", "POST /x HTTP/1.0\r\nHost: api.weixin.qq.com\r\n"+chunked+"\r\n0\r\n\r\n"+smuggled)
	f("no Host", "GET /x HTTP/1.1\r\n\r\n"+smuggled)
	f("two Hosts", "GET /x HTTP/1.1\r\nHost: api.weixin.qq.com\r\nHost: api.weixin.qq.com\r\n\r\n"+smuggled)
	f("no version", "GET /x\r\n\r\n"+smuggled)
	f("another version", "GET /x HTTP/2.0x\r\nHost: api.weixin.qq.com\r\n\r\n"+smuggled)
	f("space in the target", "GET /x y HTTP/1.1\r\nHost: api.weixin.qq.com\r\n\r\n"+smuggled)
	f("a line without colon", line+"A\r\n\r\n"+smuggled)
	f("no hexadecimal chunk size", line+chunked+"\r\nxyz\r\n"+smuggled)
	f("negative chunk size", line+chunked+"\r\n-1\r\n\r\n"+smuggled)
	f("chunk longer than its size", line+chunked+"\r\n3\r\nabcd\r\n0\r\n\r\n"+smuggled)
	f("chunked without end", line+chunked+"\r\n3\r\nabc\r\n")
	f("chunk cut short", line+chunked+"\r\nff\r\nabc")
	f("body cut short", line+"Content-Length: 10\r\n\r\nabc")
	f("long body cut short", line+"Content-Length: 100000\r\n\r\n"+strings.Repeat("a", 50000))
	f("header cut short", line+"A: b\r\n")
}

func TestChunkedVariants(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), nil)
	f := func(rule, body, want string) {
		t.Helper()
		c := s.dial()
		c.send(line + "Transfer-Encoding: chunked\r\n\r\n" + body + get("/next"))
		if r := c.receive("POST"); r.status != 200 {
			t.Fatalf("%s: status %d: %s", rule, r.status, r.body)
		}
		c.receive("GET")
		got := p.requests()
		if len(got) != 2 || string(got[0].body) != want || !strings.HasPrefix(got[1].target(), "/next") {
			t.Fatalf("%s: upstream got %v", rule, got)
		}
		p.mu.Lock()
		p.got = nil
		p.mu.Unlock()
	}
	f("plain", "3\r\nabc\r\n0\r\n\r\n", "abc")
	f("extensions", "3;a=\"b\";c\r\nabc\r\n0;x\r\n\r\n", "abc")
	f("leading zeros and capitals", "00A\r\n0123456789\r\n0\r\n\r\n", "0123456789")
	f("a trailer section is dropped", "1\r\na\r\n0\r\nX-T: 1\r\n\r\n", "a")
	f("empty", "0\r\n\r\n", "")
}

// After an early answer what is left of the body must not be taken for a
// request.
func TestUnreadBodies(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), func(c *Config, l *ServerConfig) {
		c.MaxBody, c.ReplayMaxBody = 1<<20, 1<<10
		c.Upstream.Hosts["refused.example"] = "http://127.0.0.1:1"
	})
	smuggled := "GET /smuggled HTTP/1.1\r\nHost: api.weixin.qq.com\r\n\r\n"
	small := smuggled + strings.Repeat(smuggled, 3)
	large := strings.Repeat(smuggled, 300<<10/len(smuggled))
	f := func(rule string, want int, head, body string) {
		t.Helper()
		c := s.dial()
		go io.WriteString(c, head+body)
		r := c.receive("POST")
		if r.status != want {
			t.Errorf("%s: status %d, want %d: %s", rule, r.status, want, r.body)
		}
		io.WriteString(c, get("/next"))
		for {
			r, err := c.tryReceive("GET")
			if err != nil {
				break
			}
			if r.status == 200 || want == 429 && r.status == 429 {
				break
			}
			t.Errorf("%s: another answer, %d", rule, r.status)
		}
		for _, got := range p.requests() {
			if strings.Contains(got.head, "smuggled") {
				t.Fatalf("%s: the body became a request", rule)
			}
		}
	}
	for name, body := range map[string]string{"small": small, "large": large} {
		length := "Content-Length: " + itoa(len(body)) + "\r\n"
		chunked := itoaHex(len(body)) + "\r\n" + body + "\r\n0\r\n\r\n"
		post := "POST /x HTTP/1.1\r\nHost: api.weixin.qq.com\r\n"
		f(name+" body, malformed field", 400, post+length+"X-Wechat-Token: x\r\n\r\n", body)
		f(name+" body, unknown host", 403, "POST /x HTTP/1.1\r\nHost: evil.example\r\n"+length+"\r\n", body)
		f(name+" body, unknown account", 404, post+length+"X-Wechat-Appid: wxunknown\r\n\r\n", body)
		f(name+" body, own path", 404, "POST /_lingpai/x HTTP/1.1\r\nHost: api.weixin.qq.com\r\n"+length+"\r\n", body)
		f(name+" chunked body, unknown host", 403, "POST /x HTTP/1.1\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\r\n", chunked)
		f(name+" body, upstream refused", 502, "POST /x HTTP/1.1\r\nHost: refused.example\r\n"+length+"\r\n", body)
	}
	s.proxy.inFlight.Add(int64(s.config.MaxInFlight))
	f("large body, too many calls", 429, line+"Content-Length: "+itoa(len(large))+"\r\n\r\n", large)
	f("small body, too many calls", 429, line+"Content-Length: "+itoa(len(small))+"\r\n\r\n", small)
	s.proxy.inFlight.Add(-int64(s.config.MaxInFlight))
	tooLong := strings.Repeat(smuggled, 2<<20/len(smuggled))
	f("body too long", 413, line+"Content-Length: "+itoa(len(tooLong))+"\r\n\r\n", tooLong)
}

// A streamed body that WeChat does not want to the end must not be taken for a
// request either.
func TestEarlyAnswerToStreamedBody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 1024)
				c.Read(buf)
				io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
				c.(*net.TCPConn).CloseWrite()
				io.CopyN(io.Discard, c, 64<<10)
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}()
		}
	}()
	s := start(t, "http://"+l.Addr().String(), func(c *Config, _ *ServerConfig) { c.ReplayMaxBody = 1 << 10 })
	smuggled := "GET http://evil.example/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	body := strings.Repeat(smuggled, 16<<20/len(smuggled))
	c := s.dial()
	go io.WriteString(c, line+"Content-Length: "+itoa(len(body))+"\r\n\r\n"+body)
	r := c.receive("POST")
	if r.status != 413 && r.status != 502 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if r, err := c.tryReceive("GET"); err == nil {
		t.Fatalf("the rest of the body was answered with %d", r.status)
	}
}

func TestPipelinedRequests(t *testing.T) {
	p := newPeerWith(t, func(_ *peer, c net.Conn, r received) bool {
		body := r.target() + string(r.body)
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+itoa(len(body))+"\r\n\r\n"+body)
		return err == nil
	})
	s := start(t, p.url(), nil)
	c := s.dial()
	c.send(get(nonePath+"?1") + request("POST", nonePath+"?2", "body") + get("/x", "X-Wechat-Token: x") + get(nonePath+"?4"))
	for _, want := range []string{nonePath + "?1", nonePath + "?2body", "", nonePath + "?4"} {
		if r := c.receive("GET"); want != "" && r.body != want || want == "" && r.status != 400 {
			t.Errorf("answer %d %q, want %q", r.status, r.body, want)
		}
	}
}

// A call may come while the one before it is under way, and none may wait for
// more to come behind it.
func TestPipelinedWhileUnderWay(t *testing.T) {
	answer := make(chan string)
	p := newPeerWith(t, func(_ *peer, c net.Conn, r received) bool {
		_, err := io.WriteString(c, <-answer)
		return err == nil
	})
	t.Cleanup(func() { close(answer) })
	s := start(t, p.url(), nil)
	c := s.dial()
	c.send(get("/a"))
	for range 5 {
		eventually(t, "the call has been sent on", func() bool { return len(p.requests()) == 1 })
		p.mu.Lock()
		p.got = nil
		p.mu.Unlock()
		second := get("/b")
		c.send(second[:20])
		c.send(second[20:])
		answer <- okAnswer
		c.SetReadDeadline(time.Now().Add(2 * time.Second))
		if r, err := c.tryReceive("GET"); err != nil || r.status != 200 {
			t.Fatalf("status %d, %v", r.status, err)
		}
	}
	answer <- okAnswer
	if r, err := c.tryReceive("GET"); err != nil || r.status != 200 {
		t.Fatalf("status %d, %v", r.status, err)
	}
}
