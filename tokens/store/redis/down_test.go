package redis

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
)

// every calls the methods that talk to the server.
func every(ctx context.Context, s *Store, f func(method string, call func() error)) {
	f("Authorizer", func() error { _, err := s.Authorizer(ctx, "wx1"); return err })
	f("UpdateAuthorizer", func() error { _, err := s.UpdateAuthorizer(ctx, "wx1", increment); return err })
	f("DeleteAuthorizer", func() error { return s.DeleteAuthorizer(ctx, "wx1") })
	f("Authorizers", func() error { _, err := s.Authorizers(ctx, "", 10); return err })
	f("CountAuthorizers", func() error { _, err := s.CountAuthorizers(ctx); return err })
	f("AddPush", func() error { _, _, err := s.AddPush(ctx, store.Push{Digest: "d"}); return err })
	f("Pushes", func() error { _, err := s.Pushes(ctx, 0, 10); return err })
	f("DeletePush", func() error { return s.DeletePush(ctx, 1) })
	f("Lease", func() error { _, err := s.Lease(ctx, "l", time.Minute); return err })
	f("SetNote", func() error { return s.SetNote(ctx, "n", "x", time.Minute) })
	f("Note", func() error { _, err := s.Note(ctx, "n"); return err })
	f("Identity", func() error { _, err := s.Identity(ctx); return err })
	f("Want", func() error { return s.Want(ctx, "x") })
	f("ForgetKeys", func() error { return s.ForgetKeys(ctx) })
	f("Ping", func() error { return s.Ping(ctx) })
}

func TestServerDown(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(t, srv.URL(), "p:")
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	srv.Kill()
	every(t.Context(), s, func(method string, call func() error) {
		began := time.Now()
		err := call()
		if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrLeased) || errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: got %v", method, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: took %s", method, took)
		}
	})
	srv.Start()
	eventually(t, "the store recovers", func() bool { return s.Ping(t.Context()) == nil })
	a, err := s.Authorizer(t.Context(), "wx1")
	if err != nil || a.Token.Generation != 1 {
		t.Errorf("generation %d, %v", a.Token.Generation, err)
	}
}

func TestServerSilent(t *testing.T) {
	srv := redistest.Start(t)
	const timeout = 200 * time.Millisecond
	s := openStore(t, srv.URL(), "p:", func(o *Options) { o.OperationTimeout = timeout })
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	srv.Freeze()
	every(t.Context(), s, func(method string, call func() error) {
		began := time.Now()
		err := call()
		// The caller's context is good, and must not seem to have ended.
		if err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", method, err)
		}
		if took := time.Since(began); took > timeout+time.Second {
			t.Errorf("%s: took %s", method, took)
		}
	})
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	every(short, s, func(method string, call func() error) {
		began := time.Now()
		if err := call(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a deadline: got %v", method, err)
		}
		if took := time.Since(began); took > timeout/2 {
			t.Errorf("%s with a deadline: took %s", method, took)
		}
	})
	gone, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := s.Authorizer(gone, "wx1"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left got %v", err)
	}
	srv.Thaw()
	eventually(t, "the store recovers", func() bool { return s.Ping(t.Context()) == nil })
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Error(err)
	}
}

// One whose time is short must not fail those beside it.
func TestShortDeadlinesFailNobodyElse(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for range 300 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Microsecond)
			s.Authorizer(ctx, "wx1")
			cancel()
		}
	}()
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
		}
		if _, err := s.Authorizer(t.Context(), "wx1"); err != nil {
			t.Fatal(err)
		}
	}
}

