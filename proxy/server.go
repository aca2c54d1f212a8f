package proxy

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// ServerConfig bounds what a client may take.
type ServerConfig struct {
	MaxHeader     int           // request line and fields, in bytes
	HeaderTimeout time.Duration // until the fields of a request are complete
	IdleTimeout   time.Duration // of a client connection, and of a client that does not read
	MaxBody       int64
}

// slowestBody is how fast a body must come on average, in bytes a second.
const slowestBody = 16 << 10

// Server serves a Proxy on a listener. Make one with NewServer.
type Server struct {
	proxy    *Proxy
	listener net.Listener
	mu       sync.Mutex
	config   ServerConfig
	current  *generation
	running  map[*generation]bool // current, and those whose calls have not ended yet
	closed   bool
}

// generation is a fasthttp.Server with one configuration. Its limits cannot
// change while it runs, so a reload that changes them starts another one, and
// the former ends with its last call.
type generation struct {
	server *fasthttp.Server
	conns  *handedOver
	stop   sync.Once
	ended  chan struct{} // closed when its last call has ended
}

// end lets no more calls begin; ended tells when those under way have ended.
func (g *generation) end() {
	g.stop.Do(func() {
		g.conns.Close()
		go func() {
			defer close(g.ended)
			g.server.Shutdown()
		}()
	})
}

// NewServer returns a Server of p on listener.
func NewServer(p *Proxy, listener net.Listener, config ServerConfig) *Server {
	s := &Server{proxy: p, listener: listener, running: map[*generation]bool{}}
	s.start(config)
	return s
}

// start begins a generation; the caller holds mu or is alone.
func (s *Server) start(config ServerConfig) {
	s.config = config
	g := &generation{
		conns: &handedOver{conns: make(chan net.Conn), done: make(chan struct{}), addr: s.listener.Addr(), open: map[*clientConn]struct{}{}},
		ended: make(chan struct{}),
	}
	g.server = &fasthttp.Server{
		Handler:                       s.proxy.Handle,
		ErrorHandler:                  answerUnread,
		HeaderReceived:                bodyDeadline(config),
		ReadBufferSize:                config.MaxHeader,
		ReadTimeout:                   config.HeaderTimeout,
		IdleTimeout:                   config.IdleTimeout,
		MaxRequestBodySize:            int(config.MaxBody),
		StreamRequestBody:             true,
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		NoDefaultContentType:          true,
		CloseOnShutdown:               true,
		SecureErrorLogMessage:         true,
		Logger:                        silent{}, // its messages quote requests
	}
	s.current = g
	s.running[g] = true
	go g.server.Serve(g.conns)
}

// Serve accepts connections until Shutdown, and returns nil then.
func (s *Server) Serve() error {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			s.mu.Lock()
			closed := s.closed
			s.mu.Unlock()
			if closed || errors.Is(err, net.ErrClosed) {
				return nil
			}
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				continue
			}
			// Out of file descriptors, say: others may become free.
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.hand(conn)
	}
}

// hand gives a connection to the current generation.
func (s *Server) hand(conn net.Conn) {
	for {
		s.mu.Lock()
		g, idle, closed := s.current, s.config.IdleTimeout, s.closed
		s.mu.Unlock()
		if closed {
			conn.Close()
			return
		}
		if g.conns.hand(&clientConn{Conn: conn, patience: idle}) {
			return
		}
	}
}

// Reconfigure takes over other limits for connections to come. Idle ones of the
// former limits are closed, calls under way end.
func (s *Server) Reconfigure(config ServerConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || config == s.config {
		return
	}
	old := s.current
	s.start(config)
	old.end()
	go func() {
		<-old.ended
		s.mu.Lock()
		delete(s.running, old)
		s.mu.Unlock()
	}()
}

// Shutdown accepts no more connections, closes idle ones and waits for calls
// under way, at most until ctx ends; then it cuts them.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	running := slices.Collect(maps.Keys(s.running))
	s.mu.Unlock()
	s.listener.Close()
	for _, g := range running {
		g.end()
	}
	for _, g := range running {
		select {
		case <-g.ended:
			continue
		case <-ctx.Done():
		}
		for _, g := range running {
			g.conns.cut()
		}
		return ctx.Err()
	}
	return nil
}

