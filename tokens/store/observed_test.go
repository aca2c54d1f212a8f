package store_test

import (
	"context"
	"errors"
	"slices"
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