// A server that lost everything is a new one: it is usable at once, and Seqs go
// on.
func TestServerRestartedEmpty(t *testing.T) {
	srv := redistest.Start(t)
	s := openStore(t, srv.URL(), "p:")
	seen := watch(t, s)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	before, _, err := s.AddPush(t.Context(), store.Push{Digest: "d"})
	if err != nil {
		t.Fatal(err)
	}
	srv.Kill()
	srv.Start()
	eventually(t, "the store recovers", func() bool { return s.Ping(t.Context()) == nil })
	eventually(t, "the loss is told", func() bool { return seen.losses() == 2 })
	if _, err := s.Authorizer(t.Context(), "wx1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if a, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil || a.Token.Generation != 1 {
		t.Errorf("generation %d, %v", a.Token.Generation, err)
	}
	after, added, err := s.AddPush(t.Context(), store.Push{Digest: "d"})
	if err != nil || !added || after.Seq <= before.Seq {
		t.Errorf("Seq %d after %d, added %t, %v", after.Seq, before.Seq, added, err)
	}
	if n, _, err := s.bytes(t.Context(), s.keys.schema); err != nil || n != s.version {
		t.Errorf("schema %q, %v", n, err)
	}
}

// The identity is kept as the records are, and lost with them.
func TestIdentityIsOfTheRecords(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(t, srv.URL(), "p:")
	first, err := s.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One that found none before the other had made it takes that one.
	if id, found, err := s.makeIdentity(t.Context()); id != first || !found || err != nil {
		t.Errorf("%q after %q, %v", id, first, err)
	}
	again := func() (id string) {
		t.Helper()
		srv.Kill()
		srv.Start()
		eventually(t, "the store recovers", func() bool {
			id, err = s.Identity(t.Context())
			return err == nil
		})
		return id
	}
	if id := again(); id != first {
		t.Errorf("%q after %q, and no record was lost", id, first)
	}
	srv.Kill()
	srv.Wipe()
	if id := again(); id == first || id == "" {
		t.Errorf("%q after %q", id, first)
	}
}

// No write may happen in part when memory runs out, and reads and deletions go
// on.
func TestServerOutOfMemory(t *testing.T) {
	srv := redistest.Start(t)
	s := openStore(t, srv.URL(), "p:")
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	p, _, err := s.AddPush(t.Context(), store.Push{Digest: "d"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv.Must("CONFIG SET maxmemory 1")
	if got, err := s.Identity(t.Context()); err != nil || got != id {
		t.Errorf("identity %q, %v", got, err)
	}
	for name, err := range map[string]error{
		"update": errOf(s.UpdateAuthorizer(t.Context(), "wx2", increment)),
		"ping":   s.Ping(t.Context()),
	} {
		if err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, _, err := s.AddPush(t.Context(), store.Push{Digest: "e"}); err == nil {
		t.Error("a push was added")
	}
	if err := s.DeletePush(t.Context(), p.Seq); err != nil {
		t.Errorf("delete push: %v", err)
	}
	if err := s.DeleteAuthorizer(t.Context(), "wx1"); err != nil {
		t.Errorf("delete authorizer: %v", err)
	}
	srv.Must("CONFIG SET maxmemory 0")
	if c, err := s.CountAuthorizers(t.Context()); err != nil || c != (store.Counts{}) {
		t.Errorf("counts %+v, %v", c, err)
	}
	if page, err := s.Pushes(t.Context(), 0, 10); err != nil || len(page) != 0 {
		t.Errorf("%d pushes, %v", len(page), err)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestOpenFails(t *testing.T) {
	f := func(name, url, want string) {
		t.Helper()
		began := time.Now()
		_, err := Open(t.Context(), Options{URL: secret.New(url), DialTimeout: 300 * time.Millisecond, OperationTimeout: 300 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
	port := redistest.FreePort(t)
	f("nobody there", "redis://user:pa55w0rd@127.0.0.1:"+port, "connect to 127.0.0.1:"+port+": ")
	f("nobody there, cluster", "redis+cluster://user:pa55w0rd@127.0.0.1:"+port, "connect to 127.0.0.1:"+port+": ")
	f("nobody there, sentinel", "redis+sentinel://user:pa55w0rd@127.0.0.1:"+port+"/m?sentinel_password=pa55w0rd", "connect to 127.0.0.1:"+port+": ")
	srv := redistest.Start(t)
	srv.Freeze()
	f("silent", srv.URL(), "connect to "+srv.Socket()+": ")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, Options{URL: secret.New(srv.URL())}); err == nil {
		t.Error("no error from a silent server")
	}
	srv.Thaw()
}
