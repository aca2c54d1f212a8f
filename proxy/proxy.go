// Package proxy is the data plane: it takes calls of apps, gives them the token
// they need, and passes them on to WeChat.
package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"golang.org/x/sync/singleflight"

	"lingpai/metrics"
	"lingpai/proxy/cache"
	"lingpai/proxy/route"
	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// Config is what a Proxy can be told again while it runs.
type Config struct {
	Upstream UpstreamConfig
	Routes   *route.Table
	// Names are further names by which callers reach lingpai itself.
	Names        []string
	DefaultAppID string
	// LoginURL is the origin of WeChat's login pages; "": WeChat's own two.
	LoginURL string
	// Follower: there are no secrets, so that calls which take one are refused.
	Follower bool
	// ReplayMaxBody is the longest body that is kept to be sent again, in bytes.
	ReplayMaxBody int64
	// MaxBody is the longest body that is accepted, in bytes.
	MaxBody int64
	// MaxInFlight is how many calls may be under way.
	MaxInFlight int
	// Credentials are put in where a path wants them.
	Credentials Credentials
	// PublicURL is where browsers reach listen.callback; "" if it is not known.
	PublicURL string
	// CacheBytes bounds the memory for kept answers.
	CacheBytes int64
}

// Tokens is what the data plane needs of the tokens.Service.
type Tokens interface {
	// Find returns a token that memory has and that can be sent now, or nil.
	Find(appID string, now time.Time) *tokens.Token
	FindComponent(now time.Time) *tokens.Token
	ComponentKey() (tokens.Key, bool)
	KeyOf(appID string) tokens.Key
	// Token waits for a token if it must.
	Token(ctx context.Context, key tokens.Key) (*tokens.Token, error)
	// Rejected returns another token in place of one that WeChat refused.
	Rejected(ctx context.Context, t *tokens.Token, errcode int) (*tokens.Token, error)
	// Force is Token for a caller that wants another one than the present.
	Force(ctx context.Context, key tokens.Key) (*tokens.Token, error)
	// ExchangeCode spends an authorization code, by ask if it must, and returns
	// WeChat's answer.
	ExchangeCode(ctx context.Context, code secret.String, ask func() (wechat.Grant, error)) (answer []byte, err error)
	// LearnInfo and LearnList persist what answers of WeChat say of authorizers.
	LearnInfo(ctx context.Context, info wechat.AuthorizerInfo, asked time.Time) error
	LearnList(ctx context.Context, list []wechat.ListedAuthorizer) (tokens.Learned, error)
}

var _ Tokens = (*tokens.Service)(nil)

// Proxy handles calls of apps. Make one with New. Safe for concurrent use.
type Proxy struct {
	settings atomic.Pointer[settings]
	tokens   Tokens
	metrics  *metrics.Metrics
	log      *slog.Logger
	listen   net.Addr
	inFlight atomic.Int64
	calls    sync.Pool
	answers  *cache.Cache
	flights  singleflight.Group // of calls whose answer is kept
	seqID    [16]byte           // begins the ids of relayed answers
	sequence atomic.Uint64
}

// settings is a Config made ready for use. It never changes.
type settings struct {
	Config
	names     names
	defaultID []byte
}

// New returns a Proxy whose own address is listen.
func New(config Config, listen net.Addr, source Tokens, m *metrics.Metrics, log *slog.Logger) (*Proxy, error) {
	p := &Proxy{tokens: source, metrics: m, log: log, listen: listen}
	p.calls.New = func() any { return &call{} }
	copy(p.seqID[:], randomText())
	var err error
	if p.answers, err = cache.New(config.CacheBytes); err != nil {
		return nil, err
	}
	if err := p.Reconfigure(config); err != nil {
		p.answers.Close()
		return nil, err
	}
	return p, nil
}

// Close ends what Handle needs; no call may be under way or come any more.
func (p *Proxy) Close() {
	p.CloseIdle()
	p.answers.Close()
}

// Reconfigure takes over another configuration; calls under way end with the
// former one. An error leaves that in force.
func (p *Proxy) Reconfigure(config Config) error {
	s := &settings{Config: config, names: newNames(p.listen, config.Names), defaultID: []byte(config.DefaultAppID)}
	sessions := tls.NewLRUClientSessionCache(256)
	servers := map[string]*upstream{}
	server := func(url string) (*upstream, error) {
		if u := servers[url]; u != nil {
			return u, nil
		}
		u, err := newUpstream(url, config.Upstream, sessions)
		if err == nil {
			servers[url] = u
		}
		return u, err
	}
	var err error
	if s.names.main, err = server(config.Upstream.URL); err != nil {
		return err
	}
	for name, url := range config.Upstream.Hosts {
		if s.names.hosts[strings.ToLower(name)], err = server(url); err != nil {
			return err
		}
	}
	p.answers.Resize(config.CacheBytes)
	old := p.settings.Swap(s)
	if old != nil {
		old.closeIdle()
	}
	return nil
}

