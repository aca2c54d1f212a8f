package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func chunks(parts ...string) string {
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	for _, part := range parts {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(part), part)
	}
	return b.String()
}

func TestAnswers(t *testing.T) {
	p := newPeerWith(t, func(p *peer, c net.Conn, _ received) bool {
		text := *p.text.Load()
		_, err := io.WriteString(c, text)
		return err == nil && !strings.Contains(text, "until-close")
	})
	s := start(t, p.url(), nil)
	f := func(rule, answer, want string) {
		t.Helper()
		p.say(answer)
		before := p.opened.Load()
		c := s.dial()
		defer c.Close()
		for range 2 {
			c.send(get(nonePath))
			r := c.receive("GET")
			if r.err != nil || r.body != want {
				t.Errorf("%s: %d bytes, want %d (%v)", rule, len(r.body), len(want), r.err)
			}
			eventually(t, rule+": call has ended", func() bool { return s.proxy.InFlight() == 0 })
		}
		if opened := p.opened.Load() - before; opened > 1 && !strings.Contains(answer, "until-close") {
			t.Errorf("%s: the connection to WeChat was not used again", rule)
		}
	}
	for _, size := range []int{0, 1, 4096, 4097, maxBuffered - 1, maxBuffered, maxBuffered + 1, 1 << 20} {
		body := string(randomBody(size))
		f("length "+itoa(size), "HTTP/1.1 200 OK\r\nContent-Length: "+itoa(size)+"\r\n\r\n"+body, body)
		if size > 0 {
			f("chunked "+itoa(size), chunks(body)+"0\r\n\r\n", body)
			object := "{" + strings.Repeat("a", size)
			f("chunked, like JSON, "+itoa(size), chunks(object)+"0\r\n\r\n", object)
		}
		f("until close "+itoa(size), "HTTP/1.1 200 OK\r\nX: until-close\r\n\r\n"+body, body)
	}
	f("JSON in chunks", chunks("{", `"errcode"`, ":0}")+"0\r\n\r\n", `{"errcode":0}`)
	f("white space first", chunks(" ", "\n", "x")+"0\r\n\r\n", " \nx")
	f("nothing but white space", chunks(" ", "\n")+"0\r\n\r\n", " \n")
	f("an empty chunked body", chunks()+"0\r\n\r\n", "")
	f("a trailer section is dropped", chunks("abc")+"0\r\nX-T: 1\r\n\r\n", "abc")
	f("chunk extensions", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n", "abc")
	f("length and chunked: chunked counts", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc")
}

func TestTruncatedAnswers(t *testing.T) {
	p := newPeerWith(t, func(p *peer, c net.Conn, _ received) bool {
		io.WriteString(c, *p.text.Load())
		return false
	})
	s := start(t, p.url(), nil)
	f := func(rule, answer string, want int) {
		t.Helper()
		p.say(answer)
		c := s.dial()
		c.send(get(nonePath))
		r := c.receive("GET")
		if r.status != want || want == 200 && r.err == nil {
			t.Errorf("%s: status %d, %d bytes, %v", rule, r.status, len(r.body), r.err)
		}
		if want == 502 && !strings.Contains(r.head, "Proxy-Status: lingpai; error=http_response_incomplete\r\n") {
			t.Errorf("%s: %q", rule, r.head)
		}
	}
	f("short JSON", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"a\"", 502)
	f("no byte of the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", 502)
	f("short JSON in chunks", chunks(`{"a"`), 502)
	f("chunked JSON in a chunk", chunks()+"ff\r\n{\"a\"", 502)
	f("chunked JSON before the trailer's end", chunks(`{"a"`)+"0\r\n", 502)
	f("binary", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n\xff\xd8", 200)
	f("long", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("a", 900_000), 200)
	f("long, in chunks", chunks(strings.Repeat("a", 100_000)), 200)
	f("long, in a chunk", chunks("a")+"ffffff\r\n"+strings.Repeat("a", 100_000), 200)
	f("long, in garbage", chunks(strings.Repeat("a", 100_000))+"xyz\r\n", 200)
}

// The first bytes of a file reach the app before WeChat goes on.
func TestBinaryAnswersAreNotHeldUp(t *testing.T) {
	f := func(rule, first, rest string) {
		t.Helper()
		seen := make(chan bool)
		p := newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
			io.WriteString(c, first)
			<-seen
			io.WriteString(c, rest)
			return false
		})
		s := start(t, p.url(), nil)
		c := s.dial()
		c.send(get(nonePath))
		response, err := http.ReadResponse(c.br, nil)
		if err != nil {
			close(seen)
			t.Fatalf("%s: %v", rule, err)
		}
		var buf [1]byte
		_, err = io.ReadFull(response.Body, buf[:])
		close(seen)
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		if rest, err := io.ReadAll(response.Body); err != nil || string(buf[:])+string(rest) != "\xff\xd8\xffabc" {
			t.Errorf("%s: %q, %v", rule, rest, err)
		}
	}
	f("chunked", chunks("\xff\xd8\xff"), "3\r\nabc\r\n0\r\n\r\n")
	f("until close", "HTTP/1.1 200 OK\r\n\r\n\xff\xd8\xff", "abc")
	f("known length", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n\xff\xd8\xff", "abc")
}

// An app of HTTP/1.0 does not know chunks: its answer ends with the connection.
func TestAnswersToHTTP10(t *testing.T) {
	body := strings.Repeat("a", 100_000)
	p := newPeer(t, chunks(body)+"0\r\n\r\n")
	s := start(t, p.url(), nil)
	f := func(rule, lines string) {
		t.Helper()
		c := s.dial()
		c.send("GET " + nonePath + " HTTP/1.0\r\n" + lines + "\r\n")
		all, err := io.ReadAll(c.br)
		head, got, _ := strings.Cut(string(all), "\r\n\r\n")
		if err != nil || got != body || strings.Contains(head, "chunked") || strings.Contains(head, "keep-alive") {
			t.Errorf("%s: %q, %d bytes, %v", rule, head, len(got), err)
		}
	}
	f("plain", "")
	f("kept alive", "Connection: keep-alive\r\n")
}

func TestClientDisappearsWhileReceiving(t *testing.T) {
	p := newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
		w := bufio.NewWriterSize(c, 64<<10)
		io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
		_, err := io.CopyN(w, generated{}, 10_000_000_000)
		return err == nil
	})
	s := start(t, p.url(), nil)
	c := s.dial()
	c.send(get(nonePath))
	if _, err := c.br.Peek(1000); err != nil {
		t.Fatal(err)
	}
	c.Close()
	eventually(t, "the connection to WeChat is closed", func() bool { return p.open() == 0 && s.proxy.InFlight() == 0 })
}
