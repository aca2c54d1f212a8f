package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// OpenShared gives two processes' views of one empty store. They are closed by the
// suite.
type OpenShared func(t *testing.T) (a, b store.Shared)

// RunShared checks what a store.Shared promises beside a store.Store.
func RunShared(t *testing.T, open OpenShared) {
	for name, test := range map[string]func(t *testing.T, a, b store.Shared){
		"OneHasTheLease":       testLease,
		"LeasesEnd":            testLeaseEnds,
		"LateHoldersDoNothing": testLateHolder,
		"Notes":                testNotes,
		"Identity":             testIdentity,
		"WatchTellsOfOthers":   testWatch,
		"WatchEnds":            testWatchEnds,
		"WritersLoseNoWrite":   testWriters,
		"NoNameAndNoTime":      testNoNameAndNoTime,
		"WatchTellsNoNonsense": testWatchOfNoWrites,
		"WantedIsNotKept":      testWantedIsNotKept,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			t.Cleanup(func() { a.Close(); b.Close() })
			test(t, a, b)
		})
	}
}

// soon waits until ok.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("not after 10 s: %s", what)
		}
	}
}

func testLease(t *testing.T, a, b store.Shared) {
	ctx := t.Context()
	first, err := a.Lease(ctx, "l", time.Minute)
	must(t, err)
	for _, s := range []store.Shared{a, b} {
		_, err := s.Lease(ctx, "l", time.Minute)
		wantErr(t, "while it is held", err, store.ErrLeased)
	}
	if _, err := b.Lease(ctx, "another", time.Minute); err != nil {
		t.Errorf("another name: %v", err)
	}
	must(t, first.Extend(ctx, time.Minute))
	must(t, first.Release(ctx))
	second, err := b.Lease(ctx, "l", time.Minute)
	must(t, err)
	must(t, first.Release(ctx)) // is no harm
	wantErr(t, "extending what was released", first.Extend(ctx, time.Minute), store.ErrLeased)
	_, err = a.Lease(ctx, "l", time.Minute)
	wantErr(t, "after the second holder came", err, store.ErrLeased)
	must(t, second.Release(ctx))
}

func testLeaseEnds(t *testing.T, a, b store.Shared) {
	ctx := t.Context()
	const ttl = 300 * time.Millisecond
	began := time.Now()
	first, err := a.Lease(ctx, "l", ttl)
	must(t, err)
	must(t, first.Extend(ctx, 2*ttl))
	var second store.Lease
	soon(t, "the lease ends", func() bool {
		second, err = b.Lease(ctx, "l", time.Minute)
		return err == nil
	})
	if took := time.Since(began); took < 2*ttl-10*time.Millisecond {
		t.Errorf("it ended after %s, want %s", took, 2*ttl)
	}
	wantErr(t, "extending what has ended", first.Extend(ctx, time.Minute), store.ErrLeased)
	must(t, second.Extend(ctx, time.Minute))
}

func testLateHolder(t *testing.T, a, b store.Shared) {
	ctx := t.Context()
	first, err := a.Lease(ctx, "l", 20*time.Millisecond)
	must(t, err)
	soon(t, "the lease ends", func() bool {
		_, err = b.Lease(ctx, "l", time.Minute)
		return err == nil
	})
	must(t, first.Release(ctx))
	_, err = a.Lease(ctx, "l", time.Minute)
	wantErr(t, "after a late release", err, store.ErrLeased)
}

func testNoNameAndNoTime(t *testing.T, a, b store.Shared) {
	ctx := t.Context()
	_, err := a.Lease(ctx, "", time.Minute)
	wantErr(t, "a lease without name", err, store.ErrInvalid)
	for _, ttl := range []time.Duration{0, -time.Second} {
		_, err = a.Lease(ctx, "l", ttl)
		wantErr(t, "a lease without time", err, store.ErrInvalid)
		wantErr(t, "a note without time", a.SetNote(ctx, "n", "x", ttl), store.ErrInvalid)
	}
	wantErr(t, "a note without name", a.SetNote(ctx, "", "x", time.Minute), store.ErrInvalid)
	l, err := a.Lease(ctx, "l", time.Minute)
	must(t, err)
	wantErr(t, "extending by nothing", l.Extend(ctx, 0), store.ErrInvalid)
	_, err = b.Lease(ctx, "l", time.Minute)
	wantErr(t, "after extending by nothing", err, store.ErrLeased)
}

