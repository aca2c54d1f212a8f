package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// childAttributes put a child into a group of its own, so that Ctrl-C reaches
// bench alone, and end it with bench.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// killGroup ends a child and all that it has started.
func killGroup(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }

// sleepUntil sleeps in the kernel: the timers of Go are up to a millisecond late.
func sleepUntil(at time.Time) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The kernel wakes a thread up to 50 µs late, to save wake-ups, unless told not to.
	const setTimerSlack = 29
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
	for left := time.Until(at); left > 0; left = time.Until(at) {
		t := syscall.NsecToTimespec(int64(left))
		syscall.Nanosleep(&t, nil)
	}
}
