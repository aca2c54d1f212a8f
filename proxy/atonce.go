package proxy

import (
	"bytes"
	"net"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/route"
	"lingpai/tokens/wechat"
)

// Nearly all calls are a GET or a short POST that is there as a whole with its
// first bytes, on a connection that has served one before, for a token that
// memory has; and nearly all of their answers go to the app as they came. Such a
// call is served at once, when the server of fasthttp reads: it sees nothing of
// it, and makes no request and response of it. All other calls are that server's.
// Which they are is decided before anything is sent to WeChat. A call whose
// answer turns out to need more is then taken up by Handle where it stands.

// wholeRequest is a request whose form leaves no doubt about what it says. Its
// slices are of the bytes it was read from.
type wholeRequest struct {
	method []byte // GET or POST
	uri    []byte
	header []byte // the lines, and the empty one
	body   []byte
}

// readWhole takes b apart if it is one request and nothing else. It is stricter
// than fasthttp, so that both mean the same by what it takes.
func readWhole(b []byte) (r wholeRequest, ok bool) {
	switch {
	case bytes.HasPrefix(b, []byte("GET /")):
		r.method = b[:3]
	case bytes.HasPrefix(b, []byte("POST /")):
		r.method = b[:4]
	default:
		return r, false
	}
	rest := b[len(r.method)+1:]
	end := 0
	for end < len(rest) && '!' <= rest[end] && rest[end] <= '~' {
		end++
	}
	r.uri, rest = rest[:end], rest[end:]
	if !bytes.HasPrefix(rest, versionAndEnd) || bytes.Contains(r.uri, []byte("://")) {
		return r, false
	}
	rest = rest[len(versionAndEnd):]
	if end = headerEnd(rest); end < 0 {
		return r, false
	}
	r.header, r.body = rest[:end], rest[end:]
	return r, true
}

var versionAndEnd = []byte(" HTTP/1.1\r\n")

// headerEnd returns where the header lines that b begins with end, with the empty
// one; -1 if they are not complete, or not plain ASCII with names that are tokens
// (RFC 9110, 5.6.2).
func headerEnd(b []byte) int {
	i := 0
	for {
		begin := i
		for i < len(b) && isTokenByte[b[i]] {
			i++
		}
		if i == begin {
			if !bytes.HasPrefix(b[i:], []byte("\r\n")) {
				return -1
			}
			return i + len("\r\n")
		}
		if i == len(b) || b[i] != ':' {
			return -1
		}
		for i < len(b) && ' ' <= b[i] && b[i] <= '~' {
			i++
		}
		if !bytes.HasPrefix(b[i:], []byte("\r\n")) {
			return -1
		}
		i += len("\r\n")
	}
}

var isTokenByte = func() (is [256]bool) {
	for c := '!'; c <= '~'; c++ {
		is[c] = bytes.IndexByte([]byte(`"(),/:;<=>?@[\]{}`), byte(c)) < 0
	}
	return is
}()

// isPlainHost reports whether a Host field is a name or an IPv4 address, with a
// port or without.
func isPlainHost(host []byte) bool {
	name, port, hasPort := bytes.Cut(host, []byte(":"))
	for _, c := range name {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || c == '.' || c == '-') {
			return false
		}
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(name) > 0 && (!hasPort || len(port) > 0)
}

// serveAtOnce serves the call that b is, if it can. Else the server has to, with
// the same bytes. err ends the connection.
func (p *Proxy) serveAtOnce(conn *clientConn, b []byte) (served bool, err error) {
	r, ok := readWhole(b)
	if !ok || conn.ending() {
		return false, nil
	}
	c := p.calls.Get().(*call)
	c.began = time.Now()
	entered, answered := p.answerAtOnce(conn, c, r)
	switch {
	case !entered:
		c.reset()
		p.calls.Put(c)
		return false, nil
	case !answered:
		conn.begun = c
		return false, nil
	}
	took := c.ended.Sub(c.began)
	p.metrics.Upstream(took)
	p.metrics.Errcode(c.errcode)
	p.metrics.Request(c.label, r.method, fasthttp.StatusOK, took)
	conn.answered(c.ended, true)
	_, err = conn.Write(c.outgoing.answer)
	p.leave()
	p.release(c, r.method, fasthttp.StatusOK, took)
	if conn.endCall() {
		conn.Close()
		err = net.ErrClosed
	}
	return true, err
}

