package tokens

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

// A call every 5 s for an hour of a broken endpoint: the number of calls to
// WeChat is that of the back-off, and once WeChat is back calls work without a
// restart.
func TestBrokenEndpointUnderLoad(t *testing.T) {
	fault := func(kind wechattest.FaultKind) wechattest.Fault { return wechattest.Fault{Kind: kind} }
	code := func(n int) wechattest.Fault {
		return wechattest.Fault{Kind: wechattest.FaultErrcode, Errcode: n}
	}
	for name, c := range map[string]struct {
		fault wechattest.Fault
		least int
		most  int
		code  int
	}{
		"down":      {fault(wechattest.FaultCut), 15, 45, 0},
		"status":    {fault(wechattest.FaultStatus), 15, 45, 0},
		"garbage":   {fault(wechattest.FaultGarbage), 15, 45, 0},
		"empty":     {fault(wechattest.FaultEmpty), 15, 45, 0},
		"lost":      {fault(wechattest.FaultLost), 15, 45, 0},
		"truncated": {fault(wechattest.FaultTruncated), 15, 45, 0},
		"busy":      {code(-1), 15, 45, -1},
		"minute":    {code(45011), 45, 60, 45011},
		"day":       {code(45009), 1, 2, 45009},
		"secret":    {code(40125), 12, 26, 40125},
		"whitelist": {code(40164), 12, 26, 40164},
		"platform":  {code(61004), 12, 26, 61004},
		"expired":   {code(61005), 15, 45, 61005},
		"invalid":   {code(61006), 15, 45, 61006},
		"61003":     {code(61003), 8, 25, 61003},
		"unknown":   {code(99999), 15, 45, 99999},
	} {
		for _, key := range []Key{of(alice), {Component, platform}, {Account, direct}} {
			path := map[Kind]string{Component: pathComponent, Authorizer: pathAuthorizer, Account: pathStable}[key.Kind]
			t.Run(name+" "+key.Kind.String(), func(t *testing.T) {
				inWorld(t, nil, func(t *testing.T, w *world) {
					w.ready()
					if key.Kind == Authorizer {
						w.token(Key{Component, platform})
					}
					c.fault.Path = path
					w.sim.AddFault(c.fault)
					for range 720 {
						before := time.Now()
						u := w.unavailable(key)
						if u.Code != c.code || u.RetryAfter <= 0 {
							t.Fatalf("errcode %d, retry after %s: %v", u.Code, u.RetryAfter, u)
						}
						if time.Since(before) != 0 {
							t.Fatalf("waited %s", time.Since(before))
						}
						time.Sleep(5 * time.Second)
					}
					if n := w.sim.Count(path); n < c.least || n > c.most {
						t.Errorf("%d calls to WeChat in an hour, want %d to %d", n, c.least, c.most)
					}
					w.sim.ClearFaults()
					if _, err := w.Refresh(t.Context(), key); err != nil { // overrides the back-off
						t.Fatal(err)
					}
					w.live(w.token(key))
				})
			})
		}
	}
}

// A valid token serves on while its renewal fails, and is renewed once WeChat is
// back.
func TestOutageShorterThanWhatIsLeft(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		first := w.token(of(alice))
		time.Sleep(time.Until(first.ExpiresAt()) - 9*time.Minute)
		id := w.sim.AddFault(wechattest.Fault{Path: "*", Kind: wechattest.FaultStatus, Status: 500})
		for range 240 {
			time.Sleep(time.Second)
			w.live(w.token(of(alice)))
		}
		w.sim.RemoveFault(id)
		for range 299 {
			time.Sleep(time.Second)
			w.live(w.token(of(alice)))
		}
		if now := w.token(of(alice)); now.Generation == first.Generation {
			t.Error("not renewed")
		}
	})
}

func TestSlowEndpoint(t *testing.T) {
	inWorld(t, latency(8*time.Second), func(t *testing.T, w *world) {
		w.ready()
		before := time.Now()
		if err := w.refused(Key{Component, platform}); !errors.Is(err, ErrWait) || time.Since(before) != 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(before))
		}
		time.Sleep(4 * time.Second)
		w.live(w.token(Key{Component, platform})) // the flight has gone on
		w.count(pathComponent, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.Token(ctx, of(alice)); !errors.Is(err, ErrWait) {
			t.Error(err)
		}
		time.Sleep(8 * time.Second)
		w.live(w.token(of(alice)))
		w.count(pathAuthorizer, 1)
	})
}