func (s *settings) closeIdle() {
	s.names.main.pool.CloseIdleConnections()
	for _, u := range s.names.hosts {
		u.pool.CloseIdleConnections()
	}
}

// CloseIdle closes the pooled connections to WeChat.
func (p *Proxy) CloseIdle() { p.settings.Load().closeIdle() }

// InFlight returns how many calls are under way.
func (p *Proxy) InFlight() int { return int(p.inFlight.Load()) }

// call is one call of an app, pooled.
type call struct {
	outgoing outgoing
	body     requestBody
	fields   fields
	query    querySplit
	lower    [64]byte
	label    metrics.Token
	appID    string // for the log
	bodyRead bool
	waited   bool // for a token
	began    time.Time
	ended    time.Time // when WeChat's answer was there; zero if more was done since

	// Of a call that is served at once: where it goes, and, if the server has to
	// take it up, what is left of its first exchange.
	upstream *upstream
	later    func(*fasthttp.Response) error
	errcode  int // of the answer, if that goes on as it came
	panicked bool
}

func (c *call) reset() {
	c.body.close()
	if cap(c.outgoing.head) > 2*maxPooled {
		c.outgoing.head = nil
	}
	c.outgoing = outgoing{head: c.outgoing.head[:0], answer: c.outgoing.answer[:0]}
	c.label = metrics.TokenNone
	c.appID = ""
	c.fields = fields{forward: c.fields.forward[:0]}
	c.query = querySplit{rest: c.query.rest[:0]}
	c.bodyRead, c.waited, c.ended = false, false, time.Time{}
	c.began, c.upstream, c.later, c.errcode, c.panicked = time.Time{}, nil, nil, 0, false
}

// Handle is the fasthttp handler of listen.proxy.
func (p *Proxy) Handle(ctx *fasthttp.RequestCtx) {
	c := begunCall(ctx)
	begun, n := c != nil, int64(0)
	if !begun {
		c = p.calls.Get().(*call)
		if c.began = ctx.Time(); c.began.IsZero() { // not called by a server
			c.began = time.Now()
		}
		n = p.inFlight.Add(1)
		p.metrics.InFlight(1)
	}
	defer p.done(ctx, c)
	var f *fault
	switch s := p.settings.Load(); {
	case begun:
		f = p.resume(ctx, c)
	case n > int64(s.MaxInFlight):
		f = faultBusy
	default:
		f = p.serve(ctx, s, c, c.began)
	}
	if f != nil {
		f.write(ctx)
	}
	if c.body.unread() || !c.bodyRead && !discard(ctx) {
		abandon(ctx)
	}
	if c.fields.close {
		ctx.Response.SetConnectionClose()
	}
	if !ctx.Request.Header.IsHTTP11() {
		endWithConnection(&ctx.Response)
	}
}

// done ends a call, even one that panicked.
func (p *Proxy) done(ctx *fasthttp.RequestCtx, c *call) {
	if cause := recover(); cause != nil {
		p.log.Error("panic while serving a call", "stack", string(debug.Stack()))
		c.outgoing.answered = false
		faultPanic.write(ctx)
	}
	now := c.ended
	if now.IsZero() {
		now = time.Now()
	}
	took := now.Sub(c.began)
	p.metrics.Request(c.label, ctx.Method(), ctx.Response.StatusCode(), took)
	answer, ok := ctx.Response.BodyStream().(*answerStream)
	if ok {
		answer.done = p.leave // it has yet to be read
	} else {
		p.leave()
	}
	if conn, isOurs := ctx.Conn().(*clientConn); isOurs {
		conn.endCall()
		conn.answered(now, !ok)
		if c.outgoing.answered {
			conn.answer(c.outgoing.answer)
		}
	}
	p.release(c, ctx.Method(), ctx.Response.StatusCode(), took)
}

// release logs a call that has ended, and gives it back.
func (p *Proxy) release(c *call, method []byte, status int, took time.Duration) {
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("call", "method", string(method), "path", string(c.outgoing.path), "app_id", c.appID,
			"status", status, "duration", took.String())
	}
	c.reset()
	p.calls.Put(c)
}

func (p *Proxy) leave() {
	p.metrics.InFlight(-1)
	p.inFlight.Add(-1)
}

