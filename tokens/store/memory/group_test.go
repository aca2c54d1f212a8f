package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/store"
)

func grow(a *store.Authorizer) error {
	a.State = store.StateActive
	a.Token.Generation++
	return nil
}

// told is what a Watch has told; it is read when the bubble is idle.
type told struct {
	changes []store.Change
	lost    int
	err     error
}

func watch(ctx context.Context, p *Peer) *told {
	w := &told{}
	go func() {
		w.err = p.Watch(ctx, func(c store.Change) { w.changes = append(w.changes, c) }, func() { w.lost++ })
	}()
	synctest.Wait()
	return w
}

func (w *told) want(t *testing.T, when string, lost int, changes ...store.Change) {
	t.Helper()
	synctest.Wait()
	if w.lost != lost || !slices.Equal(w.changes, changes) {
		t.Errorf("%s: lost %d times and told %v, want %d and %v", when, w.lost, w.changes, lost, changes)
	}
}

// everyShared calls each method of p that may fail.
func everyShared(ctx context.Context, p *Peer, f func(method string, err error)) {
	_, err := p.Component(ctx, "c")
	f("Component", err)
	_, err = p.UpdateComponent(ctx, "c", func(*store.Component) error { return nil })
	f("UpdateComponent", err)
	_, err = p.Account(ctx, "a")
	f("Account", err)
	_, err = p.UpdateAccount(ctx, "a", func(*store.Account) error { return nil })
	f("UpdateAccount", err)
	_, err = p.Authorizer(ctx, "wx1")
	f("Authorizer", err)
	_, err = p.UpdateAuthorizer(ctx, "wx1", grow)
	f("UpdateAuthorizer", err)
	f("DeleteAuthorizer", p.DeleteAuthorizer(ctx, "wx1"))
	_, err = p.Authorizers(ctx, "", 10)
	f("Authorizers", err)
	_, err = p.CountAuthorizers(ctx)
	f("CountAuthorizers", err)
	_, _, err = p.AddPush(ctx, store.Push{Digest: "d"})
	f("AddPush", err)
	_, err = p.Pushes(ctx, 0, 10)
	f("Pushes", err)
	f("DeletePush", p.DeletePush(ctx, 1))
	_, err = p.ComponentIDs(ctx)
	f("ComponentIDs", err)
	_, err = p.AccountIDs(ctx)
	f("AccountIDs", err)
	f("Ping", p.Ping(ctx))
	_, err = p.Lease(ctx, "l", time.Minute)
	f("Lease", err)
	_, err = p.Note(ctx, "n")
	f("Note", err)
	f("SetNote", p.SetNote(ctx, "n", "x", time.Minute))
	_, err = p.Identity(ctx)
	f("Identity", err)
	f("Want", p.Want(ctx, "x"))
}

func TestGroupDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := NewGroup(Options{})
		a, b := g.Open(), g.Open()
		before, err := a.Identity(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.UpdateAuthorizer(ctx, "wx1", grow); err != nil {
			t.Fatal(err)
		}
		lease, err := a.Lease(ctx, "held", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		first := watch(ctx, b)
		first.want(t, "at the start", 1)

		g.SetDown(true)
		everyShared(ctx, a, func(method string, err error) {
			if !errors.Is(err, ErrDown) {
				t.Errorf("%s: got %v", method, err)
			}
		})
		for name, err := range map[string]error{"Extend": lease.Extend(ctx, time.Minute), "Release": lease.Release(ctx)} {
			if !errors.Is(err, ErrDown) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		second := watch(ctx, a)
		second.want(t, "begun while it is down", 0)
		g.SetDown(true)
		time.Sleep(time.Minute)
		g.SetDown(false)
		g.SetDown(false)
		first.want(t, "up again", 2)
		second.want(t, "up again", 1)
		// The lease has ended meanwhile, and all else is there.
		if err := lease.Extend(ctx, time.Minute); !errors.Is(err, store.ErrLeased) {
			t.Errorf("extending: %v", err)
		}
		if _, err := b.Lease(ctx, "held", time.Minute); err != nil {
			t.Error(err)
		}
		if r, err := b.Authorizer(ctx, "wx1"); err != nil || r.Token.Generation != 1 {
			t.Errorf("generation %d, %v", r.Token.Generation, err)
		}
		if after, err := b.Identity(ctx); err != nil || after != before {
			t.Errorf("%q, %v", after, err)
		}
		cancel()
		synctest.Wait()
		if !errors.Is(first.err, context.Canceled) || !errors.Is(second.err, context.Canceled) {
			t.Errorf("Watch returned %v and %v", first.err, second.err)
		}
	})
}

func TestGroupLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := NewGroup(Options{})
		a, b := g.Open(), g.Open()
		w := watch(ctx, b)
		for round := range 2 {
			before, err := a.Identity(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.UpdateAuthorizer(ctx, "wx1", grow); err != nil {
				t.Fatal(err)
			}
			p, added, err := a.AddPush(ctx, store.Push{Digest: "d"})
			if err != nil || !added || p.Seq != uint64(round+1) {
				t.Errorf("Seq %d, added %t, %v", p.Seq, added, err)
			}
			lease, err := a.Lease(ctx, "l", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.SetNote(ctx, "n", "x", time.Hour); err != nil {
				t.Fatal(err)
			}
			// While it is down nobody learns of it.
			g.SetDown(round == 1)
			g.Lose()
			g.SetDown(false)
			synctest.Wait()
			if w.lost != round+2 {
				t.Errorf("the loss was told %d times", w.lost-round-1)
			}
			if after, err := b.Identity(ctx); err != nil || after == before || after == "" {
				t.Errorf("%q after %q, %v", after, before, err)
			}
			if _, err := b.Authorizer(ctx, "wx1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("record: %v", err)
			}
			if _, err := b.Note(ctx, "n"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("note: %v", err)
			}
			next, err := b.Lease(ctx, "l", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if err := lease.Release(ctx); err != nil {
				t.Error(err)
			}
			if err := next.Extend(ctx, time.Hour); err != nil {
				t.Errorf("a holder from before the loss freed the lease: %v", err)
			}
			if err := next.Release(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// Time is that of the bubble, to the nanosecond.
func TestLeasesAndNotesEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		g := NewGroup(Options{})
		a, b := g.Open(), g.Open()
		if _, err := a.Lease(ctx, "l", time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := a.SetNote(ctx, "n", "x", time.Hour); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour - 1)
		if _, err := b.Lease(ctx, "l", time.Hour); !errors.Is(err, store.ErrLeased) {
			t.Errorf("lease: %v", err)
		}
		if _, err := b.Note(ctx, "n"); err != nil {
			t.Errorf("note: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := b.Lease(ctx, "l", time.Hour); err != nil {
			t.Errorf("lease: %v", err)
		}
		if _, err := b.Note(ctx, "n"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("note: %v", err)
		}
	})
}

// Nobody waits for a slow watcher, and what it has not heard yet is told once.
func TestSlowWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := NewGroup(Options{})
		a, b := g.Open(), g.Open()
		var seen []string
		go b.Watch(ctx, func(c store.Change) {
			seen = append(seen, c.AppID)
			time.Sleep(time.Minute)
			if _, err := b.Authorizer(ctx, c.AppID); err != nil { // it may call the store
				t.Error(err)
			}
		}, func() {})
		synctest.Wait()
		began := time.Now()
		for range 3 {
			for _, id := range []string{"wx1", "wx2", "wx3"} {
				if _, err := a.UpdateAuthorizer(ctx, id, grow); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("the writer waited %s", took)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if want := []string{"wx1", "wx2", "wx3", "wx1"}; !slices.Equal(seen, want) {
			t.Errorf("told %q, want %q", seen, want)
		}
	})
}

func TestPeerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		g := NewGroup(Options{})
		a, b := g.Open(), g.Open()
		ofA, ofB := watch(ctx, a), watch(ctx, b)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		everyShared(ctx, a, func(method string, err error) {
			if !errors.Is(err, store.ErrClosed) {
				t.Errorf("%s: got %v", method, err)
			}
		})
		synctest.Wait()
		if !errors.Is(ofA.err, store.ErrClosed) {
			t.Errorf("Watch returned %v", ofA.err)
		}
		if err := a.Watch(ctx, nil, nil); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Watch of a closed peer: %v", err)
		}
		c := g.Open()
		if _, err := c.UpdateAuthorizer(ctx, "wx1", grow); err != nil {
			t.Error(err)
		}
		ofB.want(t, "another peer", 1, store.Change{Kind: store.ChangedAuthorizer, AppID: "wx1"})
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A watch that is over tells nothing more, even of what it has taken already.
func TestWatchEndsAmidChanges(t *testing.T) {
	for name, end := range map[string]func(cancel func(), p *Peer){
		"ctx":   func(cancel func(), _ *Peer) { cancel() },
		"Close": func(_ func(), p *Peer) { p.Close() },
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			g := NewGroup(Options{})
			a, b := g.Open(), g.Open()
			n := 0
			go b.Watch(ctx, func(store.Change) {
				if n++; n > 1 {
					t.Errorf("%s: told of another change", name)
				}
				time.Sleep(time.Minute)
				end(cancel, b)
			}, func() { time.Sleep(time.Minute) }) // so that the changes come together
			synctest.Wait()
			for i := range 3 {
				if _, err := a.UpdateAuthorizer(ctx, fmt.Sprint("wx", i), grow); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if n != 1 {
				t.Errorf("%s: told %d times", name, n)
			}
		})
	}
}
