package proxy

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/internal/heldconn"
)

const (
	// quietAfter is how long a connection has nothing to say before what serves it
	// is given back, and it waits as cheaply as it can.
	quietAfter = 5 * time.Second
	// lingering is how long what a client still sends is taken in, and thrown away.
	lingering = time.Second
)

// clientConn is a connection of an app. One goroutine at a time reads and
// writes it.
//
// It sets the deadlines itself, and late: a call that comes as a whole on a busy
// connection moves no timer.
type clientConn struct {
	net.Conn
	held     *heldconn.Conn // Conn, if it is a socket
	config   *ServerConfig
	listener *handedOver // nil in tests: then it never waits apart

	// between says that the last call has been answered, and nothing of the next
	// one has been read. since is when that began, or when something was written.
	between bool
	got     int64 // bytes of this call, and what came with them
	since   time.Time
	stamped bool      // since is fresh enough for one Write
	readBy  time.Time // when what is being read has to be complete; zero: not known yet
	armed   time.Time // read deadline of the socket
	writeBy time.Time // write deadline of the socket

	// lineSeen says that a line's end has been read since the last answer, so
	// that a header too large can be told from a request line too long.
	lineSeen bool
	ended    bool        // the client has ended its side, or cannot be read
	linger   atomic.Bool // the client may still be sending when it is closed
	quiet    atomic.Bool // to be kept when the server closes it, for it only waits
	taken    bool        // the answer has been sent: what the server writes next is dropped
	takenErr error       // that sending it ended with
	first    [1]byte     // what ended the wait apart
	hasFirst bool
	parked   bool // it waits apart; under the listener's mu

	// A call that is served at once is unknown to the server, which takes the
	// connection for idle and may close it: that waits then. begun is such a call
	// that the server has to take up.
	inCall atomic.Int32
	begun  *call
}

// The states of clientConn.inCall.
const (
	noCall  = iota // or one of the server's
	inCall         // served at once
	closing        // and then the connection is to be closed
)

// answered notes that a call ended at now, but for its answer's way to the app.
// whole says that this has no more to wait for.
func (c *clientConn) answered(now time.Time, whole bool) {
	c.between, c.since, c.stamped = true, now, true
	if whole {
		c.held.Hold()
	}
}

// atOnceThere reports whether a call came as a whole with its first bytes: then
// nobody has waited since the server saw it.
func atOnceThere(ctx *fasthttp.RequestCtx) bool {
	conn, ok := ctx.Conn().(*clientConn)
	return ok && conn.readBy.IsZero()
}

// SetReadDeadline says by when the body has to be there.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	c.readBy = t
	return nil
}

// Read implements net.Conn.
func (c *clientConn) Read(p []byte) (n int, err error) {
	switch {
	case c.hasFirst && len(p) > 0:
		p[0], c.hasFirst = c.first[0], false
		n = 1
	case c.between && len(p) >= c.config.MaxHeader: // else a part of the call is in the server's buffer
		for served := true; served && err == nil; {
			if n, err = c.await(p); err != nil || c.listener == nil {
				break
			}
			if served, err = c.listener.proxy.serveAtOnce(c, p[:n]); served {
				n = 0
			}
		}
	default:
		c.hurry()
		n, err = c.Conn.Read(p)
	}
	if c.between {
		c.got = 0
	}
	if n > 0 {
		c.between = false
	}
	c.got += int64(n)
	c.ended = c.ended || err != nil
	c.lineSeen = c.lineSeen || bytes.IndexByte(p[:n], '\n') >= 0
	return n, err
}

// hurry sets the deadline of a call that has begun.
func (c *clientConn) hurry() {
	if c.between {
		c.between, c.readBy = false, time.Time{}
	}
	if c.readBy.IsZero() {
		c.readBy = time.Now().Add(c.config.HeaderTimeout)
	}
	if !c.armed.Equal(c.readBy) {
		c.armed = c.readBy
		c.Conn.SetReadDeadline(c.armed)
	}
}

// await reads the beginning of the next call. Its deadline is at most an eighth
// late.
func (c *clientConn) await(p []byte) (int, error) {
	c.readBy = time.Time{}
	patience := min(c.config.quietAfter, c.config.IdleTimeout)
	if left := c.armed.Sub(c.since); left < patience || left > patience+patience/8 {
		c.armed = c.since.Add(patience + patience/8)
		c.Conn.SetReadDeadline(c.armed)
	}
	n, err := c.Conn.Read(p)
	if n == 0 && isTimeout(err) && c.listener != nil && patience < c.config.IdleTimeout {
		c.quiet.Store(true)
	}
	return n, err
}

// answer sends the whole answer to a call in the place of the server, which knows
// of none and writes an empty one next.
func (c *clientConn) answer(p []byte) {
	_, c.takenErr = c.Write(p)
	c.taken = true
}

// beginCall notes that a call is served at once; false if the connection is
// being closed.
func (c *clientConn) beginCall() bool { return c.inCall.CompareAndSwap(noCall, inCall) }

