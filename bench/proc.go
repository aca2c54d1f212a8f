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

// usage is what processes have used so far.
type usage struct {
	cpu time.Duration // user and system
	rss int64         // bytes, what processes share counted for each
	pss int64         // bytes, what processes share divided among them

	pids    []int
	threads map[int]time.Duration // CPU by thread id, none if the kernel does not tell
	ticks   cpuTicks
}

// cpuTicks is CPU as /proc/<pid>/stat counts it: in steps of 10 ms, with that of
// threads that have ended.
type cpuTicks struct{ user, system time.Duration }

// tick is the unit of times in /proc.
const tick = time.Second / 100

// treeUsage adds up a process and all below it, as /proc tells.
func treeUsage(root int) (usage, error) {
	pids, err := processTree(root)
	if err != nil {
		return usage{}, err
	}
	u := cpuOf(pids)
	u.rss, u.pss = memoryOf(pids)
	return u, nil
}

// cpuSince returns what processes used between two readings: user and system
// together, and the share of system. The times of threads are exact, but those of
// one that has ended are gone. Then the coarse time of its process is the better
// one.
func (u usage) cpuSince(before usage) (cpu time.Duration, systemShare float64) {
	user, system := u.ticks.user-before.ticks.user, u.ticks.system-before.ticks.system
	if coarse := user + system; coarse > 0 {
		systemShare = float64(system) / float64(coarse)
	}
	if len(u.threads) == 0 || len(before.threads) == 0 {
		return user + system, systemShare
	}
	for id, used := range u.threads {
		cpu += used - before.threads[id] // of a new one, all
	}
	for id := range before.threads {
		if _, still := u.threads[id]; !still {
			return max(cpu, user+system), systemShare
		}
	}
	return cpu, systemShare
}

// processTree returns a process and all below it; none of no process.
func processTree(root int) ([]int, error) {
	if root == 0 {
		return nil, nil
	}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	if len(files) == 0 {
		return nil, errors.New("there is no /proc here")
	}
	parents := map[int]int{}
	for _, file := range files {
		fields, err := statFields(file)
		if errors.Is(err, errUnknownForm) {
			return nil, err
		}
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	var pids []int
	for pid := range parents {
		if descends(pid, root, parents) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

var errUnknownForm = errors.New("of an unknown form")

// statFields reads what stands behind the name in a stat file: state, parent and
// so on. The name is in brackets and may hold anything.
func statFields(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("%s is %w", file, errUnknownForm)
	}
	return fields, nil
}

func descends(pid, root int, parents map[int]int) bool {
	for ; pid > 0; pid = parents[pid] {
		if pid == root {
			return true
		}
	}
	return false
}

// cpuOf reads the times of processes and nothing else, to be done quickly.
func cpuOf(pids []int) usage {
	u := usage{pids: pids, threads: map[int]time.Duration{}}
	for _, pid := range pids {
		for id, used := range threadTimes(pid) {
			u.threads[id] = used
			u.cpu += used
		}
	}
	for _, pid := range pids {
		fields, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		u.ticks.user += time.Duration(user) * tick
		u.ticks.system += time.Duration(system) * tick
	}
	if len(u.threads) == 0 {
		u.cpu = u.ticks.user + u.ticks.system
	}
	return u
}

// threadTimes returns the time that each thread of a process has run. The file
// of the process itself tells that of its first thread alone.
func threadTimes(pid int) map[int]time.Duration {
	folder := fmt.Sprintf("/proc/%d/task", pid)
	threads, _ := os.ReadDir(folder)
	times := make(map[int]time.Duration, len(threads))
	for _, thread := range threads {
		text, err := os.ReadFile(filepath.Join(folder, thread.Name(), "schedstat"))
		if err != nil {
			continue
		}
		ran, _, _ := strings.Cut(string(text), " ")
		if ns, err := strconv.ParseInt(ran, 10, 64); err == nil {
			id, _ := strconv.Atoi(thread.Name())
			times[id] = time.Duration(ns)
		}
	}
	return times
}

func memoryOf(pids []int) (rss, pss int64) {
	for _, pid := range pids {
		rss += kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
		pss += kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
	}
	return rss, pss
}

// kilobytes reads a line such as "VmRSS:  12 kB" and returns bytes.
func kilobytes(file, name string) int64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name); ok {
			if fields := strings.Fields(value); len(fields) > 0 {
				n, _ := strconv.ParseInt(fields[0], 10, 64)
				return n << 10
			}
		}
	}
	return 0
}
