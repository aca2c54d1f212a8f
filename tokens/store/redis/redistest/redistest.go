// Package redistest starts Redis servers for tests.
package redistest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server of a test's own.
type Server struct {
	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

// Dir is the server's directory.
func (s *Server) Dir() string { return s.dir }

// Socket is the path of the server's socket.
func (s *Server) Socket() string { return filepath.Join(s.dir, "s") }

// URL is that of the server's socket, as store.redis_url takes it.
func (s *Server) URL() string { return "unix://" + s.Socket() }

// Binary finds redis-server, or skips the test.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is missing: apt-get install redis-server")
		}
		t.Skip("redis-server is missing: apt-get install redis-server (or brew install redis)")
	}
	return path
}

// New prepares a server that listens on a socket in a directory of its
// own, and on no port but those of args.
func New(t testing.TB, args ...string) *Server {
	t.Helper()
	Binary(t)
	dir, err := os.MkdirTemp("", "lp") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, args: args}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	return s
}

// Start is New and Start.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := New(t, args...)
	s.Start()
	return s
}

// SetArgs gives the server other arguments for its next start.
func (s *Server) SetArgs(args ...string) { s.args = args }

// Start returns when the server answers.
func (s *Server) Start() {
	s.t.Helper()
	s.StartAs("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
}

// StartAs is Start with what differs for a sentinel.
func (s *Server) StartAs(first ...string) {
	s.t.Helper()
	args := slices.Concat(first, []string{"--unixsocket", s.Socket(), "--dir", s.dir}, s.args)
	if !slices.Contains(args, "--port") {
		args = append(args, "--port", "0")
	}
	s.out.Reset()
	s.cmd = exec.Command(Binary(s.t), args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if answer := s.Talk("PING"); answer != "" && !strings.HasPrefix(answer, "-LOADING") {
			return
		}
		if time.Since(began) > 10*time.Second {
			s.Kill()
			s.t.Fatalf("redis-server does not answer:\n%s", s.out.String())
		}
	}
}

// Talk sends one inline command for each line and returns the first bytes of
// the answers, or "".
func (s *Server) Talk(lines ...string) string {
	conn, err := net.DialTimeout("unix", s.Socket(), time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	answers := ""
	for _, line := range lines {
		fmt.Fprintf(conn, "%s\r\n", line)
		answer := make([]byte, 4096)
		n, _ := conn.Read(answer)
		answers += string(answer[:n])
	}
	return answers
}

// Must is Talk for commands that must not fail.
func (s *Server) Must(lines ...string) string {
	s.t.Helper()
	answer := s.Talk(lines...)
	if answer == "" || strings.HasPrefix(answer, "-") || strings.Contains(answer, "\n-") {
		s.t.Fatalf("%q: %s", lines, answer)
	}
	return answer
}

// Kill is what a crash is.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
		os.Remove(s.Socket())
	}
}

// Freeze makes the server silent, with its connections open. It returns when the
// server has stopped.
func (s *Server) Freeze() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || !status.Stopped() {
			s.t.Fatalf("redis-server did not stop: %v", err)
		}
		return
	}
}

// Thaw has a frozen server go on.
func (s *Server) Thaw() { s.cmd.Process.Signal(syscall.SIGCONT) }

// FreePort is free at the time.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// Wipe takes away what a killed server has written, so that it starts empty.
func (s *Server) Wipe() {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(s.dir, entry.Name())); err != nil {
			s.t.Fatal(err)
		}
	}
}
