package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"lingpai/internal/heldconn"
)

// turnConn is a connection whose sides speak in turn: what is written is sent
// together with the wait for what comes back. Load and stub have to cost less
// than the proxy between them, or it is they that are measured.
type turnConn struct{ *heldconn.Conn }

func (c turnConn) Write(p []byte) (int, error) {
	c.Hold()
	return c.Conn.Write(p)
}

// turning makes conn a turnConn, where that is of use.
func turning(conn net.Conn) net.Conn {
	if held := heldconn.New(conn); held != nil {
		return turnConn{held}
	}
	return conn
}

// loadConn is a connection of the load generator; the zero value is closed.
type loadConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *loadConn) Close() error {
	if c.Conn == nil {
		return nil
	}
	return c.Conn.Close()
}

var contentLength = []byte("content-length:")

var errRefused = errors.New("refused")

// refusal is how the stub's answer to a bad token begins.
var refusal = []byte(`{"errcode":4`)

// call sends a request and reads the answer, which has to be 200, of a given
// length and no refusal.
func (c *loadConn) call(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read the status: %w", err)
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return fmt.Errorf("status line %q", line)
	}
	status, length := string(line[9:12]), -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read the fields: %w", err)
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return err
			}
		}
	}
	if status != "200" {
		text, _ := io.ReadAll(io.LimitReader(c.r, int64(min(max(length, 0), 300))))
		return fmt.Errorf("status %s: %s", status, text)
	}
	if length < 0 {
		return errors.New("an answer without Content-Length")
	}
	if start, _ := c.r.Peek(min(length, len(refusal))); bytes.Equal(start, refusal) {
		text := make([]byte, min(length, 300))
		io.ReadFull(c.r, text)
		return fmt.Errorf("%w: %s", errRefused, text)
	}
	_, err = c.r.Discard(length)
	return err
}
