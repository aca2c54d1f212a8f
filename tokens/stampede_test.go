package tokens

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/wechat/wechattest"
)

func TestColdStartAsksOncePerCredential(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(100 * time.Millisecond) }, func(t *testing.T, w *world) {
		for i := range 200 {
			w.add(appID(i))
		}
		w.ticket()
		var calls sync.WaitGroup
		for i := range 2000 {
			calls.Go(func() { w.live(w.token(of(appID(i % 200)))) })
		}
		calls.Wait()
		w.count(pathComponent, 1)
		w.count(pathAuthorizer, 200)
		for i := range 200 {
			if n := w.sim.CountFor(pathAuthorizer, appID(i)); n != 1 {
				t.Fatalf("%s was refreshed %d times", appID(i), n)
			}
		}
		if n := w.metric("token_refreshes_total", "kind", "authorizer", "reason", "missing", "result", "ok"); n != 200 {
			t.Errorf("%v refreshes counted", n)
		}
	})
}

// Under constant load there is one refresh a lifetime, ahead of the end, and
// nobody waits or meets a dead token.
func TestLoadOverLifetimes(t *testing.T) {
	for _, lifetime := range []time.Duration{3 * time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, 2 * time.Hour} {
		for _, overlap := range []time.Duration{0, 300 * time.Second} {
			t.Run(fmt.Sprintf("%s overlap %s", lifetime, overlap), func(t *testing.T) {
				inWorld(t, func(k *wechattest.Knobs) {
					k.ComponentTokenLifetime, k.AuthorizerTokenLifetime = wechattest.Duration(lifetime), wechattest.Duration(lifetime)
					k.AccountTokenLifetime = wechattest.Duration(lifetime)
					k.ComponentOverlap, k.AuthorizerOverlap = wechattest.Duration(overlap), wechattest.Duration(overlap)
				}, func(t *testing.T, w *world) {
					w.ready()
					keys := []Key{of(alice), {Component, platform}}
					if lifetime > time.Hour {
						keys = append(keys, Key{Account, direct})
					}
					for _, key := range keys {
						w.token(key)
					}
					const lifetimes = 20
					step := lifetime / 97
					for i := range lifetimes * 97 {
						time.Sleep(step)
						if i%97 == 0 {
							w.ticket()
						}
						synctest.Wait()
						for _, key := range keys {
							before := time.Now()
							token := w.token(key)
							if time.Since(before) > 0 {
								t.Fatalf("%s: waited %s", key, time.Since(before))
							}
							w.live(token)
						}
					}
					paths := map[Kind]string{Component: pathComponent, Authorizer: pathAuthorizer, Account: pathStable}
					for _, key := range keys {
						path := paths[key.Kind]
						// Ahead by up to a third of the life.
						if n := w.sim.Count(path); n < lifetimes || n > lifetimes*3/2+1 {
							t.Errorf("%s was called %d times in %d lifetimes", path, n, lifetimes)
						}
					}
				})
			})
		}
	}
}

func TestUsedTokenIsRenewedWithoutACallInTheWindowAndIdleOnesAreNot(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.add(bob)
		first := w.token(of(alice))
		time.Sleep(time.Until(first.ExpiresAt()) - time.Minute)
		synctest.Wait()
		w.count(pathAuthorizer, 1+1)
		if now := w.Find(alice, time.Now()); now == nil || now.Generation == first.Generation {
			t.Fatal("not renewed")
		}
		w.live(w.token(of(alice)))
		// Used again just now: once more it is renewed; then nobody uses it.
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		w.count(pathAuthorizer, 3)
		if n := w.sim.CountFor(pathAuthorizer, bob); n != 0 {
			t.Errorf("bob was refreshed %d times", n)
		}
	})
}

// A renewal that failed is tried again though no call comes.
func TestFailedRenewalIsTriedAgainWithoutCalls(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		first := w.token(of(alice))
		time.Sleep(time.Until(dueOf(first)) - time.Second)
		w.fail(pathAuthorizer, -1, 3)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.count(pathAuthorizer, 1+4)
		if now := w.token(of(alice)); now.Generation == first.Generation {
			t.Error("not renewed")
		}
	})
}

func TestTokensObtainedTogetherAreNotRenewedTogether(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		const n = 1000
		for i := range n {
			w.add(appID(i))
		}
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() { w.token(of(appID(i))) })
		}
		calls.Wait()
		start := time.Now()
		time.Sleep(2*time.Hour - time.Minute)
		synctest.Wait()
		var at []time.Duration
		for _, call := range w.sim.CallsTo(pathAuthorizer) {
			if call.Time.After(start) {
				at = append(at, call.Time.Sub(start))
			}
		}
		if len(at) != n {
			t.Fatalf("%d renewals", len(at))
		}
		slices.Sort(at)
		if spread := at[n-1] - at[0]; spread < 2*time.Minute {
			t.Errorf("spread over %s only", spread)
		}
		if busiest := busiestSecond(at); busiest > 40 {
			t.Errorf("%d renewals in one second", busiest)
		}
	})
}

func busiestSecond(at []time.Duration) (most int) {
	perSecond := map[int]int{}
	for _, d := range at {
		perSecond[int(d.Seconds())]++
		most = max(most, perSecond[int(d.Seconds())])
	}
	return most
}

func TestNeverAnExpiredToken(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		first := w.token(of(alice))
		for _, edge := range []struct {
			at     time.Duration
			usable bool
		}{{-1, true}, {0, false}, {1, false}} {
			now := first.ExpiresAt().Add(edge.at)
			if first.Usable(now) != edge.usable {
				t.Errorf("usable at %d ns from the end: %v", edge.at, !edge.usable)
			}
			w.stopRenewals()
			if got := w.Find(alice, now); (got != nil) != edge.usable {
				t.Errorf("found at %d ns from the end: %v", edge.at, got != nil)
			}
		}
	})
}

