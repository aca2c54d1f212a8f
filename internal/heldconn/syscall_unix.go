//go:build unix && !(linux && (amd64 || arm64 || arm || riscv64 || loong64))

package heldconn

import "syscall"

// recvNow and sendNow receive from and send to a socket that does not block.
func recvNow(fd int, p []byte) (int, error) { return syscall.Read(fd, p) }

func sendNow(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
