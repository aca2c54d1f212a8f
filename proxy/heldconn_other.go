//go:build !unix

package proxy

import "net"

// heldConn is of use with a unix kernel only.
type heldConn struct{ net.Conn }

func newHeldConn(net.Conn) *heldConn { return nil }

func (c *heldConn) hold() {}

func (c *heldConn) cut() { c.Conn.Close() }