func testNotes(t *testing.T, a, b store.Shared) {
	ctx := t.Context()
	_, err := a.Note(ctx, "n")
	wantErr(t, "no note", err, store.ErrNotFound)
	must(t, a.SetNote(ctx, "n", "first", time.Minute))
	must(t, b.SetNote(ctx, "n", "second\n 二", time.Minute))
	must(t, b.SetNote(ctx, "other", "x", time.Minute))
	if text, err := a.Note(ctx, "n"); err != nil || text != "second\n 二" {
		t.Errorf("%q, %v", text, err)
	}
	for _, ttl := range []time.Duration{time.Minute, 0} {
		must(t, a.SetNote(ctx, "n", "", ttl))
		_, err = b.Note(ctx, "n")
		wantErr(t, "a note that was taken away", err, store.ErrNotFound)
		must(t, a.SetNote(ctx, "n", "back", time.Minute))
	}
	if text, err := b.Note(ctx, "other"); err != nil || text != "x" {
		t.Errorf("another note: %q, %v", text, err)
	}
	must(t, a.SetNote(ctx, "n", "short", 50*time.Millisecond))
	soon(t, "the note ends", func() bool {
		_, err := b.Note(ctx, "n")
		return errors.Is(err, store.ErrNotFound)
	})
}

func testIdentity(t *testing.T, a, b store.Shared) {
	var mu sync.Mutex
	seen := map[string]bool{}
	var asking sync.WaitGroup
	for i := range 20 {
		asking.Go(func() {
			s := []store.Shared{a, b}[i%2]
			id, err := s.Identity(t.Context())
			if err != nil || id == "" {
				t.Errorf("%q, %v", id, err)
			}
			mu.Lock()
			seen[id] = true
			mu.Unlock()
		})
	}
	asking.Wait()
	if len(seen) != 1 {
		t.Errorf("%d identities", len(seen))
	}
	// It is that of the records, which come and go.
	_, err := a.UpdateAuthorizer(t.Context(), "wx1", func(*store.Authorizer) error { return nil })
	must(t, err)
	must(t, a.DeleteAuthorizer(t.Context(), "wx1"))
	if id, err := b.Identity(t.Context()); err != nil || !seen[id] {
		t.Errorf("another identity after a write, %v", err)
	}
}

// seen is what a Watch has told.
type seen struct {
	mu      sync.Mutex
	changes []store.Change
	lost    int
	ended   chan error
}

func (s *seen) all() []store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.changes)
}

// watch begins a Watch and waits until it listens.
func watch(t *testing.T, ctx context.Context, s store.Shared) *seen {
	t.Helper()
	told := &seen{ended: make(chan error, 1)}
	go func() {
		told.ended <- s.Watch(ctx, func(c store.Change) {
			told.mu.Lock()
			defer told.mu.Unlock()
			told.changes = append(told.changes, c)
		}, func() {
			told.mu.Lock()
			defer told.mu.Unlock()
			told.lost++
		})
	}()
	soon(t, "Watch listens", func() bool {
		told.mu.Lock()
		defer told.mu.Unlock()
		return told.lost == 1
	})
	return told
}

func testWatch(t *testing.T, a, b store.Shared) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	toldA, toldB := watch(t, ctx, a), watch(t, ctx, b)
	_, err := a.UpdateComponent(ctx, "wxc", func(c *store.Component) error {
		c.Ticket = secret.New("ticket")
		return nil
	})
	must(t, err)
	_, err = a.UpdateAccount(ctx, "wxa", func(*store.Account) error { return nil })
	must(t, err)
	for _, err := range []error{store.ErrUnchanged, errors.New("no")} {
		if _, got := a.UpdateAuthorizer(ctx, "wx1", func(*store.Authorizer) error { return err }); !errors.Is(got, err) {
			t.Error(got)
		}
	}
	_, err = a.UpdateAuthorizer(ctx, "wx2", func(r *store.Authorizer) error {
		r.State = store.StateActive
		return nil
	})
	must(t, err)
	_, _, err = a.AddPush(ctx, store.Push{Digest: "d"})
	must(t, err)
	must(t, a.Want(ctx, "some text"))
	must(t, a.DeleteAuthorizer(ctx, "wx2"))
	_, err = a.UpdateAccount(ctx, "last", func(*store.Account) error { return nil })
	must(t, err)
	want := []store.Change{
		{Kind: store.ChangedComponent, AppID: "wxc"}, {Kind: store.ChangedAccount, AppID: "wxa"},
		{Kind: store.ChangedAuthorizer, AppID: "wx2"}, {Kind: store.ChangedPushes},
		{Kind: store.ChangedWanted, AppID: "some text"}, {Kind: store.ChangedAccount, AppID: "last"},
	}
	soon(t, "b is told of all", func() bool { return slices.Contains(toldB.all(), want[5]) })
	// The deletion may have been told together with the change before it.
	got := slices.Compact(slices.DeleteFunc(toldB.all(), func(c store.Change) bool { return c == want[2] }))
	if rest := slices.Delete(slices.Clone(want), 2, 3); !slices.Equal(got, rest) {
		t.Errorf("told %v, want %v", got, rest)
	}
	if !slices.Contains(toldB.all(), want[2]) {
		t.Error("not told of the authorizer")
	}
	// One's own writes are no news.
	_, err = b.UpdateAccount(ctx, "of b", func(*store.Account) error { return nil })
	must(t, err)
	fromB := store.Change{Kind: store.ChangedAccount, AppID: "of b"}
	soon(t, "a is told", func() bool { return slices.Contains(toldA.all(), fromB) })
	if got := toldA.all(); !slices.Equal(got, []store.Change{fromB}) {
		t.Errorf("told %v of its own", got)
	}
}

