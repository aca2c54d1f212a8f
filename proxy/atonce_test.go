package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/metrics"
	"lingpai/tokens"
)

// scriptedConn is a connection whose other side says what a test wants: each
// Read returns one text, and then the connection ends.
type scriptedConn struct {
	silentConn
	texts   []string
	written bytes.Buffer
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	if len(c.texts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.texts[0])
	if c.texts[0] = c.texts[0][n:]; c.texts[0] == "" {
		c.texts = c.texts[1:]
	}
	return n, nil
}

func (c *scriptedConn) Write(p []byte) (int, error) { return c.written.Write(p) }

// twoWays serves calls at once, and by the server alone.
type twoWays struct {
	proxy    *Proxy
	metrics  *metrics.Metrics
	log      *buffer
	limits   ServerConfig
	mu       sync.Mutex // of what follows: a call without a token opens a connection ahead
	toWeChat []*scriptedConn
	answer   string
}

func newTwoWays(t testing.TB) *twoWays {
	w := &twoWays{metrics: metrics.New("test", "", ""), log: &buffer{}}
	var config Config
	config, w.limits = testConfig("http://wechat.example")
	source := newStubTokens(t)
	better := shared(t, tokens.Authorizer, authorizer, secondValue)
	source.better = func(int) (*tokens.Token, error) { return better, nil }
	var err error
	w.proxy, err = New(config, memoryAddr, source, w.metrics, slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.proxy.Close)
	w.proxy.settings.Load().names.main.pool.Dial = w.dial
	w.proxy.settings.Load().names.hosts["api.weixin.qq.com"].pool.Dial = w.dial
	return w
}

func (w *twoWays) dial(string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &scriptedConn{texts: []string{w.answer, okAnswer}}
	w.toWeChat = append(w.toWeChat, c)
	return &upstreamConn{Conn: c}, nil
}

// firstCall makes the server know a connection: only calls behind it can be
// served at once. It never gets to WeChat.
const firstCall = "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n"

// outcome is what a call led to, without what differs by nature.
type outcome struct {
	toApp    string
	toWeChat []string
	counted  string
	log      string
}

var byNature = regexp.MustCompile(`(?m)^Date: .*\r\n|(-?[0-9a-f]{16}-[0-9a-f]+)\b|^(time|duration)=\S+ | duration=\S+$|^time=\S+`)

// serve makes one call, whose bytes come in these pieces, and which WeChat answers
// with answer.
func (w *twoWays) serve(atOnce bool, answer string, pieces ...string) outcome {
	w.mu.Lock()
	w.answer, w.toWeChat = answer, nil
	w.mu.Unlock()
	w.log.b.Reset()
	app := &scriptedConn{texts: append([]string{firstCall}, pieces...)}
	conn := &clientConn{Conn: app, config: &w.limits}
	if atOnce {
		conn.listener = newHandedOver(w.proxy, memoryAddr, w.limits)
	}
	newFasthttpServer(w.proxy, w.limits).ServeConn(conn)
	w.proxy.CloseIdle()
	text := app.written.String()
	heads := min(len(text), 2000)
	o := outcome{toApp: byNature.ReplaceAllString(text[:heads], "") + text[heads:]}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.toWeChat {
		if c.written.Len() > 0 {
			o.toWeChat = append(o.toWeChat, c.written.String())
		}
	}
	o.log = byNature.ReplaceAllString(w.log.String(), "")
	if n := w.proxy.InFlight(); n != 0 {
		o.toApp += fmt.Sprintf(" and %d calls are under way for ever", n)
	}
	if state := conn.inCall.Load(); state != noCall || conn.begun != nil {
		o.toApp += fmt.Sprintf(" and the connection is in state %d", state)
	}
	return o
}