func TestNewTicketMendsTicketTroubleAtOnceAndNothingElse(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		component := Key{Component, platform}
		if u := w.unavailable(component); u.RetryAfter <= 0 || u.Code != 0 {
			t.Errorf("%+v", u)
		}
		w.count(pathComponent, 0)
		if err := w.Obtainable(t.Context()); !errors.Is(err, noTicket) {
			t.Error(err)
		}
		if _, err := w.ReceiveTicket(t.Context(), secret.New("ticket@@@garbage-garbage-garbage"), time.Now()); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			w.unavailable(component)
		}
		if u := w.unavailable(component); u.Code != 61006 {
			t.Errorf("%+v", u)
		}
		w.count(pathComponent, 1)
		if err := w.Obtainable(t.Context()); err == nil {
			t.Error("obtainable during the back-off")
		}
		w.ticket()
		w.live(w.token(component))
		w.sim.RevokeToken(wechattest.KindComponent, platform)
		w.fail(pathComponent, 45009, 0)
		w.Refresh(t.Context(), component)
		n := w.sim.Count(pathComponent)
		time.Sleep(2 * time.Hour)
		w.unavailable(component)
		w.ticket()
		w.unavailable(component)
		w.count(pathComponent, n+0)
	})
}

func TestReceiveTicket(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		receive := func(value string, at time.Duration, want bool) {
			t.Helper()
			changed, err := w.ReceiveTicket(t.Context(), secret.New(value), w.clock.Add(at))
			if err != nil || changed != want {
				t.Errorf("%s at %s: %v %v", value, at, changed, err)
			}
		}
		stored := func() string {
			record, _ := w.disk.Component(t.Context(), platform)
			return record.Ticket.Reveal()
		}
		receive("a", 0, true)
		receive("a", 0, false)
		receive("a", time.Second, false)
		receive("b", 0, false) // older
		receive("b", time.Second, true)
		if stored() != "b" {
			t.Error(stored())
		}
		receive("c", 1000*time.Hour, true) // a wrong clock shuts out for minutes only
		time.Sleep(10 * time.Minute)
		receive("d", 10*time.Minute, true)
		time.Sleep(ticketLifetime)
		w.unavailable(Key{Component, platform})
		time.Sleep(maxBackoff)
		if u := w.unavailable(Key{Component, platform}); u != noTicket {
			t.Error(u)
		}
	})
}

// A failure of the component is its own: once it works, its authorizers do.
func TestComponentFailureIsNotItsAuthorizers(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.fail(pathComponent, -1, 0)
		for range 100 {
			if u := w.unavailable(of(alice)); u.Code != -1 {
				t.Fatalf("%+v", u)
			}
			time.Sleep(100 * time.Millisecond)
		}
		w.count(pathAuthorizer, 0)
		w.sim.ClearFaults()
		if _, err := w.Refresh(t.Context(), Key{Component, platform}); err != nil {
			t.Fatal(err)
		}
		w.live(w.token(of(alice)))
		if n := w.metric("token_refreshes_total", "kind", "authorizer", "reason", "missing", "result", "error"); n != 0 {
			t.Errorf("%v failures counted", n)
		}
	})
}

func TestDeadRefreshToken(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		first := w.token(of(alice))
		w.fail(pathAuthorizer, 61023, 0)
		if _, err := w.Refresh(t.Context(), of(alice)); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		w.state(alice, store.StateReauthorize)
		n := w.sim.Count(pathAuthorizer)
		for range 100 { // what is still valid serves
			if now := w.token(of(alice)); now.Generation != first.Generation {
				t.Error("another token")
			}
			time.Sleep(time.Minute)
		}
		w.restart()
		w.token(of(alice))
		time.Sleep(20 * time.Minute)
		if err := w.refused(of(alice)); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		w.count(pathAuthorizer, n)
	})
}

