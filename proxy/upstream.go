package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/internal/heldconn"
)

// UpstreamConfig says how WeChat is reached.
type UpstreamConfig struct {
	URL            string            // serves calls that name lingpai itself
	Hosts          map[string]string // lower-case name a call may carry: URL that serves it
	CAFile         string            // extra roots, PEM, as it was read
	Roots          *x509.CertPool    // nil: the system's
	EgressProxy    string            // http://host:port that is asked to CONNECT; "" for none
	ConnectTimeout time.Duration
	Timeout        time.Duration // until the first byte of an answer, and between two parts of it
	IdleTimeout    time.Duration // of a pooled connection
	MaxConnections int
}

// upstream is one server that calls go to, with its pool of connections. Safe
// for concurrent use.
type upstream struct {
	host    []byte // value of the Host field
	addr    string
	pool    *fasthttp.HostClient
	timeout time.Duration
	// wary is until when (Unix ns) pooled connections are looked at before each
	// use, because one was found closed by the server at once.
	wary atomic.Int64
	// ahead is how many connections are kept for calls that wait for their tokens.
	ahead atomic.Int64
}

// upstreamBuffer is how long the header of an answer may be, in bytes.
const upstreamBuffer = 8 << 10

func newUpstream(base string, c UpstreamConfig, sessions tls.ClientSessionCache) (*upstream, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("upstream %q is no http or https URL", base)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	var config *tls.Config
	if u.Scheme == "https" {
		config = &tls.Config{
			ServerName:         u.Hostname(),
			RootCAs:            c.Roots,
			MinVersion:         tls.VersionTLS12,
			NextProtos:         []string{"http/1.1"},
			ClientSessionCache: sessions,
			// A call is of no use to WeChat before all of it is there.
			DynamicRecordSizingDisabled: true,
		}
	}
	up := &upstream{
		host:    []byte(u.Host),
		addr:    net.JoinHostPort(u.Hostname(), port),
		timeout: c.Timeout,
	}
	dialer := dialer{timeout: c.ConnectTimeout, tls: config, egress: c.EgressProxy}
	up.pool = &fasthttp.HostClient{
		Addr:                up.addr,
		Dial:                dialer.dial,
		MaxConns:            c.MaxConnections,
		MaxConnWaitTimeout:  c.ConnectTimeout,
		MaxIdleConnDuration: c.IdleTimeout,
		ReadBufferSize:      upstreamBuffer,
	}
	return up, nil
}

// connectAfter is how long a call waits for its token before it is worth to open a
// connection meanwhile: a token from the store is there sooner.
const connectAfter = 5 * time.Millisecond

// connectAhead begins, after a while, to open a connection for a call that waits
// for its token, or to keep an idle one for it, so that at a cold start, when
// nobody has a token or a connection, the one wait hides the other. The call ends
// that with opened, which waits for what has begun. Waiting calls take no more than
// half of the connections: the others are for calls that have a token. u may be nil.
func (u *upstream) connectAhead() (opened func()) {
	if u == nil {
		return func() {}
	}
	release, ready := func() {}, make(chan struct{})
	timer := time.AfterFunc(connectAfter, func() {
		defer close(ready)
		if int(u.ahead.Add(1)) > u.pool.MaxConns/2 {
			u.ahead.Add(-1)
		} else if conn, err := u.pool.AcquireConn(0, false); err != nil {
			u.ahead.Add(-1)
		} else {
			release = func() {
				u.pool.ReleaseConn(conn)
				u.ahead.Add(-1)
			}
		}
	})
	return func() {
		if !timer.Stop() {
			<-ready
			release()
		}
	}
}

// upstreamConn is a connection to WeChat. tcp is the socket below it, to look
// whether the server has closed it; held, which may be nil, lies between.
type upstreamConn struct {
	net.Conn
	tcp   net.Conn
	held  *heldconn.Conn
	armed time.Time // deadline of the socket
}

// giveTime lets the connection wait for the network for at least timeout from
// now, and at most an eighth longer: so one that is busy seldom moves a timer.
func (c *upstreamConn) giveTime(now time.Time, timeout time.Duration) {
	if left := c.armed.Sub(now); left < timeout || left > timeout+timeout/8 {
		c.armed = now.Add(timeout + timeout/8)
		c.Conn.SetDeadline(c.armed)
	}
}

