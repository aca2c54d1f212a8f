package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/bench/bare"
	"lingpai/metrics"
)

// What a call costs without a kernel: the real server, and for comparison the
// bare proxy of the benchmarks, between an app and a WeChat that are both in
// memory and in the same goroutine.

// memoryApp is the connection of an app that makes the same request again and
// again. It reads each answer as one Write.
type memoryApp struct {
	silentConn
	request []byte
	unread  []byte
	left    int // requests to come
	answers int
	wrong   []byte // the first answer that is not 200
}

func (c *memoryApp) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		c.left--
		c.unread = c.request
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *memoryApp) Write(p []byte) (int, error) {
	c.answers++
	if !bytes.HasPrefix(p, []byte("HTTP/1.1 200 OK\r\n")) && c.wrong == nil {
		c.wrong = bytes.Clone(p)
	}
	return len(p), nil
}

// memoryWeChat is a connection to a WeChat that has answered by the time the
// request is written.
type memoryWeChat struct {
	silentConn
	unread []byte
	body   int // bytes of the request that are still to come
	token  string
	missed *int // requests without the token
}

// Write takes a request. Inlined into lingpai, it would make that allocate.
//
//go:noinline
func (c *memoryWeChat) Write(p []byte) (int, error) {
	rest := p
	if c.body == 0 {
		end := bytes.Index(p, []byte("\r\n\r\n"))
		line := p[:bytes.IndexByte(p, '\r')]
		if !bytes.Contains(line, []byte(c.token)) {
			*c.missed++
		}
		if i := bytes.Index(p[:end], []byte("Content-Length: ")); i >= 0 {
			for _, d := range p[i+len("Content-Length: "):] {
				if d < '0' || '9' < d {
					break
				}
				c.body = 10*c.body + int(d-'0')
			}
		}
		rest = p[end+4:]
	}
	if c.body -= len(rest); c.body == 0 {
		c.unread = memoryAnswer
	}
	return len(p), nil
}

func (c *memoryWeChat) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

var memoryAnswer = []byte("HTTP/1.1 200 OK\r\nServer: stub\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Type: application/json; encoding=utf-8\r\n" +
	"Content-Length: 194\r\n\r\n" + `{"subscribe":1,"openid":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","language":"zh_CN","subscribe_time":1382694957,` +
	`"unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL","remark":"vip","groupid":0,"tagid_list":[128,2,1]}`)

// silentConn has the methods that do not matter here.
type silentConn struct{}

func (silentConn) Close() error                     { return nil }
func (silentConn) LocalAddr() net.Addr              { return memoryAddr }
func (silentConn) RemoteAddr() net.Addr             { return memoryAddr }
func (silentConn) SetDeadline(time.Time) error      { return nil }
func (silentConn) SetReadDeadline(time.Time) error  { return nil }
func (silentConn) SetWriteDeadline(time.Time) error { return nil }

var memoryAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9060}

// inMemoryServers returns functions that make n calls on one connection: through
// lingpai, and through the bare proxy.
func inMemoryServers(t testing.TB) map[string]func(request string, n int) {
	missed := new(int)
	dial := func(string) (net.Conn, error) {
		return &memoryWeChat{token: "&access_token=" + authorizerValue, missed: missed}, nil
	}
	config, _ := testConfig("http://wechat.example")
	p, err := New(config, memoryAddr, newStubTokens(t), metrics.New("", "", ""), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.settings.Load().names.main.pool.Dial = func(addr string) (net.Conn, error) {
		conn, err := dial(addr)
		return &upstreamConn{Conn: conn}, err
	}
	t.Cleanup(p.CloseIdle)
	limits := ServerConfig{MaxHeader: 16 << 10, HeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxBody: 64 << 20, quietAfter: quietAfter}
	lingpai, conns := newFasthttpServer(p, limits), newHandedOver(p, memoryAddr, limits)
	other := bare.Server(bare.Client("wechat.example", dial), func([]byte) (string, error) { return authorizerValue, nil })
	through := func(server *fasthttp.Server, wrap func(net.Conn) net.Conn) func(string, int) {
		return func(request string, n int) {
			app := &memoryApp{request: []byte(request), left: n}
			err := server.ServeConn(wrap(app))
			if err != nil || app.answers != n || app.wrong != nil || *missed > 0 {
				t.Fatalf("%d of %d answers, %d without the token, %v: %s", app.answers, n, *missed, err, app.wrong)
			}
		}
	}
	return map[string]func(string, int){
		"lingpai": through(lingpai, func(c net.Conn) net.Conn { return &clientConn{Conn: c, config: &limits, listener: conns} }),
		"bare":    through(other, func(c net.Conn) net.Conn { return c }),
	}
}

// memoryCalls are what bench asks for.
var memoryCalls = map[string]string{
	"GET": "GET /cgi-bin/user/info?openid=wx0000000000be0000&lang=zh_CN HTTP/1.1\r\nHost: 127.0.0.1:9060\r\nUser-Agent: bench\r\n" +
		"X-Wechat-Appid: " + authorizer + "\r\n\r\n",
	"POST": "POST /cgi-bin/message/custom/send?openid=wx0000000000be0000&lang=zh_CN HTTP/1.1\r\nHost: 127.0.0.1:9060\r\nUser-Agent: bench\r\n" +
		"X-Wechat-Appid: " + authorizer + "\r\nContent-Type: application/json\r\nContent-Length: 300\r\n\r\n" +
		`{"touser":"` + strings.Repeat("u", 287) + `"}`,
}

func BenchmarkWhole(b *testing.B) {
	servers := inMemoryServers(b)
	for _, server := range []string{"lingpai", "bare"} {
		for _, method := range []string{"GET", "POST"} {
			b.Run(server+"/"+method, func(b *testing.B) {
				b.ReportAllocs()
				servers[server](memoryCalls[method], b.N)
			})
		}
	}
}
