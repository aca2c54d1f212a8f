package proxy

import (
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int) string    { return strconv.Itoa(n) }
func itoaHex(n int) string { return strconv.FormatInt(int64(n), 16) }

func TestHeaderLimits(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), func(_ *Config, l *ServerConfig) { l.MaxHeader = 4 << 10 })
	f := func(rule, text string, want int) {
		t.Helper()
		c := s.dial()
		go io.WriteString(c, text)
		r := c.receive("GET")
		if r.status != want {
			t.Errorf("%s: status %d, want %d: %s", rule, r.status, want, r.body)
		}
		if want != 200 && !c.closed() {
			t.Errorf("%s: the connection stays open", rule)
		}
	}
	f("a long header that fits", get("/"+strings.Repeat("a", 1500), "A: "+strings.Repeat("b", 2000)), 200)
	f("header too long", get("/x", "A: "+strings.Repeat("b", 5000)), 431)
	f("header of many fields too long", get("/x", strings.Repeat("A: b\r\n", 2000)+"C: d"), 431)
	f("request line too long", get("/"+strings.Repeat("a", 5000)), 414)
	f("request line much too long", get("/"+strings.Repeat("a", 500000)), 414)

	c := s.dial() // the second request of a connection is told apart as well
	for range 2 {
		c.send(get("/x"))
		c.receive("GET")
	}
	go io.WriteString(c, get("/"+strings.Repeat("a", 5000)))
	if r := c.receive("GET"); r.status != 414 {
		t.Errorf("request line too long, later on a connection: status %d", r.status)
	}
}

func TestSlowClients(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), func(_ *Config, l *ServerConfig) {
		l.HeaderTimeout, l.IdleTimeout = 150*time.Millisecond, 250*time.Millisecond
	})
	f := func(rule, text string, want int, least time.Duration) {
		t.Helper()
		c := s.dial()
		began := time.Now()
		c.send(text)
		r, err := c.tryReceive("GET")
		if want == 0 && err == nil || want != 0 && r.status != want {
			t.Errorf("%s: status %d, %v, want %d", rule, r.status, err, want)
		}
		if !c.closed() {
			t.Errorf("%s: the connection stays open", rule)
		}
		if took := time.Since(began); took < least || took > 5*time.Second {
			t.Errorf("%s: closed after %v", rule, took)
		}
	}
	f("nothing at all", "", 408, 100*time.Millisecond)
	f("half a request line", "GET /x", 408, 100*time.Millisecond)
	f("half a header", "GET /x HTTP/1.1\r\nHost: a\r\n", 408, 100*time.Millisecond)
	f("idle after a call", get("/x"), 200, 200*time.Millisecond)
	if len(p.requests()) != 1 {
		t.Errorf("upstream got %d requests", len(p.requests()))
	}
}

func TestBodyLimit(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), func(c *Config, l *ServerConfig) { c.MaxBody, l.MaxBody = 100_000, 100_000 })
	f := func(rule, head, body string, want int) {
		t.Helper()
		c := s.dial()
		go io.WriteString(c, head+body)
		r := c.receive("POST")
		if r.status != want {
			t.Errorf("%s: status %d: %s", rule, r.status, r.body)
		}
		if want == 413 && (!c.closed() || !strings.Contains(r.body, `"errcode":990413`)) {
			t.Errorf("%s: %s", rule, r.body)
		}
	}
	chunked := func(n int) string {
		return strings.Repeat("3e8\r\n"+strings.Repeat("a", 1000)+"\r\n", n/1000) + "0\r\n\r\n"
	}
	f("announced, at the limit", line+"Content-Length: 100000\r\n\r\n", strings.Repeat("a", 100_000), 200)
	f("chunked, at the limit", line+"Transfer-Encoding: chunked\r\n\r\n", chunked(100_000), 200)
	p.mu.Lock()
	p.got = nil
	p.mu.Unlock()
	for range 10 { // a client that has written all of it must see the answer, not a reset
		f("announced, over the limit", line+"Content-Length: 100001\r\n\r\n", strings.Repeat("a", 100_001), 413)
		f("announced, far over the limit", line+"Content-Length: 8000000\r\n\r\n", strings.Repeat("a", 8_000_000), 413)
		f("chunked, over the limit", line+"Transfer-Encoding: chunked\r\n\r\n", chunked(101_000), 413)
		f("chunked, far over the limit", line+"Transfer-Encoding: chunked\r\n\r\n", chunked(8_000_000), 413)
	}
	f("announced, nothing sent", line+"Content-Length: 4000000000\r\n\r\n", strings.Repeat("a", 8<<10), 413)
	if n := len(p.requests()); n > 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

// A client that sends all of its body before it looks for an answer gets it.
func TestRefusedUploadIsNotReset(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), func(c *Config, l *ServerConfig) { c.MaxBody, l.MaxBody = 1000, 1000 })
	c := s.dial()
	c.send(line + "Content-Length: 20000000\r\n\r\n" + strings.Repeat("a", 20_000_000))
	if r := c.receive("POST"); r.status != 413 {
		t.Errorf("status %d", r.status)
	}
}

func TestMaxInFlight(t *testing.T) {
	release := make(chan bool)
	p := newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
		<-release
		_, err := io.WriteString(c, okAnswer)
		return err == nil
	})
	s := start(t, p.url(), func(c *Config, _ *ServerConfig) { c.MaxInFlight = 2 })
	var clients []*client
	for range 2 {
		c := s.dial()
		c.send(get("/x"))
		clients = append(clients, c)
	}
	eventually(t, "two calls under way", func() bool { return len(p.requests()) == 2 })
	c := s.dial()
	c.send(get("/x"))
	r := c.receive("GET")
	if r.status != 429 || r.header.Get("Retry-After") != "1" || !strings.Contains(r.body, `"errcode":990429`) {
		t.Errorf("a third call: %d %v %s", r.status, r.header, r.body)
	}
	close(release)
	for _, c := range clients {
		if r := c.receive("GET"); r.status != 200 {
			t.Errorf("a call under way: %d", r.status)
		}
	}
	c.send(get("/x"))
	if r := c.receive("GET"); r.status != 200 {
		t.Errorf("the same connection later: %d", r.status)
	}
}

// An answer that is still on its way to the app is a call under way.
func TestStreamsAreInFlight(t *testing.T) {
	release := make(chan bool)
	p := newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat("a", 100_000))
		<-release
		io.WriteString(c, strings.Repeat("a", 100_000))
		return true
	})
	s := start(t, p.url(), nil)
	c := s.dial()
	c.send(get("/x"))
	if _, err := c.br.Peek(100); err != nil {
		t.Fatal(err)
	}
	if n := s.proxy.InFlight(); n != 1 {
		t.Errorf("%d calls under way, want 1", n)
	}
	close(release)
	if r := c.receive("GET"); len(r.body) != 200_000 {
		t.Errorf("got %d bytes", len(r.body))
	}
	eventually(t, "no call under way", func() bool { return s.proxy.InFlight() == 0 })
}