// dialer opens connections, through TLS and an egress proxy if so configured.
type dialer struct {
	timeout time.Duration
	tls     *tls.Config
	egress  string
}

func (d dialer) dial(addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	conn, err := d.open(ctx, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	c := &upstreamConn{Conn: conn, tcp: conn, held: heldconn.New(conn)}
	if c.held != nil {
		c.Conn = c.held
	}
	if d.tls == nil {
		return c, nil
	}
	secured := tls.Client(c.Conn, d.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &dialError{err}
	}
	c.Conn = secured
	return c, nil
}

func (d dialer) open(ctx context.Context, addr string) (net.Conn, error) {
	var netDialer net.Dialer
	if d.egress == "" {
		return netDialer.DialContext(ctx, "tcp", addr)
	}
	egress, err := url.Parse(d.egress)
	if err != nil {
		return nil, errors.New("upstream.egress_proxy is no URL")
	}
	conn, err := netDialer.DialContext(ctx, "tcp", egress.Host)
	if err != nil {
		return nil, err
	}
	if err := connectThrough(ctx, conn, addr, egress.User); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connectThrough asks an HTTP proxy for a tunnel to addr.
func connectThrough(ctx context.Context, conn net.Conn, addr string, user *url.Userinfo) error {
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	authorization := ""
	if user != nil {
		password, _ := user.Password()
		authorization = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", addr, addr, authorization); err != nil {
		return err
	}
	// One byte at a time: what stands behind the answer belongs to the tunnel.
	response, err := http.ReadResponse(bufio.NewReaderSize(oneByteReader{conn}, 16), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return fmt.Errorf("upstream.egress_proxy gave no answer to CONNECT")
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("upstream.egress_proxy refused to CONNECT with HTTP status %d", response.StatusCode)
	}
	return conn.SetDeadline(time.Time{})
}

type oneByteReader struct{ net.Conn }

func (r oneByteReader) Read(p []byte) (int, error) {
	if len(p) > 1 {
		p = p[:1]
	}
	return r.Conn.Read(p)
}

// dialError means that no connection could be opened: nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// Errors of an exchange.
var (
	errSend   = errors.New("connection to WeChat broke while the call was sent")
	errAnswer = errors.New("connection to WeChat broke before the answer was complete")
	errBroken = errors.New("WeChat's answer is no HTTP")
	errSlow   = errors.New("WeChat gave no answer within upstream.timeout")
	errClient = errors.New("the app's body ended early")
)

// upstreamFault is the answer to a call that got none from WeChat. It may have
// run there.
func upstreamFault(err error) *fault {
	f := &fault{status: fasthttp.StatusBadGateway, proxyError: "connection_terminated", message: err.Error()}
	if dial, ok := errors.AsType[*dialError](err); ok {
		f.proxyError, f.message = "connection_refused", "WeChat cannot be reached; check upstream.url, DNS, egress_proxy and firewall"
		if isTimeout(dial.err) {
			f.status, f.proxyError = fasthttp.StatusGatewayTimeout, "connection_timeout"
		} else if _, ok := errors.AsType[*net.DNSError](dial.err); ok {
			f.proxyError = "dns_error"
		} else if _, ok := errors.AsType[*tls.CertificateVerificationError](dial.err); ok {
			f.proxyError, f.message = "tls_certificate_error", "WeChat's certificate is not trusted; check upstream.ca_file"
		}
		return f
	}
	switch {
	case errors.Is(err, fasthttp.ErrNoFreeConns):
		f.status, f.proxyError = fasthttp.StatusGatewayTimeout, "connection_limit_reached"
		f.message = "no connection to WeChat became free; raise upstream.max_connections"
	case errors.Is(err, errSlow):
		f.status, f.proxyError = fasthttp.StatusGatewayTimeout, "http_response_timeout"
	case errors.Is(err, errBroken):
		f.proxyError = "http_protocol_error"
	case errors.Is(err, errAnswer):
		f.proxyError = "http_response_incomplete"
	case errors.Is(err, errClient):
		return faultBodyCut
	}
	return f
}
