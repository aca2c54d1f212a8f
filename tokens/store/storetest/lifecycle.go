package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"lingpai/tokens/store"
)

var lifecycleTests = map[string]func(*testing.T, Open){
	"a closed store says so":                   closed,
	"an ended context stops every method":      cancelled,
	"closing beside writes loses none of them": closeBesideWrites,
}

// every calls each method but Close.
func every(ctx context.Context, s store.Store, f func(method string, err error)) {
	called := errors.New("fn was called")
	_, err := s.Component(ctx, "wx1")
	f("Component", err)
	_, err = s.UpdateComponent(ctx, "wx1", func(*store.Component) error { return called })
	f("UpdateComponent", err)
	_, err = s.Account(ctx, "wx1")
	f("Account", err)
	_, err = s.UpdateAccount(ctx, "wx1", func(*store.Account) error { return called })
	f("UpdateAccount", err)
	_, err = s.Authorizer(ctx, "wx1")
	f("Authorizer", err)
	_, err = s.UpdateAuthorizer(ctx, "wx1", func(*store.Authorizer) error { return called })
	f("UpdateAuthorizer", err)
	f("DeleteAuthorizer", s.DeleteAuthorizer(ctx, "wx1"))
	_, err = s.Authorizers(ctx, "", 10)
	f("Authorizers", err)
	_, err = s.CountAuthorizers(ctx)
	f("CountAuthorizers", err)
	_, _, err = s.AddPush(ctx, store.Push{Digest: "d"})
	f("AddPush", err)
	_, err = s.Pushes(ctx, 0, 10)
	f("Pushes", err)
	f("DeletePush", s.DeletePush(ctx, 1))
	f("Ping", s.Ping(ctx))
}

func closed(t *testing.T, open Open) {
	s := start(t, open)
	must(t, s.Ping(t.Context()))
	put(t, s, authorizer("wx1", store.StateActive))
	must(t, s.Close())
	every(t.Context(), s, func(method string, err error) { wantErr(t, method, err, store.ErrClosed) })
	wantErr(t, "Close", s.Close(), store.ErrClosed)
}

func cancelled(t *testing.T, open Open) {
	s := start(t, open)
	put(t, s, authorizer("wx1", store.StateActive))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	every(ctx, s, func(method string, err error) { wantErr(t, method, err, context.Canceled) })
	if got := ids(t, s, "", 10); len(got) != 1 {
		t.Errorf("the record is gone")
	}
	if got := pending(t, s, 0, 10); len(got) != 0 {
		t.Errorf("a push was added")
	}
}

func closeBesideWrites(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	var (
		mu    sync.Mutex
		acked = map[string]uint64{}
		begun = make(chan struct{})
		once  sync.Once
		wg    sync.WaitGroup
	)
	for n := range 16 {
		id := fmt.Sprintf("wx%02d", n)
		wg.Go(func() {
			for {
				a, err := s.UpdateAuthorizer(t.Context(), id, func(a *store.Authorizer) error {
					a.Token.Generation++
					return nil
				})
				if err == nil {
					mu.Lock()
					acked[id] = a.Token.Generation
					mu.Unlock()
					once.Do(func() { close(begun) })
					_, err = s.Authorizers(t.Context(), "", 5)
				}
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	<-begun
	must(t, s.Close())
	wg.Wait()
	s = reopen()
	for id, generation := range acked {
		a, err := s.Authorizer(t.Context(), id)
		if err != nil || a.Token.Generation < generation {
			t.Errorf("%s: generation %d was acknowledged, %d is stored, %v", id, generation, a.Token.Generation, err)
		}
	}
}
