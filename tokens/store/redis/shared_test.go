package redis

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
)

func increment(a *store.Authorizer) error {
	a.State = store.StateActive
	a.Token.Generation++
	return nil
}

// eventually waits until ok; the time is for slow machines.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("not after 10 s: %s", what)
		}
	}
}

func TestStoresShareOneRecord(t *testing.T) {
	srv, prefix := commonServer(t)
	var stores []*Store
	for range 3 {
		stores = append(stores, openStore(t, srv.URL(), prefix))
	}
	var wg sync.WaitGroup
	for n := range 100 {
		wg.Go(func() {
			if _, err := stores[n%3].UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, err := stores[0].Authorizer(t.Context(), "wx1")
	if err != nil || a.Token.Generation != 100 {
		t.Errorf("generation %d, want 100; %v", a.Token.Generation, err)
	}
	if c, err := stores[1].CountAuthorizers(t.Context()); err != nil || c.Active != 1 {
		t.Errorf("counts %+v, %v", c, err)
	}
}

// A second store writes while fn of the first one runs: fn must run again, with
// what the second one wrote.
func TestUpdateComparesWhatItRead(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	for _, existed := range []bool{false, true} {
		var saw []uint64
		got, err := a.UpdateAuthorizer(t.Context(), "wx1", func(r *store.Authorizer) error {
			saw = append(saw, r.Token.Generation)
			if len(saw) == 1 {
				if _, err := b.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
					t.Error(err)
				}
			}
			return increment(r)
		})
		if err != nil || len(saw) != 2 || saw[1] != saw[0]+1 || got.Token.Generation != saw[0]+2 {
			t.Errorf("record existed %t: fn saw generations %d, stored %d, %v", existed, saw, got.Token.Generation, err)
		}
	}
	if _, err := a.UpdateAuthorizer(t.Context(), "wx1", func(r *store.Authorizer) error {
		err := b.DeleteAuthorizer(t.Context(), "wx1")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		return increment(r)
	}); err != nil {
		t.Error(err)
	}
	if c, err := a.CountAuthorizers(t.Context()); err != nil || c.Active != 1 {
		t.Errorf("counts %+v, %v", c, err)
	}
}

// Whoever never stops writing makes others give up, not wait for ever.
func TestUpdateGivesUp(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	calls := 0
	_, err := a.UpdateAuthorizer(t.Context(), "wx1", func(r *store.Authorizer) error {
		calls++
		if _, err := b.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
			t.Error(err)
		}
		return increment(r)
	})
	if !errors.Is(err, errContended) || calls != maxAttempts {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestPrefixesAreApart(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix+"x")
	seen := watch(t, b)
	if _, err := a.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.AddPush(t.Context(), store.Push{Digest: "d"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Lease(t.Context(), "l", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Authorizer(t.Context(), "wx1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("record: %v", err)
	}
	if page, err := b.Authorizers(t.Context(), "", 10); err != nil || len(page) > 0 {
		t.Errorf("page %v, %v", page, err)
	}
	if c, err := b.CountAuthorizers(t.Context()); err != nil || c != (store.Counts{}) {
		t.Errorf("counts %+v, %v", c, err)
	}
	if _, added, err := b.AddPush(t.Context(), store.Push{Digest: "d"}); err != nil || !added {
		t.Errorf("push added %t, %v", added, err)
	}
	if _, err := b.Lease(t.Context(), "l", time.Minute); err != nil {
		t.Errorf("lease: %v", err)
	}
	if got := seen.all(); len(got) > 0 {
		t.Errorf("noticed %v", got)
	}
}

func TestNoRecordExpires(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateComponent(t.Context(), "wxc", func(*store.Component) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateAccount(t.Context(), "wxa", func(*store.Account) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.AddPush(t.Context(), store.Push{Digest: "d"}); err != nil {
		t.Fatal(err)
	}
	k := s.keys
	want := []string{
		k.schema, k.record("authorizer", "wx1"), k.record("component", "wxc"), k.record("account", "wxa"),
		k.index("component"), k.index("account"), k.index("authorizer"), k.counts, k.pushes, k.pushOrder, k.pushDigests, k.lastPush,
	}
	slices.Sort(want)
	m, err := s.client.Do(t.Context(), s.client.B().Keys().Pattern(prefix+"*").Build()).AsStrSlice()
	slices.Sort(m)
	if err != nil || !slices.Equal(m, want) {
		t.Errorf("keys %q\nwant %q, %v", m, want, err)
	}
	for _, key := range m {
		if ttl, err := s.client.Do(t.Context(), s.client.B().Pttl().Key(key).Build()).AsInt64(); err != nil || ttl != -1 {
			t.Errorf("%s lives %d ms, %v", key, ttl, err)
		}
	}
}

func TestLease(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	ctx := t.Context()
	release, err := a.Lease(ctx, "l", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{a, b} {
		began := time.Now()
		if _, err := s.Lease(ctx, "l", time.Minute); !errors.Is(err, store.ErrLeased) || time.Since(began) > time.Second {
			t.Errorf("held: %v after %s", err, time.Since(began))
		}
	}
	if _, err := b.Lease(ctx, "other", time.Minute); err != nil {
		t.Errorf("another name: %v", err)
	}
	if err := release.Release(ctx); err != nil {
		t.Fatal(err)
	}
	second, err := b.Lease(ctx, "l", time.Minute)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	if err := release.Release(ctx); err != nil {
		t.Errorf("a second release: %v", err)
	}
	if _, err := a.Lease(ctx, "l", time.Minute); !errors.Is(err, store.ErrLeased) {
		t.Errorf("after the second release of the former holder: %v", err)
	}
	if err := second.Release(ctx); err != nil {
		t.Error(err)
	}
	for _, f := range []struct {
		name string
		ttl  time.Duration
	}{{"", time.Second}, {"l", 0}, {"l", -1}} {
		if _, err := a.Lease(ctx, f.name, f.ttl); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("lease %q for %s: %v", f.name, f.ttl, err)
		}
	}
}

func TestLeaseRunsOut(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	ctx := t.Context()
	late, err := a.Lease(ctx, "l", 30*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var release store.Lease
	eventually(t, "the lease runs out", func() bool {
		release, err = b.Lease(ctx, "l", time.Minute)
		return err == nil
	})
	if err := late.Release(ctx); err != nil {
		t.Errorf("the late release: %v", err)
	}
	if _, err := a.Lease(ctx, "l", time.Minute); !errors.Is(err, store.ErrLeased) {
		t.Errorf("the late holder freed a newer lease: %v", err)
	}
	if err := release.Release(ctx); err != nil {
		t.Error(err)
	}
	// Less than a millisecond is a lease still.
	if _, err := a.Lease(ctx, "short", time.Nanosecond); err != nil {
		t.Error(err)
	}
}

// A caller that leaves before the answer must not lock others out.
func TestLeaseOfOneWhoLeft(t *testing.T) {
	srv := redistest.Start(t)
	s := openStore(t, srv.URL(), "")
	srv.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Lease(ctx, "l", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	srv.Thaw()
	eventually(t, "the lease is free", func() bool {
		_, err := s.Lease(t.Context(), "l", time.Minute)
		return err == nil
	})
}

// watcher collects what Watch tells.
type watcher struct {
	mu      sync.Mutex
	changes []store.Change
	at      []time.Time
	lost    int
	cancel  context.CancelFunc
	ended   chan error
}

func (w *watcher) all() []store.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.changes)
}

func (w *watcher) losses() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// watch returns when the store listens.
func watch(t testing.TB, s *Store) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{cancel: cancel, ended: make(chan error, 1)}
	go func() {
		w.ended <- s.Watch(ctx, func(c store.Change) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes, w.at = append(w.changes, c), append(w.at, time.Now())
		}, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lost++
		})
	}()
	t.Cleanup(cancel)
	eventually(t, "lost is called at the start", func() bool { return w.losses() == 1 })
	return w
}

func TestWatch(t *testing.T) {
	srv, prefix := commonServer(t)
	var stores []*Store
	var seen []*watcher
	for range 3 {
		s := openStore(t, srv.URL(), prefix)
		stores, seen = append(stores, s), append(seen, watch(t, s))
	}
	ctx := t.Context()
	var push store.Push
	for _, f := range []struct {
		do   func() error
		want store.Change
	}{
		{func() error {
			_, err := stores[0].UpdateComponent(ctx, "wxc", func(*store.Component) error { return nil })
			return err
		}, store.Change{Kind: store.ChangedComponent, AppID: "wxc"}},
		{func() error {
			_, err := stores[0].UpdateAccount(ctx, "wx 令牌 ", func(*store.Account) error { return nil })
			return err
		}, store.Change{Kind: store.ChangedAccount, AppID: "wx 令牌 "}},
		{func() error {
			_, err := stores[0].UpdateAuthorizer(ctx, "wx1", increment)
			return err
		}, store.Change{Kind: store.ChangedAuthorizer, AppID: "wx1"}},
		{func() error { return stores[0].DeleteAuthorizer(ctx, "wx1") }, store.Change{Kind: store.ChangedAuthorizer, AppID: "wx1"}},
		{func() (err error) {
			push, _, err = stores[0].AddPush(ctx, store.Push{Digest: "d"})
			return err
		}, store.Change{Kind: store.ChangedPushes}},
		{func() error { return stores[0].DeletePush(ctx, push.Seq) }, store.Change{Kind: store.ChangedPushes}},
	} {
		before := len(seen[1].all())
		began := time.Now()
		if err := f.do(); err != nil {
			t.Fatal(err)
		}
		for _, w := range seen[1:] {
			eventually(t, fmt.Sprint("noticed: ", f.want), func() bool { return len(w.all()) > before })
			if got := w.all()[before]; got != f.want {
				t.Errorf("got %v, want %v", got, f.want)
			}
			if took := w.at[before].Sub(began); took > 100*time.Millisecond {
				t.Errorf("%v took %s", f.want, took)
			}
		}
	}
	// What writes nothing tells nothing.
	if _, err := stores[0].UpdateAuthorizer(ctx, "wx1", func(*store.Authorizer) error { return store.ErrUnchanged }); !errors.Is(err, store.ErrUnchanged) {
		t.Error(err)
	}
	if err := stores[0].DeletePush(ctx, push.Seq); err != nil {
		t.Error(err)
	}
	// Notices come in order, so this one is behind all of the above.
	if _, err := stores[1].UpdateAccount(ctx, "last", func(*store.Account) error { return nil }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last change", func() bool { return len(seen[0].all()) > 0 && len(seen[2].all()) > 6 })
	if got := seen[0].all(); !slices.Equal(got, []store.Change{{Kind: store.ChangedAccount, AppID: "last"}}) {
		t.Errorf("the writer was told %v", got)
	}
	if got := seen[2].all(); len(got) != 7 {
		t.Errorf("told %v", got)
	}
	seen[0].cancel()
	if err := <-seen[0].ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch of an ended context returned %v", err)
	}
	if err := stores[1].Close(); err != nil {
		t.Error(err)
	}
	if err := <-seen[1].ended; !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch of a closed store returned %v", err)
	}
	if err := stores[1].Watch(ctx, nil, nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch on a closed store returned %v", err)
	}
}

func TestWatchComesBack(t *testing.T) {
	srv := redistest.Start(t)
	a, b := openStore(t, srv.URL(), "p:"), openStore(t, srv.URL(), "p:")
	seen := watch(t, b)
	for round := range 2 {
		if round == 0 {
			srv.Kill()
			eventually(t, "the store is down", func() bool { return a.Ping(t.Context()) != nil })
			srv.Start()
		} else {
			srv.Must("CLIENT KILL TYPE pubsub")
		}
		eventually(t, "lost is called", func() bool { return seen.losses() == round+2 })
		before := len(seen.all())
		eventually(t, "a write succeeds", func() bool {
			_, err := a.UpdateAuthorizer(t.Context(), "wx1", increment)
			return err == nil
		})
		eventually(t, "a change is noticed again", func() bool { return len(seen.all()) > before })
	}
}

// However slow the reader of changes is, others and the connection are not held
// up, and it learns that it missed some.
func TestSlowWatcher(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	lost := make(chan int, 100)
	told := 0
	go b.Watch(ctx, func(store.Change) {
		told++
		once.Do(func() {
			close(held)
			<-hold
			if _, err := b.Authorizer(ctx, "wx0"); err != nil { // it may call the store
				t.Error(err)
			}
		})
	}, func() { lost <- told })
	<-lost
	// The first is taken alone, and the others then wait for it.
	if _, err := a.UpdateAuthorizer(ctx, "wx0", increment); err != nil {
		t.Fatal(err)
	}
	<-held
	// Twice as many as are kept: it does not matter how many are still on their way
	// when the reader goes on.
	const n = 2 * maxPending
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := a.UpdateAuthorizer(ctx, fmt.Sprint("wx", i), increment); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if _, err := b.CountAuthorizers(ctx); err != nil {
		t.Error(err)
	}
	close(hold)
	select {
	case n := <-lost:
		if n > maxPending {
			t.Errorf("told of %d changes before the loss", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("the loss was not told")
	}
}

func TestInboxMergesEqualChanges(t *testing.T) {
	b := &inbox{ready: make(chan struct{}, 1)}
	x, y := store.Change{Kind: store.ChangedAccount, AppID: "x"}, store.Change{Kind: store.ChangedAccount, AppID: "y"}
	f := func(wantLost bool, want ...store.Change) {
		t.Helper()
		if lost, got := b.take(); lost != wantLost || !slices.Equal(got, want) {
			t.Errorf("got %t, %v, want %t, %v", lost, got, wantLost, want)
		}
	}
	b.put(x)
	b.put(y)
	b.put(x)
	f(false, x, y)
	b.put(x)
	b.lose()
	b.put(y)
	f(true, y)
	f(false)
	for i := range maxPending + 1 {
		b.put(store.Change{Kind: store.ChangedAccount, AppID: fmt.Sprint(i)})
	}
	b.put(y)
	f(true, y)
}

func TestCloseLeavesNothing(t *testing.T) {
	srv := redistest.Start(t)
	for _, state := range []string{"idle", "down", "frozen"} {
		s := openStore(t, srv.URL(), "p:", func(o *Options) { o.OperationTimeout = 300 * time.Millisecond })
		seen := watch(t, s)
		if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
			t.Fatal(err)
		}
		switch state {
		case "down":
			srv.Kill()
		case "frozen":
			srv.Freeze()
		}
		if state != "idle" {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			if _, err := s.Authorizer(ctx, "wx1"); err == nil {
				t.Errorf("%s: no error", state)
			}
			cancel()
		}
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("%s: Close took %s", state, took)
		}
		if err := <-seen.ended; !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: Watch returned %v", state, err)
		}
		var left string
		for range 100 {
			buf := make([]byte, 1<<20)
			left = string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(left, "rueidis") && !strings.Contains(left, "redis.(*Store)") {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if strings.Contains(left, "rueidis") || strings.Contains(left, "redis.(*Store)") {
			t.Errorf("%s: goroutines are left:\n%s", state, left)
		}
		switch state {
		case "down":
			srv.Start()
		case "frozen":
			srv.Thaw()
		}
	}
}

// With appendfsync always what was acknowledged outlives the server's death.
func TestAcknowledgedWritesOutliveACrash(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(t, srv.URL(), "p:")
	var mu sync.Mutex
	acked := map[string]uint64{}
	var pushed uint64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			id := fmt.Sprint("wx", w)
			for n := 0; ; n++ {
				a, err := s.UpdateAuthorizer(t.Context(), id, increment)
				if err != nil {
					return
				}
				p, _, err := s.AddPush(t.Context(), store.Push{Digest: fmt.Sprint(id, "-", n), Message: secret.New("m")})
				if err != nil {
					return
				}
				mu.Lock()
				acked[id] = a.Token.Generation
				pushed = max(pushed, p.Seq)
				mu.Unlock()
			}
		})
	}
	eventually(t, "all have written often", func() bool {
		mu.Lock()
		defer mu.Unlock()
		least := uint64(0)
		for _, generation := range acked {
			if least == 0 || generation < least {
				least = generation
			}
		}
		return len(acked) == 8 && least >= 10
	})
	srv.Kill()
	wg.Wait()
	srv.Start()
	for id, generation := range acked {
		var a store.Authorizer
		var err error
		eventually(t, "the server is read again", func() bool {
			a, err = s.Authorizer(t.Context(), id)
			return err == nil
		})
		if a.Token.Generation < generation {
			t.Errorf("%s: generation %d was acknowledged, %d is stored", id, generation, a.Token.Generation)
		}
	}
	if c, err := s.CountAuthorizers(t.Context()); err != nil || c.Active != len(acked) {
		t.Errorf("%+v of %d are counted, %v", c, len(acked), err)
	}
	page, err := s.Pushes(t.Context(), 0, 1<<30)
	if err != nil || len(page) == 0 || page[len(page)-1].Seq < pushed {
		t.Errorf("%d pushes, Seq %d was acknowledged; %v", len(page), pushed, err)
	}
}
