//go:build linux && (amd64 || arm64 || arm || riscv64 || loong64)

package heldconn

import (
	"syscall"
	"unsafe"
)

// recvNow and sendNow receive from and send to a socket that does not block.
// They cost less than syscall.Read and syscall.Write: recv and send go straight
// to the socket, past the layer of files, and since such a call takes some
// microseconds, the scheduler is not told that it might block.
func recvNow(fd int, p []byte) (int, error) { return callNow(syscall.SYS_RECVFROM, fd, p, 0) }

func sendNow(fd int, p []byte) (int, error) {
	return callNow(syscall.SYS_SENDTO, fd, p, syscall.MSG_NOSIGNAL)
}

func callNow(trap uintptr, fd int, p []byte, flags uintptr) (int, error) {
	n, _, errno := syscall.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
