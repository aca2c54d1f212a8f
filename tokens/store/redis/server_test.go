package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lingpai/tokens/secret"
)

// server is a redis-server of a test's own.
type server struct {
	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

func (s *server) socket() string { return filepath.Join(s.dir, "s") }
func (s *server) url() string    { return "unix://" + s.socket() }

// binary finds redis-server, or skips the test.
func binary(t testing.TB) string {
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

// newServer prepares a server that listens on a socket in a directory of its
// own, and on no port but those of args.
func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	binary(t)
	dir, err := os.MkdirTemp("", "lp") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: dir, args: args}
	t.Cleanup(func() {
		s.kill()
		os.RemoveAll(dir)
	})
	return s
}

// startServer is newServer and start.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := newServer(t, args...)
	s.start()
	return s
}

// start returns when the server answers.
func (s *server) start() {
	s.t.Helper()
	s.startAs("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")
}

// startAs is start with what differs for a sentinel.
func (s *server) startAs(first ...string) {
	s.t.Helper()
	args := slices.Concat(first, []string{"--unixsocket", s.socket(), "--dir", s.dir}, s.args)
	if !slices.Contains(args, "--port") {
		args = append(args, "--port", "0")
	}
	s.out.Reset()
	s.cmd = exec.Command(binary(s.t), args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if answer := s.talk("PING"); answer != "" && !strings.HasPrefix(answer, "-LOADING") {
			return
		}
		if time.Since(began) > 10*time.Second {
			s.kill()
			s.t.Fatalf("redis-server does not answer:\n%s", s.out.String())
		}
	}
}

// talk sends one inline command for each line and returns the first bytes of
// the answers, or "".
func (s *server) talk(lines ...string) string {
	conn, err := net.DialTimeout("unix", s.socket(), time.Second)
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

// must is talk for commands that must not fail.
func (s *server) must(lines ...string) string {
	s.t.Helper()
	answer := s.talk(lines...)
	if answer == "" || strings.HasPrefix(answer, "-") || strings.Contains(answer, "\n-") {
		s.t.Fatalf("%q: %s", lines, answer)
	}
	return answer
}

// kill is what a crash is.
func (s *server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
		os.Remove(s.socket())
	}
}

// freeze makes the server silent, with its connections open.
func (s *server) freeze() { s.cmd.Process.Signal(syscall.SIGSTOP) }
func (s *server) thaw()   { s.cmd.Process.Signal(syscall.SIGCONT) }

// freePort is free at the time.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// open opens a store that is closed at the end of the test.
func openStore(t testing.TB, url, prefix string, change ...func(*Options)) *Store {
	t.Helper()
	opts := Options{URL: secret.New(url), KeyPrefix: prefix}
	for _, f := range change {
		f(&opts)
	}
	s, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// common is the server that tests share that leave it running; each has a
// prefix of its own there.
var common atomic.Pointer[server]

var prefixes atomic.Int64

func commonServer(t testing.TB) (s *server, prefix string) {
	t.Helper()
	binary(t)
	s = common.Load()
	if s == nil {
		t.Fatal("the common server did not start")
	}
	return s, fmt.Sprintf("t%d:", prefixes.Add(1))
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if _, err := exec.LookPath("redis-server"); err == nil {
			t := &mainTB{}
			s := startServer(t)
			defer t.done()
			common.Store(s)
		}
		return m.Run()
	}())
}

// mainTB is as much of a testing.TB as a server needs.
type mainTB struct {
	testing.TB
	cleanup []func()
}

func (t *mainTB) Helper()          {}
func (t *mainTB) Cleanup(f func()) { t.cleanup = append(t.cleanup, f) }
func (t *mainTB) Fatal(args ...any) {
	t.done()
	panic(errors.New(fmt.Sprint(args...)))
}
func (t *mainTB) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }
func (t *mainTB) done() {
	for _, f := range t.cleanup {
		f()
	}
}
