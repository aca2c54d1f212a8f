package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"lingpai/tokens"
)

const secondValue = "authorizer-token-2"

// refusing answers calls with the first token with text, others with success.
func refusing(t *testing.T, text string) *peer {
	return newPeerWith(t, func(_ *peer, c net.Conn, r received) bool {
		answer := okAnswer
		if strings.Contains(r.target(), authorizerValue) {
			answer = text
		}
		_, err := io.WriteString(c, answer)
		return err == nil && answer != "" && !strings.HasSuffix(answer, "Content-") // cut: TestNoReplay
	})
}

func replaying(t *testing.T, url string, change func(*Config, *ServerConfig)) *sidecar {
	s := start(t, url, change)
	better := shared(t, tokens.Authorizer, authorizer, secondValue)
	s.tokens.better = func(int) (*tokens.Token, error) { return better, nil }
	return s
}

func TestReplay(t *testing.T) {
	f := func(rule, answer string, wantSent, wantRejected int) {
		t.Helper()
		for _, body := range []string{"", "short", string(randomBody(spillAbove + 1000))} {
			p := refusing(t, answer)
			s := replaying(t, p.url(), func(c *Config, _ *ServerConfig) { c.ReplayMaxBody = 4 << 20 })
			r := s.call(request("POST", "/x?a=b", body))
			got := p.requests()
			if len(got) != wantSent || int(s.tokens.rejected.Load()) != wantRejected {
				t.Errorf("%s: sent %d times, rejected %d times", rule, len(got), s.tokens.rejected.Load())
				continue
			}
			for i, value := range []string{authorizerValue, secondValue}[:wantSent] {
				if got[i].target() != "/x?a=b&access_token="+value || string(got[i].body) != body {
					t.Errorf("%s: request %d is %q with %d bytes", rule, i+1, got[i].line(), len(got[i].body))
				}
			}
			if wantSent == 2 && r.body != `{"errcode":0,"errmsg":"ok"}` || r.status != 200 || r.err != nil {
				t.Errorf("%s: answer %d %q", rule, r.status, r.body)
			}
		}
	}
	for _, code := range []string{"40001", "40014", "42001", "42006", "40094"} {
		f(code, errcodeAnswer(code), 2, 1)
		f(code+" as a string", errcodeAnswer(`"`+code+`"`), 2, 1)
	}
	f("chunked", chunks(`{"errcode":`, `40001}`)+"0\r\n\r\n", 2, 1)
	for _, code := range []string{"0", "-1", "40013", "41001", "45009", "48001", "61003", "40164", "42002"} {
		f("another code, "+code, errcodeAnswer(code), 1, 0)
	}
	f("nested", "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"a\":{\"errcode\":40001}}", 1, 0)
	long := `{"errcode":40001,"errmsg":"` + strings.Repeat("x", 4096) + `"}`
	f("over 4 KiB", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long), 1, 0)
	f("over 4 KiB, chunked", chunks(long)+"0\r\n\r\n", 1, 0)
}

func TestNoReplay(t *testing.T) {
	f := func(rule, text, answer string, declined bool, change func(*Config, *ServerConfig), wantStatus, wantSent, wantRejected int) {
		t.Helper()
		p := refusing(t, answer)
		s := replaying(t, p.url(), change)
		if declined {
			s.tokens.better = nil
		}
		r := s.call(text)
		eventually(t, rule+": rejections", func() bool { return int(s.tokens.rejected.Load()) == wantRejected })
		if n := len(p.requests()); r.status != wantStatus || n != wantSent {
			t.Errorf("%s: status %d, sent %d times: %s", rule, r.status, n, r.body)
		}
		if wantStatus == 200 && !strings.Contains(r.body, "40001") {
			t.Errorf("%s: WeChat's answer is lost: %q", rule, r.body)
		}
	}
	refused := errcodeAnswer("40001")
	f("declined", get("/x"), refused, true, nil, 200, 1, 1)
	f("streamed body", request("POST", "/x", strings.Repeat("a", 100_000)), refused, false,
		func(c *Config, _ *ServerConfig) { c.ReplayMaxBody = 1000 }, 200, 1, 1)
	f("a path without token", get(nonePath+"?a="+authorizerValue), refused, false, nil, 200, 1, 0)
	f("a user's own token", get(userPath+"?access_token="+authorizerValue), refused, false, nil, 200, 1, 0)
	for _, method := range []string{"GET", "HEAD", "PUT", "POST"} {
		f("network error, "+method, request(method, "/x", ""), "", false, nil, 502, 1, 0)
		f("answer cut short, "+method, request(method, "/x", ""), "HTTP/1.1 200 OK\r\nContent-", false, nil, 502, 1, 0)
	}
}

func TestReplayOnlyOnce(t *testing.T) {
	p := newPeer(t, errcodeAnswer("42001"))
	s := replaying(t, p.url(), nil)
	r := s.call(request("POST", "/x", "body"))
	if n := len(p.requests()); n != 2 || r.status != 200 || !strings.Contains(r.body, "42001") || s.tokens.rejected.Load() != 1 {
		t.Errorf("status %d, sent %d times, rejected %d times: %s", r.status, n, s.tokens.rejected.Load(), r.body)
	}
}

func TestReplayOfAChunkedBody(t *testing.T) {
	body := randomBody(3 << 20)
	p := refusing(t, errcodeAnswer("40001"))
	s := replaying(t, p.url(), nil)
	s.call(line + "Transfer-Encoding: chunked\r\n\r\n" + itoaHex(len(body)) + "\r\n" + string(body) + "\r\n0\r\n\r\n")
	got := p.requests()
	if len(got) != 2 || !bytes.Equal(got[0].body, body) || !bytes.Equal(got[1].body, body) {
		t.Fatalf("%d requests", len(got))
	}
}

// Many calls that meet a refused token at once each succeed with one replay.
func TestManyReplays(t *testing.T) {
	const calls = 500
	var executed atomic.Int32
	p := newPeerWith(t, func(_ *peer, c net.Conn, r received) bool {
		answer := okAnswer
		if strings.Contains(r.target(), authorizerValue) {
			answer = errcodeAnswer("40001")
		} else {
			executed.Add(1)
		}
		_, err := io.WriteString(c, answer)
		return err == nil
	})
	s := replaying(t, p.url(), nil)
	var all sync.WaitGroup
	var failed atomic.Int32
	for range calls {
		all.Go(func() {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				failed.Add(1)
				return
			}
			defer c.Close()
			io.WriteString(c, request("POST", "/x", "body", "Connection: close"))
			answer, err := io.ReadAll(c)
			if err != nil || !bytes.HasSuffix(answer, []byte(`{"errcode":0,"errmsg":"ok"}`)) {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if failed.Load() > 0 || executed.Load() != calls || len(p.requests()) != 2*calls {
		t.Errorf("%d failed, %d executed, %d sent", failed.Load(), executed.Load(), len(p.requests()))
	}
}
