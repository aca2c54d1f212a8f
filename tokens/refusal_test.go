package tokens

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

func latency(d time.Duration) func(*wechattest.Knobs) {
	return func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(d) }
}

func TestManyRefusalsOfOneTokenRefreshOnce(t *testing.T) {
	inWorld(t, latency(100*time.Millisecond), func(t *testing.T, w *world) {
		w.ready()
		old := w.token(of(alice))
		time.Sleep(time.Hour)
		w.sim.RevokeToken(wechattest.KindAuthorizer, alice)
		var calls sync.WaitGroup
		for i := range 500 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // some before, some during, some after
				better, err := w.refuse(old)
				if err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
				if better.Generation == old.Generation {
					t.Errorf("call %d got the refused token", i)
				}
			})
		}
		calls.Wait()
		w.live(w.token(of(alice)))
		w.count(pathAuthorizer, 2)
		if n := w.metric("foreign_refreshes_total", "kind", "authorizer"); n != 0 {
			t.Errorf("%v foreign refreshes counted", n)
		}
		if n := w.metric("token_refreshes_total", "kind", "authorizer", "reason", "rejected", "result", "ok"); n != 1 {
			t.Errorf("%v forced refreshes counted", n)
		}
	})
}

// A token that is refused again and again is replaced ever more rarely, however
// many calls meet it.
func TestForcedRefreshesAreBounded(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		time.Sleep(time.Hour)
		start := time.Now()
		var at []time.Duration
		for time.Since(start) < time.Hour {
			before := w.sim.Count(pathAuthorizer)
			for range 3 {
				if _, err := w.refuse(w.token(of(alice))); err != nil && !errors.Is(err, ErrDeclined) {
					t.Fatal(err)
				}
			}
			if w.sim.Count(pathAuthorizer) > before {
				at = append(at, time.Since(start))
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		// 0, then after 60 s (30 doubled), 120, 240, 480, 600, 600, …
		want := []time.Duration{0, 60, 180, 420, 900, 1500, 2100, 2700, 3300}
		if len(at) != len(want) {
			t.Fatalf("forced at %v", at)
		}
		for i := range want {
			if at[i] != want[i]*time.Second {
				t.Fatalf("forced at %v", at)
			}
		}
		if n := w.metric("foreign_refreshes_total", "kind", "authorizer"); n != 9 {
			t.Errorf("%v foreign refreshes, want one for each young token", n)
		}
	})
}

func TestRefusalDuringARenewalJoinsItAndCountsNothing(t *testing.T) {
	inWorld(t, latency(time.Second), func(t *testing.T, w *world) {
		w.ready()
		old := w.token(of(alice))
		time.Sleep(time.Until(dueOf(old)) + 500*time.Millisecond) // the renewal is under way
		better, err := w.refuse(old)
		if err != nil || better.Generation == old.Generation {
			t.Fatalf("%v %v", better, err)
		}
		w.count(pathAuthorizer, 2)
		if n := w.metric("foreign_refreshes_total", "kind", "authorizer"); n != 0 {
			t.Errorf("%v foreign refreshes", n)
		}
		if n := w.metric("token_refreshes_total", "kind", "authorizer", "reason", "rejected", "result", "ok"); n != 0 {
			t.Errorf("%v forced refreshes", n)
		}
		// The new token's own refusal may force at once: nothing was counted.
		time.Sleep(time.Minute)
		if _, err := w.refuse(better); err != nil {
			t.Error(err)
		}
	})
}

// A refusal of a token that has ended meanwhile is no reason to make anybody
// wait for the interval between forced refreshes.
func TestLateRefusalOfAnExpiredToken(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.AuthorizerTokenLifetime = wechattest.Duration(20 * time.Second) }, func(t *testing.T, w *world) {
		w.ready()
		first := w.token(of(alice))
		second, err := w.refuse(first) // forced
		if err != nil {
			t.Fatal(err)
		}
		id := w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultCut})
		time.Sleep(20 * time.Second)
		w.sim.RemoveFault(id)
		time.Sleep(maxBackoff) // of the failed renewals
		third, err := w.refuse(second)
		if err != nil {
			t.Fatal(err)
		}
		w.live(third)
	})
}

