package proxy

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// ServerConfig bounds what a client may take.
type ServerConfig struct {
	MaxHeader     int           // request line and fields, in bytes
	HeaderTimeout time.Duration // until the fields of a request are complete
	IdleTimeout   time.Duration // of a client connection, and of a client that does not read
	MaxBody       int64

	quietAfter time.Duration // for tests; 0 is quietAfter
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
		conns: newHandedOver(s.proxy, s.listener.Addr(), config),
		ended: make(chan struct{}),
	}
	g.server = newFasthttpServer(s.proxy, config)
	s.current = g
	s.running[g] = true
	go g.server.Serve(g.conns)
}

// newFasthttpServer returns what serves the connections of one configuration.
// It sets no deadlines but those of bodies: clientConn does.
func newFasthttpServer(p *Proxy, config ServerConfig) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                       p.Handle,
		ErrorHandler:                  answerUnread,
		HeaderReceived:                bodyDeadline(config),
		ReadBufferSize:                config.MaxHeader,
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
			if isTimeout(err) {
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
		g, closed := s.current, s.closed
		s.mu.Unlock()
		if closed {
			conn.Close()
			return
		}
		if g.conns.hand(conn) {
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
		if length == -2 || length >= 0 && length < slowestBody {
			return fasthttp.RequestConfig{} // none, or one that the header's deadline is enough for
		}
		if length < 0 || length > config.MaxBody {
			length = config.MaxBody
		}
		return fasthttp.RequestConfig{ReadTimeout: config.HeaderTimeout + time.Duration(length/slowestBody)*time.Second}
	}
}

// answerUnread answers a request that fasthttp could not read.
func answerUnread(ctx *fasthttp.RequestCtx, err error) {
	if conn, ok := ctx.Conn().(*clientConn); ok && conn.begun != nil {
		conn.listener.proxy.Handle(ctx) // it has been read, and sent to WeChat
		return
	}
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
