package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// machine is where and of what a run was.
type machine struct {
	processor, kernel, memory string
	processors                int
	commit                    string // with + if files differ from it
	loadBefore, loadAfter     string
}

func thisMachine() machine {
	m := machine{processors: runtime.NumCPU(), loadBefore: loadAverage(), processor: runtime.GOARCH, kernel: runtime.GOOS}
	if name := fieldOf("/proc/cpuinfo", "model name"); name != "" {
		m.processor = name
	}
	m.memory = fieldOf("/proc/meminfo", "MemTotal")
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.kernel = "Linux " + strings.TrimSpace(string(text))
	}
	m.commit = "unknown"
	if text, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		m.commit = strings.TrimSpace(string(text))
		// What is not part of the program does not make it another one.
		changed, err := exec.Command("git", "status", "--porcelain", "--", ":/*.go", ":/go.mod", ":(exclude,top)bench").Output()
		if err != nil || len(changed) > 0 {
			m.commit += "+"
		}
	}
	return m
}

// loadAverage returns how many processes wanted a processor in the last minute.
func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// fieldOf reads a line such as "name : value".
func fieldOf(file, name string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d processors, %s memory, %s, %s", m.processor, m.processors, m.memory, m.kernel, runtime.Version())
}
