package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store/redis/redistest"
)

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
var common atomic.Pointer[redistest.Server]

var prefixes atomic.Int64

func commonServer(t testing.TB) (s *redistest.Server, prefix string) {
	t.Helper()
	redistest.Binary(t)
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
			s := redistest.Start(t)
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