// What writes no record is no news, and neither is a push that is there already or
// not there any more.
func testWatchOfNoWrites(t *testing.T, a, b store.Shared) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, _, err := a.AddPush(ctx, store.Push{Digest: "d"})
	must(t, err)
	_, err = a.UpdateAccount(ctx, "wx1", func(*store.Account) error { return nil })
	must(t, err)
	told := watch(t, ctx, b)
	if _, added, err := a.AddPush(ctx, store.Push{Digest: "d"}); err != nil || added {
		t.Errorf("added %t, %v", added, err)
	}
	must(t, a.DeletePush(ctx, p.Seq+1))
	wantErr(t, "DeleteAuthorizer", a.DeleteAuthorizer(ctx, "none"), store.ErrNotFound)
	_, err = a.UpdateAccount(ctx, "wx1", func(*store.Account) error { return store.ErrUnchanged })
	wantErr(t, "UpdateAccount", err, store.ErrUnchanged)
	l, err := a.Lease(ctx, "l", time.Minute)
	must(t, err)
	must(t, l.Release(ctx))
	must(t, a.SetNote(ctx, "n", "x", time.Minute))
	must(t, a.Ping(ctx))
	_, err = a.Identity(ctx)
	must(t, err)
	last := store.Change{Kind: store.ChangedAccount, AppID: "last"}
	_, err = a.UpdateAccount(ctx, last.AppID, func(*store.Account) error { return nil })
	must(t, err)
	soon(t, "the last change is told", func() bool { return slices.Contains(told.all(), last) })
	if got := told.all(); !slices.Equal(got, []store.Change{last}) {
		t.Errorf("told %v, want %v alone", got, last)
	}
}

func testWantedIsNotKept(t *testing.T, a, b store.Shared) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	must(t, a.Want(ctx, "before"))
	told := watch(t, ctx, b)
	must(t, a.Want(ctx, "a text of several words 令牌"))
	want := []store.Change{{Kind: store.ChangedWanted, AppID: "a text of several words 令牌"}}
	soon(t, "what is wanted is told", func() bool { return len(told.all()) > 0 })
	if got := told.all(); !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

func testWatchEnds(t *testing.T, a, b store.Shared) {
	ctx, cancel := context.WithCancel(t.Context())
	byContext, byClose := watch(t, ctx, a), watch(t, t.Context(), b)
	cancel()
	wantErr(t, "Watch", <-byContext.ended, context.Canceled)
	must(t, b.Close())
	wantErr(t, "Watch", <-byClose.ended, store.ErrClosed)
}

func testWriters(t *testing.T, a, b store.Shared) {
	const each = 50
	var writing sync.WaitGroup
	for _, s := range []store.Shared{a, b} {
		writing.Go(func() {
			for range each {
				if _, err := s.UpdateAuthorizer(t.Context(), "wx1", func(r *store.Authorizer) error {
					r.State = store.StateActive
					r.Token.Generation++
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	r, err := b.Authorizer(t.Context(), "wx1")
	if err != nil || r.Token.Generation != 2*each {
		t.Errorf("generation %d, want %d; %v", r.Token.Generation, 2*each, err)
	}
}