// stopRenewals keeps due tokens from being renewed.
func (w *world) stopRenewals() {
	w.sim.AddFault(wechattest.Fault{Path: "*", Kind: wechattest.FaultCut})
}

// With WeChat down, the token serves to its last nanosecond and no longer.
func TestExpiredTokenIsNotServedWhileWeChatIsDown(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		first := w.token(of(alice))
		w.stopRenewals()
		time.Sleep(time.Until(first.ExpiresAt()) - 1)
		if got := w.token(of(alice)); got.Generation != first.Generation {
			t.Error("another token while WeChat is down")
		}
		time.Sleep(time.Nanosecond)
		w.unavailable(of(alice))
		if w.Find(alice, time.Now()) != nil {
			t.Error("expired token found")
		}
		w.sim.ClearFaults()
		time.Sleep(maxBackoff)
		w.live(w.token(of(alice)))
	})
}

func TestRestartUsesStoredTokens(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		before := []*Token{w.token(of(alice)), w.token(Key{Account, direct}), w.token(Key{Component, platform})}
		w.restart()
		for _, old := range before {
			if now := w.token(old.Key()); now.Generation != old.Generation || !now.Value().Equal(old.Value()) {
				t.Errorf("%s: another token after the restart", old.Key())
			}
		}
		w.count(pathAuthorizer, 1)
		w.count(pathComponent, 1)
		w.count(pathStable, 1)
		if n := w.metric("token_lookups_total", "kind", "authorizer", "source", "store"); n != 1 {
			t.Errorf("%v look-ups from the store", n)
		}
	})
}

func TestAfterCloseCallsFailCleanly(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.add(bob)
		first := w.token(of(alice))
		w.stop()
		if w.Find(alice, time.Now()) != nil || w.FindComponent(time.Now()) != nil {
			t.Error("memory has tokens after Close")
		}
		w.unavailable(of(bob))
		if _, err := w.Refresh(t.Context(), of(alice)); err == nil {
			t.Error("refreshed after Close")
		}
		if _, err := w.refuse(first); err == nil {
			t.Error("replaced after Close")
		}
		w.Reconfigure(w.conf)
		w.Close(t.Context())
	})
}

func TestCloseWaitsForAFlightToPersist(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.RefreshToken = wechattest.RefreshTokenRotated }, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(4 * time.Second), AfterEffect: true})
		go w.Token(t.Context(), of(alice))
		time.Sleep(time.Second)
		w.stop()
		if record := w.state(alice, "active"); record.Token.Generation != 2 || record.Token.Value.Empty() {
			t.Errorf("generation %d after Close", record.Token.Generation)
		}
	})
}

func TestReconfigure(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		w.token(Key{Account, direct2})
		w.sim.SetComponentAppSecret("another-secret-0123456789abcdef")
		w.sim.RevokeToken(wechattest.KindComponent, platform)
		// A flight that ends with the old secret after the change is no failure
		// of the new one.
		w.sim.AddFault(wechattest.Fault{Path: pathComponent, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(2 * time.Second), AfterEffect: true, Times: 1})
		done := make(chan error, 1)
		go func() {
			_, err := w.Refresh(t.Context(), Key{Component, platform})
			done <- err
		}()
		time.Sleep(time.Second)
		changed := w.conf
		changed.Component = &ComponentConfig{AppID: platform, AppSecret: secret.New("another-secret-0123456789abcdef")}
		changed.Accounts = map[string]secret.String{direct: w.conf.Accounts[direct]}
		w.Reconfigure(changed)
		if err := <-done; err != nil {
			t.Errorf("the flight failed: %v", err)
		}
		w.live(w.token(Key{Component, platform}))
		if err := w.refused(Key{Account, direct2}); !errors.Is(err, ErrUnknown) {
			t.Errorf("removed account: %v", err)
		}
		if w.Find(direct2, time.Now()) != nil {
			t.Error("removed account is found in memory")
		}
		other := changed
		other.Component = &ComponentConfig{AppID: "wx00000000000000ff", AppSecret: secret.New("x")}
		w.Reconfigure(other)
		if err := w.refused(Key{Component, platform}); !errors.Is(err, ErrNoComponent) {
			t.Errorf("former platform: %v", err)
		}
		if w.FindComponent(time.Now()) != nil {
			t.Error("the former platform's token is found")
		}
	})
}

// An app id that is both is served as what the configuration says.
func TestDirectAccountThatIsAnAuthorizerToo(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		w.add(direct)
		w.token(Key{Account, direct})
		w.token(of(direct))
		if found := w.Find(direct, time.Now()); found == nil || found.Kind() != Account {
			t.Errorf("found %+v", found)
		}
	})
}

// Calls go on while the configuration is taken over again and again.
func TestReconfigureUnderLoad(t *testing.T) {
	inWorld(t, latency(time.Millisecond), func(t *testing.T, w *world) {
		w.ready()
		var calls sync.WaitGroup
		for i := range 8 {
			calls.Go(func() {
				for range 200 {
					w.live(w.token([]Key{of(alice), {Account, direct}, {Component, platform}}[i%3]))
					w.Find(alice, time.Now())
					time.Sleep(time.Millisecond)
				}
			})
		}
		for range 50 {
			conf := w.conf
			w.Reconfigure(conf)
			time.Sleep(3 * time.Millisecond)
		}
		calls.Wait()
		w.count(pathComponent, 1)
		w.count(pathAuthorizer, 1)
	})
}
