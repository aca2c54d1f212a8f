package redis

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

func TestNewerSchemaIsRefused(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	set := func(version string) {
		t.Helper()
		if err := s.client.Do(t.Context(), s.client.B().Set().Key(s.keys.schema).Value(version).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	set("2")
	if _, err := Open(t.Context(), Options{URL: secret.New(srv.URL()), KeyPrefix: prefix}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("Open: %v", err)
	}
	// One that was open when the newer one came writes nothing more.
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); !errors.Is(err, store.ErrNewer) {
		t.Errorf("update: %v", err)
	}
	if _, _, err := s.AddPush(t.Context(), store.Push{Digest: "d"}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("push: %v", err)
	}
	if err := s.DeleteAuthorizer(t.Context(), "wx1"); !errors.Is(err, store.ErrNewer) {
		t.Errorf("delete: %v", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, store.ErrNewer) {
		t.Errorf("ping: %v", err)
	}
	for _, foreign := range []string{"x", "0", "-1"} {
		set(foreign)
		if _, err := Open(t.Context(), Options{URL: secret.New(srv.URL()), KeyPrefix: prefix}); !errors.Is(err, errForeign) {
			t.Errorf("schema %q: %v", foreign, err)
		}
	}
}

func TestMigrations(t *testing.T) {
	srv, prefix := commonServer(t)
	old := openStore(t, srv.URL(), prefix)
	if _, err := old.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	var first, second atomic.Int64
	broken := errors.New("broken")
	steps := []migration{
		func(ctx context.Context, s *Store) error {
			first.Add(1)
			time.Sleep(30 * time.Millisecond)
			return nil
		},
		func(ctx context.Context, s *Store) error {
			if second.Add(1) == 1 {
				return broken
			}
			return nil
		},
	}
	opts := Options{URL: secret.New(srv.URL()), KeyPrefix: prefix}
	if _, err := open(t.Context(), opts, steps); !errors.Is(err, broken) {
		t.Fatalf("a migration that fails: %v", err)
	}
	// Several at once: it goes on where it broke, and runs once.
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			s, err := open(t.Context(), opts, steps)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 || second.Load() != 2 {
		t.Errorf("migrations ran %d and %d times, want 1 and 2", first.Load(), second.Load())
	}
	if _, err := old.UpdateAuthorizer(t.Context(), "wx1", increment); !errors.Is(err, store.ErrNewer) {
		t.Errorf("the older one writes: %v", err)
	}
	if a, err := old.Authorizer(t.Context(), "wx1"); err != nil || a.Token.Generation != 6 {
		t.Errorf("generation %d, %v", a.Token.Generation, err)
	}
}

// What is stored must be what it is stored as.
func TestCorruptRecords(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	ctx := t.Context()
	for _, id := range []string{"wx1", "wx2"} {
		if _, err := s.UpdateAuthorizer(ctx, id, increment); err != nil {
			t.Fatal(err)
		}
	}
	data, _, err := s.bytes(ctx, s.keys.record(store.ChangedAuthorizer, "wx1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{data, "", "{", "\x00"} {
		if err := s.client.Do(ctx, s.client.B().Set().Key(s.keys.record(store.ChangedAuthorizer, "wx2")).Value(bad).Build()).Error(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Authorizer(ctx, "wx2"); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("read: %v", err)
		}
		if _, err := s.UpdateAuthorizer(ctx, "wx2", increment); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("update: %v", err)
		}
		if _, err := s.Authorizers(ctx, "", 10); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("page: %v", err)
		}
		if err := s.DeleteAuthorizer(ctx, "wx2"); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("delete: %v", err)
		}
	}
}
