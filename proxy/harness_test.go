package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/metrics"
	"lingpai/proxy/route"
	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
	"lingpai/tokens/wechat"
)

const (
	platform   = "wx0123456789abcdef"
	authorizer = "wxaaaaaaaaaaaaaaaa"
	direct     = "wxdddddddddddddddd"

	componentValue  = "component-token-1"
	authorizerValue = "authorizer-token-1"
	accountValue    = "account-token-1"

	authorizerPath = "/cgi-bin/message/custom/send"
	componentPath  = "/cgi-bin/component/api_create_preauthcode"
	eitherPath     = "/cgi-bin/clear_quota"
	userPath       = "/sns/userinfo"
	nonePath       = "/sns/jscode2session"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// mint makes a token of the given value, as the service would hand it out.
func mint(t testing.TB, key tokens.Key, value string) *tokens.Token {
	t.Helper()
	st := memory.New()
	ctx := context.Background()
	now := time.Now()
	record := store.Token{Value: secret.New(value), ExpiresAt: now.Add(2 * time.Hour), RefreshedAt: now, Generation: 1}
	config := tokens.Config{
		Component:    &tokens.ComponentConfig{AppID: platform},
		WaitTimeout:  patience,
		RefreshAhead: time.Minute,
		Client:       wechat.NewClient(&http.Transport{}, "http://127.0.0.1:1", time.Second),
	}
	var err error
	switch key.Kind {
	case tokens.Component:
		_, err = st.UpdateComponent(ctx, key.AppID, func(c *store.Component) error { c.Token = record; return nil })
	case tokens.Account:
		config.Accounts = map[string]secret.String{key.AppID: secret.New("secret")}
		_, err = st.UpdateAccount(ctx, key.AppID, func(a *store.Account) error { a.Token = record; return nil })
	default:
		_, err = st.UpdateAuthorizer(ctx, key.AppID, func(a *store.Authorizer) error {
			a.State, a.Token, a.RefreshToken = store.StateActive, record, secret.New("refresh")
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	service, err := tokens.NewService(config, st, 1<<20, metrics.New("", "", ""), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close(ctx)
	token, err := service.Token(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// stubTokens hands out the tokens it is given.
type stubTokens struct {
	component *tokens.Token
	byAppID   map[string]*tokens.Token
	err       error                                    // of Token
	better    func(errcode int) (*tokens.Token, error) // of Rejected; nil declines
	rejected  atomic.Int32
	looked    atomic.Int32
}

// minted holds the tokens that all tests share: a token never changes.
var minted sync.Map

func shared(t testing.TB, kind tokens.Kind, appID, value string) *tokens.Token {
	if token, ok := minted.Load(value); ok {
		return token.(*tokens.Token)
	}
	token, _ := minted.LoadOrStore(value, mint(t, tokens.Key{Kind: kind, AppID: appID}, value))
	return token.(*tokens.Token)
}

func newStubTokens(t testing.TB) *stubTokens {
	return &stubTokens{
		component: shared(t, tokens.Component, platform, componentValue),
		byAppID: map[string]*tokens.Token{
			authorizer: shared(t, tokens.Authorizer, authorizer, authorizerValue),
			direct:     shared(t, tokens.Account, direct, accountValue),
		},
		err: tokens.ErrUnknown,
	}
}

func (s *stubTokens) Force(ctx context.Context, key tokens.Key) (*tokens.Token, error) {
	return s.Token(ctx, key)
}

func (s *stubTokens) ExchangeCode(context.Context, secret.String, func() (wechat.Grant, error)) ([]byte, error) {
	return nil, s.err
}

func (s *stubTokens) LearnInfo(context.Context, wechat.AuthorizerInfo, time.Time) error {
	return nil
}

func (s *stubTokens) LearnList(context.Context, []wechat.ListedAuthorizer) (tokens.Learned, error) {
	return tokens.Learned{}, nil
}

func (s *stubTokens) Find(appID string, _ time.Time) *tokens.Token {
	s.looked.Add(1)
	return s.byAppID[appID]
}

func (s *stubTokens) FindComponent(time.Time) *tokens.Token {
	s.looked.Add(1)
	return s.component
}

func (s *stubTokens) ComponentKey() (tokens.Key, bool) {
	return tokens.Key{Kind: tokens.Component, AppID: platform}, s.component != nil
}

func (s *stubTokens) KeyOf(appID string) tokens.Key {
	return tokens.Key{Kind: tokens.Authorizer, AppID: appID}
}

func (s *stubTokens) Token(context.Context, tokens.Key) (*tokens.Token, error) { return nil, s.err }

func (s *stubTokens) Rejected(_ context.Context, _ *tokens.Token, errcode int) (*tokens.Token, error) {
	s.rejected.Add(1)
	if s.better == nil {
		return nil, tokens.ErrDeclined
	}
	return s.better(errcode)
}

// received is one request as it reached an upstream, byte for byte.
type received struct {
	head string // request line and fields, without the empty line
	body []byte
	cut  bool // the body ended early
}

func (r received) line() string {
	line, _, _ := strings.Cut(r.head, "\r\n")
	return line
}

func (r received) target() string { return strings.Fields(r.line())[1] }

// fields returns the header lines.
func (r received) fields() []string { return strings.Split(r.head, "\r\n")[1:] }

// field returns the values of a field, each once for each of its lines.
func (r received) field(name string) (values []string) {
	for _, line := range r.fields() {
		key, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(key, name) {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"errcode\":0,\"errmsg\":\"ok\"}"

func errcodeAnswer(code string) string {
	body := `{"errcode":` + code + `,"errmsg":"invalid credential"}`
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// peer is an HTTP server whose every byte a test decides.
type peer struct {
	net.Listener
	// answer serves a request whose head has been read. It returns false to
	// close the connection.
	answer func(p *peer, c net.Conn, r received) bool
	mu     sync.Mutex
	got    []received
	conns  map[net.Conn]struct{}
	opened atomic.Int32
	text   atomic.Pointer[string]
}

// newPeer returns a peer that answers everything with text.
func newPeer(t testing.TB, text string) *peer {
	return newPeerWith(t, func(_ *peer, c net.Conn, _ received) bool {
		_, err := io.WriteString(c, text)
		return err == nil
	})
}

func newPeerWith(t testing.TB, answer func(*peer, net.Conn, received) bool) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return servePeer(t, l, answer)
}

func servePeer(t testing.TB, l net.Listener, answer func(*peer, net.Conn, received) bool) *peer {
	p := &peer{Listener: l, answer: answer, conns: map[net.Conn]struct{}{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.opened.Add(1)
			p.mu.Lock()
			p.conns[c] = struct{}{}
			p.mu.Unlock()
			serving.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.closeAll()
		serving.Wait()
	})
	return p
}

// say makes text the answer of a peer that looks for it.
func (p *peer) say(text string) { p.text.Store(&text) }

func (p *peer) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *peer) serve(c net.Conn) {
	defer func() {
		c.Close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	br := bufio.NewReader(c)
	for {
		r, err := readRequest(br)
		if err != nil && !r.cut {
			return
		}
		p.mu.Lock()
		p.got = append(p.got, r)
		p.mu.Unlock()
		if r.cut || !p.answer(p, c, r) {
			return
		}
	}
}

func readRequest(br *bufio.Reader) (received, error) {
	var r received
	length := 0
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return r, err
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			break
		}
		if r.head != "" {
			r.head += "\r\n"
		}
		r.head += line
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "content-length") {
			length, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	r.body = make([]byte, length)
	n, err := io.ReadFull(br, r.body)
	r.body, r.cut = r.body[:n], err != nil
	return r, err
}

// requests returns what has come so far.
func (p *peer) requests() []received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]received(nil), p.got...)
}

func (p *peer) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// only returns the one request that came, and forgets it.
func (p *peer) only(t testing.TB) received {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.got) != 1 {
		t.Fatalf("upstream got %d requests, want 1", len(p.got))
	}
	r := p.got[0]
	p.got = nil
	return r
}

func (p *peer) url() string { return "http://" + p.Addr().String() }

// buffer is a bytes.Buffer for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// sidecar is a running Server with its Proxy.
type sidecar struct {
	t       testing.TB
	proxy   *Proxy
	server  *Server
	config  Config
	limits  ServerConfig
	tokens  *stubTokens
	metrics *metrics.Metrics
	addr    string
	log     *buffer
	served  chan error
}

func testConfig(url string) (Config, ServerConfig) {
	config := Config{
		Upstream: UpstreamConfig{
			URL:            url,
			Hosts:          map[string]string{"api.weixin.qq.com": url},
			ConnectTimeout: 2 * time.Second,
			Timeout:        patience,
			IdleTimeout:    time.Second,
			MaxConnections: 600,
		},
		Routes:        route.Builtin(),
		DefaultAppID:  authorizer,
		ReplayMaxBody: 1 << 20,
		MaxBody:       32 << 20,
		MaxInFlight:   4096,
	}
	limits := ServerConfig{MaxHeader: 16 << 10, HeaderTimeout: patience, IdleTimeout: time.Minute, MaxBody: 32 << 20}
	return config, limits
}

// start runs a sidecar in front of url; change may be nil.
func start(t testing.TB, url string, change func(*Config, *ServerConfig)) *sidecar {
	t.Helper()
	return startWith(t, url, newStubTokens(t), change)
}

func startWith(t testing.TB, url string, source Tokens, change func(*Config, *ServerConfig)) *sidecar {
	t.Helper()
	s := &sidecar{t: t, log: &buffer{}, metrics: metrics.New("test", "", "")}
	s.tokens, _ = source.(*stubTokens)
	s.config, s.limits = testConfig(url)
	if change != nil {
		change(&s.config, &s.limits)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if s.proxy, err = New(s.config, l.Addr(), source, s.metrics, log); err != nil {
		t.Fatal(err)
	}
	s.server = NewServer(s.proxy, l, s.limits)
	s.served = make(chan error, 1)
	go func() { s.served <- s.server.Serve() }()
	t.Cleanup(s.stop)
	return s
}

func (s *sidecar) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	s.server.Shutdown(ctx)
	s.proxy.Close()
}

// client is a raw connection to a sidecar.
type client struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func (s *sidecar) dial() *client {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * patience))
	return &client{Conn: c, t: s.t, br: bufio.NewReaderSize(c, 64<<10)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// reply is an answer of a sidecar.
type reply struct {
	status int
	head   string // status line and fields as they came
	header http.Header
	body   string
	err    error // of reading the body
}

// receive reads an answer to a request of the given method.
func (c *client) receive(method string) reply {
	c.t.Helper()
	r, err := c.tryReceive(method)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return r
}

func (c *client) tryReceive(method string) (reply, error) {
	head := ""
	for n := 1; head == ""; n = c.br.Buffered() + 1 {
		_, err := c.br.Peek(n)
		got, _ := c.br.Peek(c.br.Buffered())
		if end := bytes.Index(got, []byte("\r\n\r\n")); end >= 0 {
			head = string(got[:end+4])
		} else if err != nil {
			return reply{head: string(got)}, err
		}
	}
	response, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	r := reply{status: response.StatusCode, head: head, header: response.Header}
	body, err := io.ReadAll(response.Body)
	r.body, r.err = string(body), err
	return r, nil
}

// closed reports whether the sidecar closes the connection without another
// byte.
func (c *client) closed() bool {
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := c.br.ReadByte()
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return false
	}
	return err != nil
}

// call sends one request on a connection of its own.
func (s *sidecar) call(text string) reply {
	s.t.Helper()
	c := s.dial()
	defer c.Close()
	c.send(text)
	method, _, _ := strings.Cut(text, " ")
	return c.receive(method)
}

func get(target string, lines ...string) string {
	return request("GET", target, "", lines...)
}

func request(method, target, body string, lines ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: api.weixin.qq.com\r\n")
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	if body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}
