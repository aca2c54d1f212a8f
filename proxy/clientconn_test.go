package proxy

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// apart returns how many connections wait apart.
func (s *sidecar) apart() (n int) {
	s.server.mu.Lock()
	h := s.server.current.conns
	s.server.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		if c.parked {
			n++
		}
	}
	return n
}

// startQuiet starts a sidecar whose connections wait apart soon.
func startQuiet(t *testing.T, change func(*ServerConfig)) *sidecar {
	t.Helper()
	return start(t, newPeer(t, okAnswer).url(), func(_ *Config, l *ServerConfig) {
		l.quietAfter = 10 * time.Millisecond
		if change != nil {
			change(l)
		}
	})
}

func TestQuietConnectionsWaitApart(t *testing.T) {
	s := startQuiet(t, nil)
	var all []*client
	for range 20 {
		all = append(all, s.dial())
	}
	for round := range 3 {
		for i, c := range all {
			switch i % 3 {
			case 0:
				c.send(get("/x"))
			case 1:
				for _, part := range strings.SplitAfter(request("POST", "/x", "body"), "") { // one byte at a time
					c.send(part)
				}
			case 2:
				c.send("POST /x HTTP/1.1\r\nHost: api.weixin.qq.com\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
			}
			if r := c.receive("GET"); r.status != 200 {
				t.Fatalf("round %d, connection %d: status %d", round, i, r.status)
			}
		}
		eventually(t, "all connections wait apart", func() bool { return s.apart() == len(all) })
	}
	all[0].Close()
	eventually(t, "one that the app closes is forgotten", func() bool { return s.apart() == len(all)-1 })
	if err := s.server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	for i, c := range all[1:] {
		if !c.closed() {
			t.Errorf("connection %d stays open after Shutdown", i+1)
		}
	}
}

func TestReloadClosesQuietConnections(t *testing.T) {
	s := startQuiet(t, nil)
	c := s.dial()
	c.send(get("/x"))
	c.receive("GET")
	eventually(t, "it waits apart", func() bool { return s.apart() == 1 })
	limits := s.limits
	limits.MaxHeader = 8 << 10
	s.server.Reconfigure(limits)
	if !c.closed() {
		t.Error("a quiet connection of the former limits stays open")
	}
}

func TestQuietConnectionsEnd(t *testing.T) {
	s := startQuiet(t, func(l *ServerConfig) { l.IdleTimeout = 200 * time.Millisecond })
	c := s.dial()
	c.send(get("/x"))
	c.receive("GET")
	began := time.Now()
	eventually(t, "it waits apart", func() bool { return s.apart() == 1 })
	if !c.closed() {
		t.Fatal("it stays open")
	}
	if took := time.Since(began); took < 150*time.Millisecond || took > 5*time.Second {
		t.Errorf("closed after %v", took)
	}
}

// A call of which a part has come is no quiet connection, be that part behind
// another call or the first there is.
func TestHalfACallIsNotQuiet(t *testing.T) {
	s := startQuiet(t, func(l *ServerConfig) { l.HeaderTimeout = 400 * time.Millisecond })
	whole, half := get("/x"), "GET /y HTTP/1.1\r\nHo"
	for rule, text := range map[string]string{"first on a connection": half, "behind another call": whole + half} {
		c := s.dial()
		c.send(text)
		if text != half {
			c.receive("GET")
		}
		time.Sleep(100 * time.Millisecond) // far longer than a connection must be quiet
		c.send("st: api.weixin.qq.com\r\n\r\n")
		if r := c.receive("GET"); r.status != 200 {
			t.Errorf("%s: status %d", rule, r.status)
		}
		c.send(half)
		if r := c.receive("GET"); r.status != 408 || !c.closed() {
			t.Errorf("%s: status %d of a call that never ends", rule, r.status)
		}
	}
}

// Answers are held until the next call is waited for; none may be lost, or stay
// behind.
func TestHeldAnswers(t *testing.T) {
	sizes := []int{0, 1, 4000, 5000, 9000, 70_000, 300_000}
	for _, size := range sizes {
		answer := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + itoa(size) + "\r\n\r\n" + strings.Repeat("a", size)
		s := start(t, newPeer(t, answer).url(), nil)
		whole := func(rule string, r reply) {
			t.Helper()
			if r.status != 200 || len(r.body) != size || r.err != nil {
				t.Errorf("%d bytes, %s: status %d, %d bytes, %v", size, rule, r.status, len(r.body), r.err)
			}
		}
		c := s.dial()
		c.send(get("/x"))
		whole("kept open", c.receive("GET"))
		c.send(get("/x") + get("/y"))
		whole("first of two at once", c.receive("GET"))
		whole("second of two at once", c.receive("GET"))
		c.send(get("/x", "Connection: close"))
		whole("closed", c.receive("GET"))
		if !c.closed() {
			t.Errorf("%d bytes: stays open", size)
		}
		old := s.dial()
		io.WriteString(old, "GET /x HTTP/1.0\r\nHost: api.weixin.qq.com\r\n\r\n")
		whole("HTTP/1.0", old.receive("GET"))
	}
}

// A shutdown may fall between an answer and the wait for the next call.
func TestShutdownLosesNoHeldAnswer(t *testing.T) {
	p := newPeer(t, okAnswer)
	for range 30 {
		s := start(t, p.url(), nil)
		before := len(p.requests())
		c := s.dial()
		c.send(get("/x"))
		eventually(t, "the call has been sent on", func() bool { return len(p.requests()) > before })
		done := make(chan error, 1)
		go func() { done <- s.server.Shutdown(context.Background()) }()
		if r, err := c.tryReceive("GET"); err != nil || r.status != 200 {
			t.Fatalf("status %d, %v", r.status, err)
		}
		<-done
	}
}