// serve is a call from its header to WeChat's answer.
func (p *Proxy) serve(ctx *fasthttp.RequestCtx, s *settings, c *call, now time.Time) *fault {
	var f *fault
	if c.fields, f = readFields(c.fields.forward[:0], ctx.Request.Header.RawHeaders()); f != nil {
		return f
	}
	var r asking
	if f = p.understand(&r, s, c, ctx.Request.Header.RequestURI(), ctx.Request.Header.Host(), ctx.LocalAddr()); f != nil {
		return f
	}
	said, work := &r.said, r.said.rule.Work
	if own := ownPath(said.path); own != nil {
		return p.serveOwn(ctx, s, c, own, c.query.rest, namedAccount(said), now)
	}
	if work >= route.AnswerToken && work <= route.AnswerAuthorizerToken {
		return p.emulate(ctx, s, c, work, namedAccount(said))
	}
	if s.Follower && p.takesSecret(s, c, work, said) {
		return faultFollower
	}
	chosen, f := choose(said)
	if f != nil {
		return f
	}
	ahead := r.upstream
	if work == route.Cache { // of all who wait, one will call
		ahead = nil
	}
	if c.outgoing.token, f = p.tokenFor(c, chosen, ahead, now); f != nil {
		return f
	}
	if chosen.token == route.User {
		c.query.rest = userQuery(c.query.rest[:0], r.target.query)
	} else if work == route.FillAccountSecret || work == route.FillComponentAppID {
		p.fillQuery(s, c, work, namedAccount(said))
	}
	c.address(ctx.Method(), &r, chosen)
	if f := c.body.read(ctx, c.fields.chunked, s.ReplayMaxBody, s.MaxBody); f != nil {
		return f
	}
	c.bodyRead = true
	if chosen.token == route.Component || chosen.token == route.None {
		p.fillBody(s, c, work, chosen, namedAccount(said))
	}
	if c.waited || c.body.size > 0 && !atOnceThere(ctx) {
		now = time.Now()
	}
	return p.relay(ctx, r.upstream, c, work, now)
}

// asking is what a call asks for, and where it goes.
type asking struct {
	target   target
	upstream *upstream
	said     asked
}

// understand fills r from a request line and c.fields.
func (p *Proxy) understand(r *asking, s *settings, c *call, uri, host []byte, local net.Addr) (f *fault) {
	if r.target, f = parseTarget(uri, host); f != nil {
		return f
	}
	if r.upstream = s.names.find(r.target.host, r.target.https, local, c.lower[:0]); r.upstream == nil {
		return faultHost
	}
	said := &r.said
	said.prefixID, said.path = cutAppPrefix(r.target.path)
	c.outgoing.path = said.path
	said.rule, _ = s.Routes.Find(said.path)
	c.query = splitQuery(c.query.rest[:0], r.target.query)
	said.fields, said.query, said.defaultID = &c.fields, &c.query, s.defaultID
	_, said.component = p.tokens.ComponentKey()
	return nil
}

// address makes c.outgoing the call that goes on, but for its token and body.
func (c *call) address(method []byte, r *asking, chosen choice) {
	o := &c.outgoing
	o.method, o.rest, o.forward, o.body = method, c.query.rest, c.fields.forward, &c.body
	o.hasQuery, o.param = r.target.hasQuery && c.query.any || len(o.rest) > 0, chosen.param.String()
}

// relay passes a call on and does what its path wants with the answer.
func (p *Proxy) relay(ctx *fasthttp.RequestCtx, u *upstream, c *call, work route.Work, now time.Time) (f *fault) {
	switch work {
	case route.Cache:
		f = p.cached(ctx, u, c, now)
	case route.ExchangeCode:
		f = p.exchangeCode(ctx, u, c)
	case route.LearnInfo, route.LearnList, route.MaskReport:
		if f = p.pass(ctx, u, c, now); f == nil {
			f = p.rewrite(ctx, work, now)
		}
	default:
		if o := &c.outgoing; directly(ctx, c) {
			o.direct, o.seqID = true, p.appendSeqID(c.lower[:0])
		}
		if f = p.pass(ctx, u, c, now); f == nil && !c.outgoing.answered {
			p.nameAnswer(ctx, c)
		}
		return f
	}
	c.ended = time.Time{}
	if f == nil {
		p.nameAnswer(ctx, c)
	}
	return f
}

// nameAnswer gives a relayed answer an id, as WeChat's cloud hosting does.
// https://developers.weixin.qq.com/miniprogram/dev/wxcloudrun/src/guide/weixin/open.html
func (p *Proxy) nameAnswer(ctx *fasthttp.RequestCtx, c *call) {
	ctx.Response.Header.SetCanonical(seqIDName, p.appendSeqID(c.lower[:0]))
}

func (p *Proxy) appendSeqID(dst []byte) []byte {
	dst = append(dst, p.seqID[:]...)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, p.sequence.Add(1), 16)
}

var seqIDName = []byte("X-Openapi-Seqid")
