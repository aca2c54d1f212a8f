//go:build unix

package proxy

import (
	"net"
	"syscall"
)

// closedByPeer reports whether the server has closed an idle connection, or
// sent what nobody asked for: then nothing can be sent on it any more. It looks
// at the socket without waiting and takes nothing off it.
func closedByPeer(conn net.Conn) bool {
	source, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := source.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Read(func(fd uintptr) bool {
		var buf [1]byte
		_, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK && err != syscall.EINTR
		return true
	})
	return closed || err != nil
}