// A token that was refused, and that nothing can replace, serves no longer.
func TestRefusedTokenWithDeadRefreshToken(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		old := w.token(of(alice))
		w.sim.RevokeToken(wechattest.KindAuthorizer, alice)
		w.fail(pathAuthorizer, 61023, 0)
		if _, err := w.refuse(old); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		if err := w.refused(of(alice)); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		w.sim.ClearFaults()
		w.authorize(alice)
		time.Sleep(time.Second)
		w.live(w.token(of(alice)))
	})
}

// Persist, then publish.
func TestStoreThatFailsWrites(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) {
		k.RefreshToken, k.RefreshTokenGrace = wechattest.RefreshTokenRotated, 0
	}, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		w.disk.set(nil, errDisk)
		for range 100 {
			w.unavailable(of(alice))
			time.Sleep(time.Second)
		}
		w.count(pathAuthorizer, 1)
		w.disk.set(nil, nil)
		time.Sleep(maxStoreBackoff)
		w.live(w.token(of(alice)))
		w.count(pathAuthorizer, 1)
		// The rotated refresh token has survived.
		if _, err := w.Refresh(t.Context(), of(alice)); err != nil {
			t.Fatal(err)
		}
		// An answer that expires before it can be stored still brings its
		// refresh token.
		w.disk.set(nil, errDisk)
		w.Refresh(t.Context(), of(alice))
		time.Sleep(3 * time.Hour)
		w.ticketStored()
		w.disk.set(nil, nil)
		time.Sleep(maxStoreBackoff)
		w.live(w.token(of(alice)))
		w.count(pathAuthorizer, 4)
	})
}

// ticketStored gives the Service a ticket past the fault of its store.
func (w *world) ticketStored() {
	w.disk.Store.UpdateComponent(w.t.Context(), platform, func(c *store.Component) error {
		c.Ticket, c.TicketReceivedAt = secret.New(w.sim.IssueTicket()), time.Now()
		return nil
	})
}

func TestStoreThatFailsReads(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		w.add(bob)
		w.disk.set(errDisk, errDisk)
		w.token(of(alice)) // from memory
		for range 1000 {
			w.unavailable(of(bob))
		}
		if err := w.Obtainable(t.Context()); err != nil {
			t.Error(err)
		}
		w.disk.set(nil, nil)
		w.live(w.token(of(bob)))
	})
}

func TestRefreshTokens(t *testing.T) {
	for _, kind := range []string{wechattest.RefreshTokenRotated, wechattest.RefreshTokenSame, wechattest.RefreshTokenEmpty, wechattest.RefreshTokenAbsent} {
		t.Run(kind, func(t *testing.T) {
			inWorld(t, func(k *wechattest.Knobs) { k.RefreshToken, k.RefreshTokenGrace = kind, 0 }, func(t *testing.T, w *world) {
				w.ready()
				for range 5 {
					if _, err := w.Refresh(t.Context(), of(alice)); err != nil {
						t.Fatal(err)
					}
					w.live(w.token(of(alice)))
				}
				w.count(pathAuthorizer, 5)
			})
		})
	}
}

// However publishers and events interleave, no reader sees a generation go back.
func TestGenerationsNeverGoBack(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		w.disk.mu.Lock()
		w.disk.delay = time.Millisecond
		w.disk.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var work sync.WaitGroup
		for range 4 {
			work.Go(func() {
				for seen := uint64(0); ctx.Err() == nil; time.Sleep(100 * time.Microsecond) {
					found := w.Find(alice, time.Now())
					if found == nil {
						continue
					}
					if found.Generation < seen {
						t.Errorf("generation %d after %d", found.Generation, seen)
						return
					}
					seen = found.Generation
				}
			})
		}
		for range 3 {
			work.Go(func() {
				for ctx.Err() == nil {
					w.publish(ctx, of(alice))
				}
			})
			work.Go(func() {
				for ctx.Err() == nil {
					w.Refresh(t.Context(), of(alice))
				}
			})
		}
		work.Go(func() {
			for ctx.Err() == nil {
				w.sim.UpdateAuthorize(t.Context(), alice)
				time.Sleep(3 * time.Millisecond)
			}
		})
		work.Wait()
		time.Sleep(time.Second) // until all that was begun has ended
		w.live(w.token(of(alice)))
	})
}