func TestRefusedComponentTokenIsReplacedOnceForAllAuthorizers(t *testing.T) {
	inWorld(t, latency(100*time.Millisecond), func(t *testing.T, w *world) {
		w.ticket()
		for i := range 50 {
			w.add(appID(i))
		}
		w.token(Key{Component, platform})
		w.sim.RevokeToken(wechattest.KindComponent, platform)
		var calls sync.WaitGroup
		for i := range 50 {
			calls.Go(func() { w.live(w.token(of(appID(i)))) })
		}
		calls.Wait()
		w.count(pathComponent, 2)
		w.count(pathAuthorizer, 100)
		if n := w.metric("token_refreshes_total", "kind", "component", "reason", "rejected", "result", "ok"); n != 1 {
			t.Errorf("%v component refreshes", n)
		}
	})
}

// While a refused component token cannot be replaced, an authorizer's calls do
// not ask WeChat again and again; once it is replaced, they work at once.
func TestRefusedComponentTokenThatCannotBeReplaced(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		w.sim.RevokeToken(wechattest.KindComponent, platform)
		w.fail(pathComponent, 45009, 0)
		for range 200 {
			w.unavailable(of(alice))
			time.Sleep(10 * time.Millisecond)
		}
		if n := w.sim.Count(pathAuthorizer); n > 5 {
			t.Errorf("api_authorizer_token was called %d times in 2 s", n)
		}
		w.count(pathComponent, 2)
		w.sim.ClearFaults()
		if _, err := w.Refresh(t.Context(), Key{Component, platform}); err != nil {
			t.Fatal(err)
		}
		w.live(w.token(of(alice)))
	})
}

// 40001 to one authorizer's refreshes must not keep rotating the component's
// token.
func TestSpurious40001OfOneAuthorizer(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.add(bob)
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, AppID: bob, Kind: wechattest.FaultErrcode, Errcode: 40001})
		start := time.Now()
		for time.Since(start) < time.Hour {
			w.unavailable(of(bob))
			w.token(of(alice))
			time.Sleep(time.Second)
		}
		if n := w.sim.Count(pathComponent); n > 15 {
			t.Errorf("%d component tokens in an hour", n)
		}
		if n := w.sim.CountFor(pathAuthorizer, bob); n > 150 {
			t.Errorf("%d calls for bob in an hour", n)
		}
		w.count(pathAuthorizer, w.sim.CountFor(pathAuthorizer, bob)+1)
	})
}

func TestMayForce(t *testing.T) {
	start := time.Unix(1e9, 0)
	var tr trouble
	force := func(at time.Duration, generation uint64, want bool) {
		t.Helper()
		if got := tr.mayForce(generation, start.Add(at*time.Second), 30*time.Second); got != want {
			t.Errorf("generation %d after %d s: %v", generation, at, got)
		}
		if got := tr.forcedAt.Equal(start.Add(at * time.Second)); got != want {
			t.Errorf("generation %d after %d s: noted %v", generation, at, got)
		}
	}
	force(0, 1, true)
	tr.forcedGeneration = 2
	for range 5 {
		force(1, 2, false) // doubles once, to 60 s
	}
	force(59, 2, false)
	force(60, 2, true)
	tr.forcedGeneration = 3
	force(61, 3, false) // 120 s
	force(179, 3, false)
	force(180, 3, true)
	tr.forcedGeneration = 4
	force(200, 5, false) // not what the force brought: back to 30 s, from 180
	force(210, 5, true)
	tr.forcedGeneration = 6
	force(211, 6, false)
	force(270, 6, true)
	tr.forcedGeneration = 7
	force(270+601, 7, true) // served for long: begins anew
	tr.forcedGeneration = 8
	force(872, 8, false)
	force(871+60, 8, true)
}
