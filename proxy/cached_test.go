package proxy

import (
	"strings"
	"sync"
	"testing"

	"lingpai/tokens"
)

// A fault of lingpai's own in a flight hangs nobody, and the next call is served.
func TestPanicInAFlight(t *testing.T) {
	p := newPeer(t, errcodeAnswer("40001"))
	s := start(t, p.url(), nil)
	s.tokens.better = func(int) (*tokens.Token, error) { panic("sesame") }
	var all sync.WaitGroup
	for range 20 {
		c := s.dial()
		all.Go(func() {
			c.send(get(ticketPath + "?type=jsapi"))
			if r := c.receive("GET"); r.status != 500 {
				t.Errorf("status %d", r.status)
			}
		})
	}
	all.Wait()
	eventually(t, "no call is under way", func() bool { return s.proxy.InFlight() == 0 })
	s.tokens.better = nil
	if r := s.call(get(ticketPath + "?type=jsapi")); r.status != 200 || errcodeOf([]byte(r.body)) != 40001 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// Answers that come as a stream are kept if they are short enough, and pass
// through whole if they are not.
func TestStreamedAnswersAreKept(t *testing.T) {
	f := func(size int, wantCalls int) {
		t.Helper()
		body := `{"ip_list":["` + strings.Repeat("1", size) + `"]}`
		p := newPeer(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+itoaHex(len(body))+"\r\n"+body+"\r\n0\r\n\r\n")
		s := start(t, p.url(), nil)
		for range 3 {
			if r := s.call(get("/cgi-bin/getcallbackip")); r.status != 200 || r.body != body || r.err != nil {
				t.Errorf("%d bytes: %d, %d bytes came, %v", size, r.status, len(r.body), r.err)
			}
		}
		if n := len(p.requests()); n != wantCalls {
			t.Errorf("%d bytes: %d calls, want %d", size, n, wantCalls)
		}
	}
	f(100, 1)
	f(20_000, 1)
	f(200_000, 3)
}
