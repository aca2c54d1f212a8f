//go:build unix

// Package heldconn saves a system call for each turn that the two sides of a
// connection take.
package heldconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// maxHeld bounds what a Conn keeps back, in bytes.
	maxHeld = 8 << 10
	// flushTime is how long Close lets what is held take.
	flushTime = time.Second
)

// Conn is a TCP connection that can send what is written to it together
// with the wait for what comes back. Go's own Read tries first and waits then;
// behind a request or an answer that try is in vain, since nothing can have come
// yet. Here the wait is made ready, what is held is sent, and nothing is read
// before there is something to read: one system call less each time. Where the
// other side may speak out of its turn, see OutOfTurn.
//
// Only what is written between Hold and the next Read or Close is held. One
// goroutine at a time uses it, but for Close.
type Conn struct {
	net.Conn
	raw     syscall.RawConn
	step    func(fd uintptr) (done bool) // sendAndRead, made once
	hasty   bool                         // the other side may speak out of its turn
	holding bool
	pending bool       // something was held since the last Read
	mu      sync.Mutex // of held
	held    []byte     // empty, in spite of pending, if Close has sent it
	both    [2][]byte
	buffers net.Buffers

	// Of the Read under way.
	into    []byte
	n       int
	readErr error
	sendErr error
}

// New returns a Conn on conn; nil if conn is no socket, or on a system where it
// is of no use.
func New(conn net.Conn) *Conn {
	source, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := source.SyscallConn()
	if err != nil {
		return nil
	}
	c := &Conn{Conn: conn, raw: raw}
	c.step = c.sendAndRead
	return c
}

// OutOfTurn says that the other side may speak before it has been answered, as a
// client that pipelines its requests does. What came before the wait was made
// ready would be waited for in vain, so it is looked for first: that takes the
// system call again, but what is held still waits for the Read. On nil it does
// nothing.
func (c *Conn) OutOfTurn() {
	if c != nil {
		c.hasty = true
	}
}

// Hold keeps back what is written until the next Read. On nil it does nothing.
func (c *Conn) Hold() {
	if c != nil {
		c.holding = true
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.holding && len(c.held)+len(p) <= maxHeld:
		c.held = append(c.held, p...)
		c.pending = true
		return len(p), nil
	case len(c.held) == 0:
		return c.Conn.Write(p)
	}
	held := len(c.held)
	c.both = [2][]byte{c.held, p}
	c.buffers = c.both[:]
	n, err := c.buffers.WriteTo(c.Conn)
	c.both, c.held, c.pending = [2][]byte{}, c.held[:0], false
	return max(int(n)-held, 0), err
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	c.holding = false
	if !c.pending {
		return c.Conn.Read(p)
	}
	c.into, c.n, c.readErr, c.sendErr = p, 0, nil, nil
	err := c.raw.Read(c.step)
	c.into = nil
	switch {
	case err != nil:
		return 0, err
	case c.n > 0:
		return c.n, nil
	case c.sendErr != nil:
		return 0, c.sendErr
	case c.readErr != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError("read", c.readErr)}
	case len(p) == 0:
		return 0, nil
	}
	return 0, io.EOF
}

// sendAndRead sends what is held the first time, and reads the times after. What
// cannot be sent may have been answered all the same.
func (c *Conn) sendAndRead(fd uintptr) (done bool) {
	if !c.pending {
		return c.read(int(fd))
	}
	c.pending = false
	sent, err := c.send(int(fd))
	if !sent {
		return c.read(int(fd))
	}
	if c.sendErr = err; err == nil {
		return c.hasty && c.read(int(fd))
	}
	c.read(int(fd))
	return true
}

// send sends what is held; sent is false if there is nothing.
func (c *Conn) send(fd int) (sent bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) == 0 {
		return false, nil
	}
	n, err := sendNow(fd, c.held)
	if err != nil || n < len(c.held) {
		// The socket's buffer is full, or a signal came: then it is waited for.
		_, err = c.Conn.Write(c.held[max(n, 0):])
	}
	c.held = c.held[:0]
	return true, err
}

func (c *Conn) read(fd int) (done bool) {
	for {
		c.n, c.readErr = recvNow(fd, c.into)
		if c.readErr != syscall.EINTR {
			return c.readErr != syscall.EAGAIN
		}
	}
}

// flush sends what is held. It may be called while another goroutine waits in
// Read, or sends: then nothing is left for it.
func (c *Conn) flush() {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if len(c.held) > 0 {
		c.Conn.SetWriteDeadline(time.Now().Add(flushTime))
		c.Conn.Write(c.held)
		c.held = c.held[:0]
	}
}

// Cut closes the connection as it is.
func (c *Conn) Cut() { c.Conn.Close() }

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.flush()
	return c.Conn.Close()
}

// CloseWrite ends this side of the connection.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return syscall.EOPNOTSUPP
	}
	c.flush()
	return half.CloseWrite()
}
