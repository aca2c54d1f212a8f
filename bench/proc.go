package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is what processes have used.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// tick is the unit of times in /proc.
const tick = time.Second / 100

// treeUsage adds up a process and all below it, as /proc tells.
func treeUsage(root int) (usage, error) {
	var sum usage
	if root == 0 {
		return sum, nil
	}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	if len(files) == 0 {
		return sum, errors.New("there is no /proc here")
	}
	type process struct {
		parent int
		cpu    time.Duration
	}
	all := map[int]process{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		// The name stands in brackets and may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 13 {
			return sum, fmt.Errorf("%s is of an unknown form", file)
		}
		parent, _ := strconv.Atoi(fields[1])
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		all[pid] = process{parent, time.Duration(user+system) * tick}
	}
	for pid, p := range all {
		if descends(pid, root, func(pid int) int { return all[pid].parent }) {
			sum.cpu += p.cpu
			sum.rss += residentBytes(pid)
		}
	}
	return sum, nil
}

func descends(pid, root int, parent func(int) int) bool {
	for ; pid > 0; pid = parent(pid) {
		if pid == root {
			return true
		}
	}
	return false
}

func residentBytes(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}