func TestBackoff(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, beijing)
	errcode := func(code int) error { return &wechat.Error{Code: code} }
	down := &wechat.TransportError{Err: errors.New("down")}
	for _, c := range []struct {
		rule     string
		err      error
		failures int
		most     time.Duration // with jitter 0
	}{
		{"first", down, 1, time.Second},
		{"none counted", down, 0, time.Second},
		{"doubles", down, 4, 8 * time.Second},
		{"bounded", down, 10, 5 * time.Minute},
		{"bounded for ever", down, 1 << 40, 5 * time.Minute},
		{"busy", errcode(-1), 3, 4 * time.Second},
		{"operator", errcode(40125), 1, 5 * time.Minute},
		{"not authorized goes to an hour", errcode(61003), 30, time.Hour},
		{"not authorized begins as others", errcode(61003), 1, time.Second},
		{"the store is ours", errDisk, 9, 5 * time.Second},
	} {
		for _, jitter := range []float64{0, 0.5, 0.999999} {
			d := backoff(c.err, c.failures, noon, jitter)
			if d > c.most || d < c.most/2 || jitter == 0 && d != c.most {
				t.Errorf("%s: %s with jitter %v, want %s to %s", c.rule, d, jitter, c.most/2, c.most)
			}
		}
	}
	for _, now := range []time.Time{noon, noon.Add(12*time.Hour - 1), noon.UTC(), noon.In(time.FixedZone("", -8*3600))} {
		wait := backoff(errcode(45009), 1, now, 0)
		if end := now.Add(wait).In(beijing); wait <= 0 || end.Hour() != 0 || end.Minute() != 0 || end.Second() != 0 || end.Day() != 2 {
			t.Errorf("a day's quota used up at %s: until %s", now, end)
		}
		if more := backoff(errcode(45009), 1, now, 0.99) - wait; more <= 0 || more > time.Minute {
			t.Errorf("jitter %s", more)
		}
	}
	if d := backoff(errcode(45011), 5, noon, 0.5); d < time.Minute || d > 70*time.Second {
		t.Errorf("a minute's quota: %s", d)
	}
}

func TestDueAt(t *testing.T) {
	now := time.Unix(1e9, 0)
	f := func(kind Kind, lifetime, ahead time.Duration, jitter float64, want time.Duration) {
		t.Helper()
		if got := now.Add(lifetime).Sub(dueAt(kind, now, now.Add(lifetime), ahead, jitter)); got != want {
			t.Errorf("lifetime %s, ahead %s, jitter %v: %s before the end, want %s", lifetime, ahead, jitter, got, want)
		}
	}
	f(Authorizer, 2*time.Hour, 10*time.Minute, 0, 10*time.Minute)
	f(Authorizer, 2*time.Hour, 10*time.Minute, 1, 450*time.Second)
	f(Authorizer, 2*time.Hour, time.Hour, 0, 40*time.Minute)
	f(Component, 9*time.Minute, 10*time.Minute, 0, 3*time.Minute)
	f(Component, 3*time.Second, 10*time.Minute, 0, time.Second)
	f(Account, 2*time.Hour, 10*time.Minute, 0, accountAhead)
	f(Account, 2*time.Hour, time.Minute, 0, time.Minute)
	f(Account, 2*time.Hour, 10*time.Minute, 1, 210*time.Second)
	f(Account, 5*time.Minute, 10*time.Minute, 0, 100*time.Second)
	f(Authorizer, 0, 10*time.Minute, 0.5, 0)
	f(Authorizer, -time.Hour, 10*time.Minute, 0.5, 0)
	f(Authorizer, 2*time.Hour, -time.Minute, 0.5, 0)
}

func TestTroublesAreBounded(t *testing.T) {
	ts := newTroubles()
	now := time.Now()
	for i := range maxTroubles * 2 {
		ts.failed(of(appID(i)), errDisk, now)
	}
	if len(ts.keys) > maxTroubles {
		t.Errorf("%d keys", len(ts.keys))
	}
	last := of(appID(maxTroubles*2 - 1))
	if _, err := ts.blocked(last, now); err == nil {
		t.Error("the newest is forgotten")
	}
	ts.mended(last)
	if _, err := ts.blocked(last, now); err != nil || ts.keys[last] != nil {
		t.Error("mended, but remembered")
	}
}