// bodyDeadline gives a request's body the time that a slow but honest client
// needs.
func bodyDeadline(config ServerConfig) func(*fasthttp.RequestHeader) fasthttp.RequestConfig {
	return func(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
		length := int64(header.ContentLength())
		if length == 0 || length == -2 {
			return fasthttp.RequestConfig{}
		}
		if length < 0 || length > config.MaxBody {
			length = config.MaxBody
		}
		return fasthttp.RequestConfig{ReadTimeout: config.HeaderTimeout + time.Duration(length/slowestBody)*time.Second}
	}
}

// answerUnread answers a request that fasthttp could not read.
func answerUnread(ctx *fasthttp.RequestCtx, err error) {
	f := &fault{status: fasthttp.StatusBadRequest, proxyError: "http_request_error", message: "the request is not well-formed HTTP/1.1", close: true}
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		f.status, f.message = fasthttp.StatusRequestHeaderFieldsTooLarge, "the header is larger than limits.max_header"
		if conn, ok := ctx.Conn().(*clientConn); ok && !conn.lineSeen {
			f.status, f.message = fasthttp.StatusRequestURITooLong, "the request line is longer than limits.max_header"
		}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		f = faultBody
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, fasthttp.ErrTimeout):
		f.status, f.message = fasthttp.StatusRequestTimeout, "the request was not complete within limits.header_timeout"
	}
	f.write(ctx)
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// clientConn is a connection of an app. One goroutine at a time reads and
// writes it.
type clientConn struct {
	net.Conn
	patience time.Duration
	// lineSeen says that a line's end has been read since the last answer, so
	// that a header too large can be told from a request line too long.
	lineSeen bool
	ended    bool        // the client has ended its side, or cannot be read
	armed    time.Time   // when the write deadline was set last
	linger   atomic.Bool // the client may still be sending when it is closed
	forget   func()
}

// Read implements net.Conn.
func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.ended = c.ended || err != nil
	c.lineSeen = c.lineSeen || bytes.IndexByte(p[:n], '\n') >= 0
	return n, err
}

// Write implements net.Conn. A client that reads nothing for long is cut, a
// slow one is not.
func (c *clientConn) Write(p []byte) (int, error) {
	c.lineSeen = false
	if now := time.Now(); now.Sub(c.armed) > c.patience/8 {
		c.armed = now
		c.Conn.SetWriteDeadline(now.Add(c.patience))
	}
	return c.Conn.Write(p)
}

// abandon closes the connection behind an answer to a call whose body has not
// been read to its end: what is left must not be taken for the next request.
func abandon(ctx *fasthttp.RequestCtx) {
	ctx.Response.SetConnectionClose()
	if conn, ok := ctx.Conn().(*clientConn); ok {
		conn.linger.Store(true)
	}
}

// lingering is how long what a client still sends is taken in, and thrown away.
const lingering = time.Second

// Close implements net.Conn. A client that is still sending would get a reset
// from a plain close, and might never see the answer.
func (c *clientConn) Close() error {
	if c.forget != nil {
		c.forget()
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.linger.Load() && half.CloseWrite() == nil {
		c.Conn.SetReadDeadline(time.Now().Add(lingering))
		buf := copyBuffers.Get().(*[copyBuffer]byte)
		for {
			if _, err := c.Conn.Read(buf[:]); err != nil {
				break
			}
		}
		copyBuffers.Put(buf)
	}
	return c.Conn.Close()
}

// handedOver is a listener whose connections are accepted elsewhere.
type handedOver struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
	mu    sync.Mutex
	open  map[*clientConn]struct{}
}

// hand gives a connection to the server; false if that has stopped.
func (h *handedOver) hand(c *clientConn) bool {
	h.mu.Lock()
	h.open[c] = struct{}{}
	h.mu.Unlock()
	c.forget = func() {
		h.mu.Lock()
		delete(h.open, c)
		h.mu.Unlock()
	}
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		c.forget()
		return false
	}
}

// cut closes every connection.
func (h *handedOver) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		c.Conn.Close()
	}
}

// Accept implements net.Listener.
func (h *handedOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handedOver) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handedOver) Addr() net.Addr { return h.addr }