// isPlain makes c the call that r is; false if it needs more than a token.
func (p *Proxy) isPlain(conn *clientConn, s *settings, c *call, r wholeRequest) bool {
	var f *fault
	if c.fields, f = readFields(c.fields.forward[:0], r.header); f != nil {
		return false
	}
	fields, length := &c.fields, int64(len(r.body))
	if fields.unusual || fields.chunked || fields.close || !isPlainHost(fields.host) || fields.hasLength != (len(r.method) == len("POST")) {
		return false
	}
	if fields.hasLength {
		if said, err := strconv.ParseUint(string(fields.length), 10, 31); err != nil || int64(said) != length {
			return false
		}
	}
	if length > min(s.ReplayMaxBody, s.MaxBody, maxPooled) || length > 0 && !fields.hasLength {
		return false
	}
	var asks asking
	if p.understand(&asks, s, c, r.uri, fields.host, conn.LocalAddr()) != nil {
		return false
	}
	if asks.said.rule.Work != route.Forward || ownPath(asks.said.path) != nil {
		return false
	}
	chosen, f := choose(&asks.said)
	if f != nil || chosen.token == route.User {
		return false
	}
	token, _, missing := p.knownToken(c, chosen, c.began)
	if missing {
		return false
	}
	c.outgoing.token = token
	c.address(r.method, &asks, chosen)
	if length > 0 {
		c.body.size = length
		c.body.memory = append(c.body.memory[:0], r.body...)
	}
	if chosen.token == route.Component || chosen.token == route.None {
		p.fillBody(s, c, route.Forward, chosen, namedAccount(&asks.said))
	}
	c.outgoing.direct, c.outgoing.seqID = true, p.appendSeqID(c.lower[:0])
	c.upstream = asks.upstream
	return true
}

// enter counts a call; false if there are too many, or its connection is being
// closed.
func (p *Proxy) enter(conn *clientConn, s *settings) bool {
	n := p.inFlight.Add(1)
	p.metrics.InFlight(1)
	if n > int64(s.MaxInFlight) || !conn.beginCall() {
		p.leave()
		return false
	}
	return true
}

// answerAtOnce makes r, if it is plain, the call c, sends it and takes its answer.
// answered is false if that needs more than to go to the app as it came.
func (p *Proxy) answerAtOnce(conn *clientConn, c *call, r wholeRequest) (entered, answered bool) {
	defer func() {
		if cause := recover(); cause != nil && entered { // else the server meets it too
			p.log.Error("panic while serving a call", "stack", string(debug.Stack()))
			c.panicked, answered = true, false
		}
	}()
	s := p.settings.Load()
	if p.inFlight.Load() >= int64(s.MaxInFlight) || !p.isPlain(conn, s, c, r) || !p.enter(conn, s) {
		return false, false
	}
	entered = true
	later, err := c.upstream.exchange(&c.outgoing, nil, c.began)
	c.ended = time.Now()
	if err == nil && later == nil {
		c.errcode = errcodeOf(c.outgoing.answer[c.outgoing.answerHead:])
		if c.outgoing.token == nil || !wechat.BadToken(c.errcode) {
			return true, true
		}
	}
	if later == nil {
		later = func(*fasthttp.Response) error { return err }
	}
	c.later = later
	return true, false
}

// begunCall returns the call that was begun before the server saw it, or nil.
func begunCall(ctx *fasthttp.RequestCtx) *call {
	conn, ok := ctx.Conn().(*clientConn)
	if !ok {
		return nil
	}
	c := conn.begun
	conn.begun = nil
	return c
}

// resume takes up a call that was begun before the server saw it.
func (p *Proxy) resume(ctx *fasthttp.RequestCtx, c *call) *fault {
	if c.panicked {
		return faultPanic
	}
	f := p.pass(ctx, c.upstream, c, c.began)
	if f == nil && !c.outgoing.answered {
		p.nameAnswer(ctx, c)
	}
	return f
}