// endCall notes that such a call has ended. It reports whether the connection is
// to be closed.
func (c *clientConn) endCall() (closes bool) {
	return c.inCall.Load() != noCall && c.inCall.Swap(noCall) == closing
}

// ending reports whether the server will close the connection behind the answer.
func (c *clientConn) ending() bool { return c.listener != nil && c.listener.ending.Load() }

// Write implements net.Conn. A client that reads nothing for long is cut, a
// slow one is not.
func (c *clientConn) Write(p []byte) (int, error) {
	if c.taken {
		c.taken = false
		switch {
		case c.takenErr != nil:
			return 0, c.takenErr
		case !bytes.Equal(p, emptyAnswers[0]) && !bytes.Equal(p, emptyAnswers[1]):
			return 0, errNotEmpty // and ends the connection: nobody gets what is not his
		}
		return len(p), nil
	}
	c.lineSeen = false
	if c.quiet.Load() {
		c.quiet.Store(false)
	}
	if !c.stamped {
		c.since = time.Now()
	}
	c.stamped = false
	if patience := c.config.IdleTimeout; c.writeBy.Sub(c.since) < patience {
		c.writeBy = c.since.Add(patience + patience/8)
		c.Conn.SetWriteDeadline(c.writeBy)
	}
	return c.Conn.Write(p)
}

// Close implements net.Conn. What has nothing to say is not closed but waits
// apart. A client that is still sending would get a reset from a plain close,
// and might never see the answer.
func (c *clientConn) Close() error {
	if c.inCall.CompareAndSwap(inCall, closing) || c.inCall.Load() == closing {
		return nil
	}
	if c.quiet.Load() && c.listener.park(c) {
		return nil
	}
	if c.listener != nil {
		c.listener.forget(c)
	}
	if half, ok := c.Conn.(closeWriter); ok && c.linger.Load() && half.CloseWrite() == nil {
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

type closeWriter interface{ CloseWrite() error }

// waitApart waits for the next call without a server's buffers, and gives the
// connection back to it then.
func (c *clientConn) waitApart() {
	c.Conn.SetReadDeadline(c.since.Add(c.config.IdleTimeout))
	n, _ := c.Conn.Read(c.first[:])
	c.quiet.Store(false)
	c.ended = false // that was the end of the wait, not the client's
	c.armed, c.readBy = time.Time{}, time.Time{}
	c.hasFirst = n > 0
	if !c.hasFirst || !c.listener.unpark(c) {
		c.Close()
	}
}

// abandon closes the connection behind an answer to a call whose body has not
// been read to its end: what is left must not be taken for the next request.
func abandon(ctx *fasthttp.RequestCtx) {
	ctx.Response.SetConnectionClose()
	if conn, ok := ctx.Conn().(*clientConn); ok {
		conn.linger.Store(true)
	}
}

// handedOver is a listener whose connections are accepted elsewhere.
type handedOver struct {
	proxy  *Proxy
	config ServerConfig
	conns  chan net.Conn
	done   chan struct{}
	addr   net.Addr
	mu     sync.Mutex
	open   map[*clientConn]struct{}
	closed bool
	ending atomic.Bool // closed, to be asked without mu
}

func newHandedOver(p *Proxy, addr net.Addr, config ServerConfig) *handedOver {
	if config.quietAfter == 0 {
		config.quietAfter = quietAfter
	}
	return &handedOver{proxy: p, config: config, addr: addr, conns: make(chan net.Conn), done: make(chan struct{}), open: map[*clientConn]struct{}{}}
}

// hand gives a connection to the server; false if that has stopped.
func (h *handedOver) hand(conn net.Conn) bool {
	c := &clientConn{Conn: conn, config: &h.config, listener: h}
	if c.held = heldconn.New(conn); c.held != nil {
		c.held.OutOfTurn()
		c.Conn = c.held
	}
	h.mu.Lock()
	h.open[c] = struct{}{}
	h.mu.Unlock()
	if h.give(c) {
		return true
	}
	h.forget(c)
	return false
}

func (h *handedOver) give(c *clientConn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.done:
		return false
	}
}

func (h *handedOver) forget(c *clientConn) {
	h.mu.Lock()
	delete(h.open, c)
	h.mu.Unlock()
}

// park lets a connection wait apart; false if the server has stopped.
func (h *handedOver) park(c *clientConn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	c.parked = true
	go c.waitApart()
	return true
}

// unpark gives a connection back to the server; false if that has stopped.
func (h *handedOver) unpark(c *clientConn) bool {
	h.mu.Lock()
	c.parked = false
	h.mu.Unlock()
	return h.give(c)
}

// cut closes every connection.
func (h *handedOver) cut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		if c.held != nil {
			c.held.Cut()
		} else {
			c.Conn.Close()
		}
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

// Close implements net.Listener. Connections that wait apart end.
func (h *handedOver) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	h.ending.Store(true)
	close(h.done)
	for c := range h.open {
		if c.parked {
			c.Conn.Close()
		}
	}
	return nil
}

// Addr implements net.Listener.
func (h *handedOver) Addr() net.Addr { return h.addr }
