package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"log/slog"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"lingpai/metrics"
)

// inMemory returns a Proxy whose upstream answers from memory.
func inMemory(t testing.TB) *Proxy {
	t.Helper()
	l := fasthttputil.NewInmemoryListener()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerFromMemory(c)
		}
	}()
	config, _ := testConfig("http://wechat.example")
	p, err := New(config, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9060}, newStubTokens(t), metrics.New("", "", ""), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.settings.Load().names.main.pool.Dial = func(string) (net.Conn, error) {
		conn, err := l.Dial()
		return &upstreamConn{Conn: conn, tcp: conn}, err
	}
	t.Cleanup(p.CloseIdle)
	return p
}

// answerFromMemory allocates nothing for a request.
func answerFromMemory(c net.Conn) {
	br := bufio.NewReader(c)
	answer := []byte("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: application/json; encoding=utf-8\r\n" +
		"Date: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 27\r\n\r\n{\"errcode\":0,\"errmsg\":\"ok\"}")
	for {
		length := 0
		for {
			text, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(text) == 2 {
				break
			}
			if string(text[:9]) == "Content-L" {
				for _, c := range text[16 : len(text)-2] {
					length = 10*length + int(c-'0')
				}
			}
		}
		br.Discard(length)
		c.Write(answer)
	}
}

// hotCall returns a function that makes one call through p.
func hotCall(t testing.TB, p *Proxy, text string) func() {
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, nil, nil)
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	if err := ctx.Request.Header.Read(bufio.NewReader(strings.NewReader(head + "\r\n\r\n"))); err != nil {
		t.Fatal(err)
	}
	reader := strings.NewReader(body)
	if len(body) > 0 {
		ctx.Request.SetBodyStream(reader, len(body))
	}
	call := func() {
		reader.Seek(0, io.SeekStart)
		p.Handle(&ctx)
	}
	call()
	if ctx.Response.StatusCode() != 200 {
		t.Fatalf("status %d: %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
	return call
}

var hotCalls = map[string]string{
	"GET":                       get("/cgi-bin/user/info?openid=oABC&lang=zh_CN", "User-Agent: app/1.0", "Accept: */*"),
	"GET to lingpai's own name": strings.Replace(get("/cgi-bin/user/info?from_appid="+direct+"&openid=o"), "api.weixin.qq.com", "127.0.0.1:9060", 1),
	"POST of 300 bytes":         request("POST", authorizerPath, strings.Repeat("x", 300), "X-Wechat-Appid: "+authorizer, "Content-Type: application/json"),
	"POST as the platform":      request("POST", componentPath, strings.Repeat("x", 300), "Connection: keep-alive"),
}

func TestHotPathAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := inMemory(t)
	for name, text := range hotCalls {
		call := hotCall(t, p, text)
		if n := testing.AllocsPerRun(2000, call); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	p := inMemory(b)
	for _, name := range []string{"GET", "POST of 300 bytes"} {
		b.Run(name, func(b *testing.B) {
			call := hotCall(b, p, hotCalls[name])
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
