package proxy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

func randomBody(n int) []byte {
	body := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(body)
	return body
}

func TestBodies(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := start(t, p.url(), func(c *Config, _ *ServerConfig) { c.ReplayMaxBody = 2 << 20 })
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	f := func(rule string, size int, chunked bool, fields ...string) {
		t.Helper()
		body := randomBody(size)
		var reader io.Reader = bytes.NewReader(body)
		if chunked {
			reader = struct{ io.Reader }{reader}
		}
		r, err := http.NewRequest("POST", "http://"+s.addr+"/x", reader)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		got := p.only(t)
		if response.StatusCode != 200 || !bytes.Equal(got.body, body) {
			t.Errorf("%s: status %d, %d bytes arrived", rule, response.StatusCode, len(got.body))
		}
		if length := got.field("Content-Length"); len(length) != 1 || length[0] != itoa(size) || got.field("Transfer-Encoding") != nil || got.field("Expect") != nil {
			t.Errorf("%s: framed as %q", rule, got.head)
		}
	}
	for _, size := range []int{1, 300, 8 << 10, 8<<10 + 1, 32 << 10, 32<<10 + 1, 64 << 10, spillAbove, spillAbove + 1, 2 << 20, 5 << 20} {
		f("length "+itoa(size), size, false)
		f("chunked "+itoa(size), size, true)
	}
	f("100-continue", 300, false, "Expect", "100-continue")
	f("100-continue with a long body", 3<<20, false, "Expect", "100-continue")
	f("100-continue, chunked", 3<<20, true, "Expect", "100-continue")
}

// generated is a body that costs no memory.
type generated struct{}

func (generated) Read(p []byte) (int, error) { return len(p), nil }

func TestLongBodiesCostNoMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	const size = 64 << 20
	got := make(chan int64, 2)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		got <- n
		w.Header().Set("Content-Length", itoa(size))
		io.CopyN(w, generated{}, size)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	s := start(t, "http://"+l.Addr().String(), func(c *Config, l *ServerConfig) { c.MaxBody, l.MaxBody = size, size })
	c := s.dial()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.send(line + "Content-Length: " + itoa(size) + "\r\n\r\n")
	if _, err := io.CopyN(c, generated{}, size); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || n != size || <-got != size {
		t.Fatalf("%d bytes came back, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated for %d bytes each way", used, size)
	}
}

// A client that disappears while it sends must not leave half a call at WeChat
// that looks whole, nor have it sent again.
func TestClientDisappearsWhileSending(t *testing.T) {
	f := func(rule, head string) {
		t.Helper()
		p := newPeer(t, okAnswer)
		s := start(t, p.url(), nil)
		c := s.dial()
		c.send(head + strings.Repeat("a", 3<<20))
		if strings.Contains(head, "Content-Length: 8") {
			eventually(t, rule+": connection to the upstream", func() bool { return p.open() == 1 })
		}
		c.Close()
		eventually(t, rule+": call ends", func() bool { return s.proxy.InFlight() == 0 && p.open() == 0 })
		for _, got := range p.requests() {
			if !got.cut {
				t.Errorf("%s: a whole request arrived", rule)
			}
		}
		if n := len(p.requests()); n > 1 {
			t.Errorf("%s: %d requests arrived", rule, n)
		}
	}
	f("streamed", line+"Content-Length: 8000000\r\n\r\n")
	f("chunked", line+"Transfer-Encoding: chunked\r\n\r\n400000\r\n")
}
