//go:build linux && (amd64 || arm64)

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// dropFromMemory has the kernel forget what it keeps of a file in memory, as
// after a start of the machine, and returns the share that it kept nevertheless.
func dropFromMemory(path string) (kept float64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	// What is not on disk yet is not dropped.
	if err := file.Sync(); err != nil {
		return 0, err
	}
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
		return 0, fmt.Errorf("fadvise: %w", errno)
	}
	return resident(file)
}

// resident returns which share of a file is in memory.
func resident(file *os.File) (share float64, err error) {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	data, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, syscall.Munmap(data)) }()
	pages := make([]byte, (len(data)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		return 0, fmt.Errorf("mincore: %w", errno)
	}
	n := 0
	for _, page := range pages {
		n += int(page & 1)
	}
	return float64(n) / float64(len(pages)), nil
}
