//go:build !unix

// Package heldconn is of use with a unix kernel only.
package heldconn

import "net"

// Conn does not occur: see New.
type Conn struct{ net.Conn }

// New returns nil.
func New(net.Conn) *Conn { return nil }

// OutOfTurn does nothing.
func (c *Conn) OutOfTurn() {}

// Hold does nothing.
func (c *Conn) Hold() {}

// Cut closes the connection.
func (c *Conn) Cut() { c.Conn.Close() }