// counted returns the counters, without sums of times.
func (w *twoWays) counted(t testing.TB) string {
	recorder := httptest.NewRecorder()
	w.metrics.Handler().ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	var lines []string
	for line := range strings.Lines(recorder.Body.String()) {
		if strings.HasPrefix(line, "lingpai_") && !strings.Contains(line, "_sum") && !strings.Contains(line, "_bucket") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func sameOutcome(t testing.TB, text, answer string, server, atOnce outcome) {
	t.Helper()
	for _, both := range [][3]string{
		{"the app gets", server.toApp, atOnce.toApp},
		{"WeChat gets", strings.Join(server.toWeChat, "\n--\n"), strings.Join(atOnce.toWeChat, "\n--\n")},
		{"the counters are", server.counted, atOnce.counted},
		{"the log says", server.log, atOnce.log},
	} {
		if both[1] != both[2] {
			t.Errorf("%.500q answered with %.200q: by the server %s\n%s\nat once\n%s", text, answer, both[0], both[1], both[2])
		}
	}
}

var longAnswer = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 100<<10, strings.Repeat("x", 100<<10))

// atOnceAnswers are answers of WeChat to a call that is served at once.
var atOnceAnswers = []string{
	okAnswer,
	errcodeAnswer("45009"),
	errcodeAnswer("40001"), // and then the call is sent again
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{\"errcode\":42001}\r\n0\r\n\r\n",
	"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
	longAnswer,
	longAnswer[:50<<10],
	"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
	"not HTTP\r\n\r\n",
	"",
}

// atOnceCalls are requests, and whether they are served at once.
var atOnceCalls = map[string]bool{
	get("/x"):                           true,
	get("/x?a=b&access_token=&c=%20%2"): true,
	get("//x?"):                         true,
	get("/x?u=http%3A//a"):              true,
	get("/@" + direct + "/x?a=b"):       true,
	get("/x", "X-Wechat-Appid: "+direct, "Cookie: a=b", "User-Agent: "):     true,
	get("/x", "connection: Keep-Alive", "Keep-Alive: timeout=5"):            true,
	get("/x", "Accept-Encoding: gzip", "X-Forwarded-For: 1.2.3.4", "x-A:b"): true,
	request("POST", "/x", "body", "Content-Type: text/plain"):               true,
	request("POST", "/x", "", "Content-Length: 0"):                          true,
	request("POST", "/x", strings.Repeat("b", 9000)):                        true,
	request("POST", componentPath, `{"a":1}`):                               true,
	request("POST", "/cgi-bin/component/x", `{"component_appid":""}`):       true,
	strings.Replace(get("/x"), "api.weixin.qq.com", "127.0.0.1:9060", 1):    true,
	strings.Replace(get("/x"), "api.weixin.qq.com", "API.weixin.qq.com", 1): true,

	get("/x", "Connection: close"):                            false,
	get("/x", "Connection: keep-alive, X-A", "X-A: b"):        false,
	get("/x", "Expect: 100-continue"):                         false,
	get("/x", "Upgrade: h2c"):                                 false,
	get("/x", "TE: trailers"):                                 false,
	get("/x", "Trailer: X-A"):                                 false,
	get("/x", "Host: api.weixin.qq.com"):                      false,
	strings.Replace(get("/x"), "Host:", "Host: \r\nHost:", 1): false,
	get("/x", "Content-Length: 0"):                            false,
	get("/x", "X-Wechat-Token: x"):                            false,
	get("/x", "X-Wechat-Appid: wxunknown"):                    false,
	get("/x", " X-A: b"):                                      false,
	get("/x", "X-A : b"):                                      false,
	get("/x", "X(A: b"):                                       false,
	get("/x", ": b"):                                          false,
	get("/x", "X-A"):                                          false,
	get("/x", "X-A: b\r\n c"):                                 false,
	get("/x", "X-A: \x01"):                                    false,
	get("/x", "X-A: b\nX-C: d"):                               false,
	get("/x", "X-A: b\rX-C: d"):                               false,
	get("/x", "X-A: \xe4\xbb\xa4"):                            false,
	get("/x?u=http://a"):                                      false,
	get("/x#y"):                                               false,
	get("/\xe4\xbb\xa4"):                                      false,
	get("http://api.weixin.qq.com/x"):                         false,
	get("*"):                                                  false,
	get("/x y"):                                               false,
	get("/x") + "x":                                           false,
	get("/x") + get("/y"):                                     false,
	"\r\n" + get("/x"):                                        false,
	request("HEAD", "/x", ""):                                 false,
	request("PUT", "/x", "body"):                              false,
	request("POST", "/x", ""):                                 false,
	request("POST", "/x", "body", "Content-Length: 4"):        false,
	request("POST", "/x", "body") + "x":                       false,
	request("POST", "/x", "", "Content-Length: +0"):           false,
	request("POST", "/x", "", "Content-Length: 4294967296"):   false,
	request("POST", "/x", "", "Transfer-Encoding: chunked") + "0\r\n\r\n":    false,
	strings.Replace(get("/x"), "HTTP/1.1", "HTTP/1.0", 1):                    false,
	strings.Replace(get("/x"), "HTTP/1.1", "HTTP/1.1 ", 1):                   false,
	strings.Replace(get("/x"), "api.weixin.qq.com", "api.weixin.qq.com:", 1): false,
	strings.Replace(get("/x"), "api.weixin.qq.com", "[::1]:9060", 1):         false,
	strings.Replace(get("/x"), "api.weixin.qq.com", "127.0.0.1:x", 1):        false,
	strings.Replace(get("/x"), "api.weixin.qq.com", "evil.example", 1):       false,
	strings.Replace(get("/x"), "api.weixin.qq.com", "", 1):                   false,
	strings.Replace(get("/x"), "Host: api.weixin.qq.com\r\n", "", 1):         false,
	strings.ReplaceAll(get("/x"), "\r\n", "\n"):                              false,
	get("/x?access_token=foreign"):                                           true, // default_app_id names the account
	get(userPath + "?access_token=theirs&openid=o"):                          false,
	get("/cgi-bin/token?grant_type=client_credential"):                       false,
	get("/cgi-bin/ticket/getticket?type=jsapi"):                              false,
	get(nonePath + "?appid=" + direct):                                       false,
	get("/_lingpai/status"):                                                  false,
}

// Whether a call is served at once or by the server makes no difference to
// anybody, whatever WeChat answers.
func TestAtOnceMakesNoDifference(t *testing.T) {
	server, atOnce, other := newTwoWays(t), newTwoWays(t), newTwoWays(t)
	for text, want := range atOnceCalls {
		answers := atOnceAnswers
		if !want {
			answers = answers[:1]
		}
		for i, answer := range answers {
			a, b := server.serve(false, answer, text), atOnce.serve(true, answer, text)
			if i == len(answers)-1 {
				a.counted, b.counted = server.counted(t), atOnce.counted(t)
			}
			sameOutcome(t, text, answer, a, b)
		}
		if got := other.servesAtOnce(text); got != want {
			t.Errorf("%.100q is served at once: %v", text, got)
		}
	}
}

// servesAtOnce reports whether a call is, if WeChat answers well.
func (w *twoWays) servesAtOnce(text string) bool {
	w.mu.Lock()
	w.answer = okAnswer
	w.mu.Unlock()
	conn := &clientConn{Conn: &scriptedConn{}, config: &w.limits, listener: newHandedOver(w.proxy, memoryAddr, w.limits)}
	served, err := w.proxy.serveAtOnce(conn, []byte(text))
	w.proxy.CloseIdle()
	return served && err == nil
}

func FuzzAtOnce(f *testing.F) {
	for text := range atOnceCalls {
		f.Add(text, okAnswer)
	}
	for _, answer := range atOnceAnswers {
		f.Add(get("/x"), answer)
		f.Add(request("POST", "/x", "body"), answer)
	}
	w := newTwoWays(f)
	f.Fuzz(func(t *testing.T, text, answer string) {
		if len(text) == 0 || len(text) > 12<<10 || len(answer) > 200<<10 {
			return // one Read has to take it
		}
		sameOutcome(t, text, answer, w.serve(false, answer, text), w.serve(true, answer, text))
	})
}

// warm returns a connection whose next call can be served at once.
func (s *sidecar) warm() *client {
	c := s.dial()
	c.send(firstCall)
	if r := c.receive("GET"); r.status != 403 {
		s.t.Fatalf("the first call: %q", r.head)
	}
	return c
}

func TestAtOnceEndsInTime(t *testing.T) {
	p := newPeerWith(t, func(_ *peer, _ net.Conn, r received) bool {
		return !strings.HasPrefix(r.target(), "/cut") // else it says nothing
	})
	s := start(t, p.url(), func(c *Config, _ *ServerConfig) { c.Upstream.Timeout = 50 * time.Millisecond })
	c := s.warm()
	for target, want := range map[string]int{"/slow": 504, "/cut": 502} {
		c.send(get(target))
		if r := c.receive("GET"); r.status != want {
			t.Errorf("%s: %q", target, r.head)
		}
	}
	if !strings.Contains(s.log.String(), "call not answered by WeChat") {
		t.Error("the log says nothing")
	}
	if n := len(p.requests()); n != 2 {
		t.Errorf("WeChat got %d calls", n)
	}
}

func TestAtOnceDrains(t *testing.T) {
	for _, reload := range []bool{false, true} {
		p, release := waiting(t)
		s := start(t, p.url(), nil)
		busy := s.warm()
		busy.send(get("/x"))
		eventually(t, "a call under way", func() bool { return len(p.requests()) == 1 })
		conns, done := s.server.current.conns, make(chan error, 1)
		if reload {
			limits := s.limits
			limits.MaxHeader = 8 << 10
			s.server.Reconfigure(limits)
		} else {
			go func() { done <- s.server.Shutdown(context.Background()) }()
		}
		eventually(t, "the server closes the connection, which it takes for idle", func() bool {
			conns.mu.Lock()
			defer conns.mu.Unlock()
			for c := range conns.open {
				return c.inCall.Load() == closing
			}
			return false
		})
		select {
		case <-done:
			t.Error("Shutdown did not wait for the call")
		default:
		}
		close(release)
		if r := busy.receive("GET"); r.status != 200 || r.body != `{"errcode":0,"errmsg":"ok"}` {
			t.Errorf("the call under way: %q", r.head)
		}
		if !busy.closed() {
			t.Error("its connection stays open")
		}
		if !reload {
			if err := <-done; err != nil {
				t.Errorf("Shutdown returns %v", err)
			}
		}
	}
}

func TestAtOnceIsCut(t *testing.T) {
	p, release := waiting(t)
	defer close(release)
	s := start(t, p.url(), nil)
	busy := s.warm()
	busy.send(get("/x"))
	eventually(t, "a call under way", func() bool { return len(p.requests()) == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returns %v", err)
	}
	if !busy.closed() {
		t.Error("the call was not cut")
	}
}

func TestAtOnceCountsWhatIsUnderWay(t *testing.T) {
	p, release := waiting(t)
	s := start(t, p.url(), func(c *Config, _ *ServerConfig) { c.MaxInFlight = 1 })
	busy, refused := s.warm(), s.warm()
	busy.send(get("/x"))
	eventually(t, "a call under way", func() bool { return s.proxy.InFlight() == 1 })
	refused.send(get("/x"))
	if r := refused.receive("GET"); r.status != 429 {
		t.Errorf("one too many: %q", r.head)
	}
	close(release)
	if r := busy.receive("GET"); r.status != 200 {
		t.Errorf("the call under way: %q", r.head)
	}
	refused.send(get("/x"))
	if r := refused.receive("GET"); r.status != 200 {
		t.Errorf("the next one: %q", r.head)
	}
	eventually(t, "no call is under way", func() bool { return s.proxy.InFlight() == 0 })
}

// panickingTokens panics when it is asked for a token.
type panickingTokens struct {
	*stubTokens
	panics atomic.Bool
}

func (p *panickingTokens) Rejected(context.Context, *tokens.Token, int) (*tokens.Token, error) {
	panic("rejected")
}

func (p *panickingTokens) Find(appID string, now time.Time) *tokens.Token {
	if p.panics.Load() {
		panic("secret-in-a-panic")
	}
	return p.stubTokens.Find(appID, now)
}

// A panic ends one call, with an answer.
func TestAtOncePanics(t *testing.T) {
	p := newPeer(t, errcodeAnswer("40001"))
	source := &panickingTokens{stubTokens: newStubTokens(t)}
	s := startWith(t, p.url(), source, nil)
	for _, early := range []bool{false, true} {
		source.panics.Store(early)
		c := s.warm()
		c.send(get("/x"))
		if r := c.receive("GET"); r.status != 500 || !c.closed() {
			t.Errorf("%v: %q", early, r.head)
		}
	}
	source.panics.Store(false)
	if s.proxy.InFlight() != 0 || strings.Contains(s.log.String(), "secret-in-a-panic") || strings.Count(s.log.String(), "panic while serving") != 2 {
		t.Errorf("%d calls are under way; log: %s", s.proxy.InFlight(), s.log)
	}
}

type panickingConn struct{ silentConn }

func (panickingConn) Read([]byte) (int, error)  { panic("read") }
func (panickingConn) Write([]byte) (int, error) { panic("secret-in-a-panic") }

func TestAtOncePanicsWhileSending(t *testing.T) {
	server, atOnce := newTwoWays(t), newTwoWays(t)
	var got []outcome
	for i, w := range []*twoWays{server, atOnce} {
		w.proxy.settings.Load().names.hosts["api.weixin.qq.com"].pool.Dial = func(string) (net.Conn, error) {
			return &upstreamConn{Conn: panickingConn{}}, nil
		}
		o := w.serve(i == 1, "", get("/x"))
		if strings.Count(o.log, "panic while serving") != 1 || strings.Contains(o.log, "secret-in-a-panic") || !strings.Contains(o.toApp, " 500 ") {
			t.Errorf("the app gets %s, the log says %s", o.toApp, o.log)
		}
		o.log, o.counted = "", w.counted(t)
		got = append(got, o)
	}
	sameOutcome(t, get("/x"), "", got[0], got[1])
}

// Calls come in all the ways that connections cut them.
func TestAtOnceInPieces(t *testing.T) {
	w := newTwoWays(t)
	for _, text := range []string{request("POST", "/p", "body"), get("/x")} {
		whole := w.serve(true, okAnswer, text)
		for cut := 1; cut < len(text); cut++ {
			sameOutcome(t, text[:cut], okAnswer, whole, w.serve(true, okAnswer, text[:cut], text[cut:]))
		}
	}
}

// Should fasthttp ever refuse what was taken for a whole request, the call has
// been made all the same.
func TestAtOnceIsAnsweredInAnyCase(t *testing.T) {
	w := newTwoWays(t)
	w.answer = "not HTTP\r\n\r\n"
	conn := &clientConn{Conn: &scriptedConn{}, config: &w.limits, listener: newHandedOver(w.proxy, memoryAddr, w.limits)}
	if served, err := w.proxy.serveAtOnce(conn, []byte(get("/x"))); served || err != nil || conn.begun == nil {
		t.Fatalf("served: %v, %v", served, err)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init2(conn, silent{}, false)
	answerUnread(&ctx, errors.New("refused"))
	if ctx.Response.StatusCode() != 502 || w.proxy.InFlight() != 0 || conn.inCall.Load() != noCall || conn.begun != nil {
		t.Errorf("status %d, %d calls under way", ctx.Response.StatusCode(), w.proxy.InFlight())
	}
}
