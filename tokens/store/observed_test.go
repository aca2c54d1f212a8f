package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
	"lingpai/tokens/store/storetest"
)

func TestObservedStoreIsAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) (store.Store, func() store.Store) {
		return store.Observe(memory.New(), func(string, time.Duration, error) {}), nil
	})
}

func TestObserveTellsFailuresOfTheStoreOnly(t *testing.T) {
	var seen []string
	s := store.Observe(memory.New(), func(op string, _ time.Duration, err error) {
		if err != nil {
			op += " failed"
		}
		seen = append(seen, op)
	})
	ctx := context.Background()
	s.Authorizer(ctx, "wxnone")
	s.UpdateAuthorizer(ctx, "wx1", func(*store.Authorizer) error { return store.ErrUnchanged })
	s.UpdateAuthorizer(ctx, "wx1", func(*store.Authorizer) error { return errors.New("caller's own") })
	s.UpdateComponent(ctx, "wx1", func(*store.Component) error { return nil })
	s.Close()
	s.UpdateComponent(ctx, "wx1", func(*store.Component) error { return nil })
	s.Ping(ctx)
	want := []string{"authorizer", "update_authorizer", "update_authorizer", "update_component", "update_component failed", "ping failed"}
	if !slices.Equal(seen, want) {
		t.Errorf("saw %q, want %q", seen, want)
	}
}

func TestObservedSharedIsShared(t *testing.T) {
	seen := map[string]int{}
	var mu sync.Mutex
	storetest.RunShared(t, func(*testing.T) (a, b store.Shared) {
		g := memory.NewGroup(memory.Options{})
		open := func() store.Shared {
			s := store.Observe(g.Open(), func(op string, _ time.Duration, err error) {
				mu.Lock()
				defer mu.Unlock()
				seen[op]++
			})
			if _, ok := s.(store.Lister); !ok {
				t.Error("it is no Lister any more")
			}
			return s.(store.Shared)
		}
		return open(), open()
	})
	for _, op := range []string{"lease", "extend_lease", "release_lease", "note", "set_note", "identity", "want"} {
		if seen[op] == 0 {
			t.Errorf("%s was not observed", op)
		}
	}
	if _, ok := store.Observe(memory.New(), nil).(store.Shared); ok {
		t.Error("a store of one process became a shared one")
	}
}
