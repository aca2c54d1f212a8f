package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"log/slog"

	"lingpai/metrics"
)

// waiting answers a call when told to.
func waiting(t *testing.T) (*peer, chan struct{}) {
	release := make(chan struct{})
	p := newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
		<-release
		_, err := io.WriteString(c, okAnswer)
		return err == nil
	})
	return p, release
}

func TestShutdownDrains(t *testing.T) {
	p, release := waiting(t)
	s := start(t, p.url(), nil)
	busy := s.dial()
	busy.send(get("/x"))
	eventually(t, "a call under way", func() bool { return len(p.requests()) == 1 })
	idle := s.dial()
	idle.send(get("/x", "X-Wechat-Token: x"))
	idle.receive("GET")
	done := make(chan error)
	go func() { done <- s.server.Shutdown(context.Background()) }()
	if !idle.closed() {
		t.Error("an idle connection stays open")
	}
	if err := <-s.served; err != nil {
		t.Errorf("Serve returns %v", err)
	}
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("connections are still accepted")
	}
	close(release)
	if r := busy.receive("GET"); r.status != 200 || r.header.Get("Connection") != "close" && !busy.closed() {
		t.Errorf("the call under way: %q", r.head)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown returns %v", err)
	}
}

func TestShutdownCuts(t *testing.T) {
	p, release := waiting(t)
	defer close(release)
	s := start(t, p.url(), nil)
	old := s.dial()
	old.send(get("/x"))
	eventually(t, "a call of the former limits", func() bool { return len(p.requests()) == 1 })
	limits := s.limits
	limits.MaxHeader = 8 << 10
	s.server.Reconfigure(limits)
	busy := s.dial()
	busy.send(get("/x"))
	eventually(t, "two calls under way", func() bool { return len(p.requests()) == 2 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returns %v", err)
	}
	if !busy.closed() || !old.closed() {
		t.Error("a call under way was not cut")
	}
}

func TestShutdownWaitsForFormerLimits(t *testing.T) {
	p, release := waiting(t)
	s := start(t, p.url(), nil)
	c := s.dial()
	c.send(get("/x"))
	eventually(t, "a call under way", func() bool { return len(p.requests()) == 1 })
	limits := s.limits
	limits.MaxHeader = 8 << 10
	s.server.Reconfigure(limits)
	done := make(chan error, 1)
	go func() { done <- s.server.Shutdown(context.Background()) }()
	<-s.served
	select {
	case err := <-done:
		t.Errorf("Shutdown returned %v while a call was under way", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if r := c.receive("GET"); r.status != 200 {
		t.Errorf("status %d", r.status)
	}
	<-done
}

// Neither reload loses a call: each is on a connection of its own, which no
// reload may refuse.
func TestReconfigureUnderLoad(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), nil)
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	var calls, failed atomic.Int32
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					failed.Add(1)
					continue
				}
				io.WriteString(c, request("POST", "/x", "body", "Connection: close"))
				answer, err := io.ReadAll(c)
				if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
					failed.Add(1)
					t.Logf("%v %q", err, answer)
				}
				calls.Add(1)
				c.Close()
			}
		})
	}
	limits, config := s.limits, s.config
	for i := range 30 {
		limits.MaxHeader = 8<<10 + i
		s.server.Reconfigure(limits)
		config.MaxInFlight = 1000 + i
		if err := s.proxy.Reconfigure(config); err != nil {
			t.Fatal(err)
		}
		before := calls.Load()
		eventually(t, "calls go on", func() bool { return calls.Load() > before+10 })
	}
	cancel()
	clients.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d calls failed", failed.Load(), calls.Load())
	}
	eventually(t, "former limits are forgotten", func() bool {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		return len(s.server.running) == 1
	})
}

func TestReconfigureKeepsWhatWorks(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), nil)
	bad := s.config
	bad.Upstream.URL = "ftp://x"
	if err := s.proxy.Reconfigure(bad); err == nil {
		t.Error("a wrong URL is taken")
	}
	if r := s.call(get("/x")); r.status != 200 {
		t.Errorf("status %d", r.status)
	}
}

func TestUnixSocket(t *testing.T) {
	p := newPeer(t, okAnswer)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	config, limits := testConfig(p.url())
	px, err := New(config, l.Addr(), newStubTokens(t), metrics.New("", "", ""), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(px, l, limits)
	go server.Serve()
	defer px.Close()
	defer server.Shutdown(t.Context())
	f := func(host string, want int) {
		t.Helper()
		conn, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(conn)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 "+itoa(want)) {
			t.Errorf("%s: %q", host, answer)
		}
	}
	f("localhost", 200)
	f("api.weixin.qq.com", 200)
	f("evil.example", 403)
}

func TestNoGoroutineIsLeft(t *testing.T) {
	run := func() {
		p := newPeer(t, okAnswer)
		s := start(t, p.url(), func(c *Config, _ *ServerConfig) { c.Upstream.IdleTimeout = 20 * time.Millisecond })
		for range 5 {
			s.call(get("/x"))
		}
		limits := s.limits
		limits.MaxHeader = 8 << 10
		s.server.Reconfigure(limits)
		s.call(get("/x"))
		if err := s.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		s.proxy.CloseIdle()
		p.Close()
		p.closeAll()
	}
	run() // for goroutines of fasthttp that stay, one for the process
	runtime.GC()
	before := runtime.NumGoroutine()
	for range 5 {
		run()
	}
	// fasthttp's pool of workers sleeps up to 10 s between two looks.
	deadline := time.Now().Add(15 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}
