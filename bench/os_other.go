//go:build !linux

package main

import (
	"os"
	"syscall"
	"time"
)

func childAttributes() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) { p.Kill() }

func sleepUntil(at time.Time) { time.Sleep(time.Until(at)) }
