package tokens

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat/wechattest"
)

func (w *world) authorize(appID string) {
	w.t.Helper()
	out, err := w.sim.Authorize(w.t.Context(), appID)
	if err != nil || !out.Pushed {
		w.t.Fatal(err, out.PushError)
	}
}

// event stores a push of an InfoType as of a CreateTime.
func (w *world) event(infoType, appID, code string, at time.Time) {
	w.t.Helper()
	if _, err := w.ReceiveEvent(w.t.Context(), pushOf(eventXML(infoType, appID, code, at))); err != nil {
		w.t.Fatal(err)
	}
}

func eventXML(infoType, appID, code string, at time.Time) []byte {
	return fmt.Appendf(nil, "<xml><AppId>%s</AppId><CreateTime>%d</CreateTime><InfoType>%s</InfoType><AuthorizerAppid>%s</AuthorizerAppid>"+
		"<AuthorizationCode>%s</AuthorizationCode><AuthorizationCodeExpiredTime>%d</AuthorizationCodeExpiredTime></xml>",
		platform, at.Unix(), infoType, appID, code, at.Add(time.Hour).Unix())
}

// code is a new authorization's code, whose event is lost.
func (w *world) code(appID string) string {
	w.t.Helper()
	out, err := w.sim.Authorize(w.t.Context(), appID, wechattest.WithoutPush())
	if err != nil {
		w.t.Fatal(err)
	}
	return out.Code
}

func (w *world) noPushes() {
	w.t.Helper()
	if left, err := w.disk.Store.Pushes(w.t.Context(), 0, 10); err != nil || len(left) > 0 {
		w.t.Errorf("%d pushes are left, %v", len(left), err)
	}
}

func TestAuthorizationLife(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.UpdateChangesRefreshToken = true }, func(t *testing.T, w *world) {
		w.ticket()
		if err := w.refused(of(bob)); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		w.authorize(bob)
		synctest.Wait()
		w.live(w.token(of(bob)))
		w.count(pathAuthorizer, 0) // the exchange brought the token
		if n := w.metric("token_refreshes_total", "kind", "authorizer", "reason", "event", "result", "ok"); n != 1 {
			t.Errorf("%v exchanges counted", n)
		}
		if record := w.state(bob, store.StateActive); len(record.Scopes) != 15 {
			t.Errorf("scopes %v", record.Scopes)
		}
		time.Sleep(time.Minute)
		if _, err := w.sim.UpdateAuthorize(t.Context(), bob, wechattest.WithScopes(1, 2)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.live(w.token(of(bob)))
		if record := w.state(bob, store.StateActive); len(record.Scopes) != 2 || record.Token.Generation != 2 {
			t.Errorf("scopes %v, generation %d", record.Scopes, record.Token.Generation)
		}
		time.Sleep(time.Minute)
		if _, err := w.sim.Unauthorize(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := w.refused(of(bob)); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		if w.Find(bob, time.Now()) != nil {
			t.Error("found after unauthorized")
		}
		if record := w.state(bob, store.StateUnauthorized); !record.RefreshToken.Empty() || record.Token.Generation != 3 {
			t.Errorf("%+v", record)
		}
		time.Sleep(time.Minute)
		w.authorize(bob)
		if _, err := w.sim.PushFastRegister(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.live(w.token(of(bob)))
		w.live(w.token(of(alice)))
		w.noPushes()
	})
}

func TestRepeatedAndReorderedEvents(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.PushOrder = wechattest.OrderEventTwice }, func(t *testing.T, w *world) {
		w.ticket()
		w.authorize(bob)
		synctest.Wait()
		w.count(pathQueryAuth, 1)
		at := time.Now().Add(time.Minute)
		time.Sleep(2 * time.Minute)
		code := w.code(bob)
		w.event("authorized", bob, code, at.Add(time.Second))
		synctest.Wait()
		w.count(pathQueryAuth, 2)
		w.event("unauthorized", bob, "", at) // late
		w.event("authorized", bob, "older", at)
		synctest.Wait()
		w.state(bob, store.StateActive)
		w.count(pathQueryAuth, 2)
		w.event("unauthorized", bob, "", at.Add(time.Second)) // of the same second: the one that comes last
		synctest.Wait()
		w.state(bob, store.StateUnauthorized)
		w.event("authorized", bob, w.code(bob), at.Add(time.Second))
		synctest.Wait()
		w.live(w.token(of(bob)))
		// A CreateTime in the far future shuts out nothing for long.
		w.event("unauthorized", bob, "", at.Add(10000*time.Hour))
		synctest.Wait()
		w.state(bob, store.StateUnauthorized)
		time.Sleep(maxEventAhead + time.Minute)
		w.event("authorized", bob, w.code(bob), time.Now())
		synctest.Wait()
		w.live(w.token(of(bob)))
		w.noPushes()
		// An unauthorized whose authorized comes late.
		w.event("unauthorized", alice, "", time.Now())
		synctest.Wait()
		w.event("authorized", alice, w.code(alice), time.Now().Add(-time.Minute))
		synctest.Wait()
		w.state(alice, store.StateUnauthorized)
	})
}

// An event and a refresh of the same authorizer, whichever WeChat sees first.
func TestReauthorizationWhileARefreshIsInFlight(t *testing.T) {
	for _, refusedFirst := range []bool{false, true} {
		t.Run(fmt.Sprint(refusedFirst), func(t *testing.T) {
			inWorld(t, func(k *wechattest.Knobs) { k.RefreshTokenGrace = wechattest.Duration(time.Hour) }, func(t *testing.T, w *world) {
				w.ready()
				w.token(Key{Component, platform})
				w.sim.AddFault(wechattest.Fault{
					Path: pathAuthorizer, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(2 * time.Second), AfterEffect: !refusedFirst,
				})
				if refusedFirst { // by the time the answer comes, the event has been applied
					w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultErrcode, Errcode: 61023})
				}
				got := w.later(of(alice))
				time.Sleep(time.Second)
				w.authorize(alice)
				synctest.Wait()
				w.live(w.token(of(alice)))
				w.live(got())
				record := w.state(alice, store.StateActive)
				want := uint64(3) // refreshed once more, since WeChat's order is not known
				if refusedFirst {
					want = 2
				}
				if record.Token.Generation != want {
					t.Errorf("generation %d", record.Token.Generation)
				}
				w.sim.ClearFaults()
				if _, err := w.Refresh(t.Context(), of(alice)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestUnauthorizedWhileARefreshIsInFlight(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(3 * time.Second), AfterEffect: true})
		got := make(chan error, 1)
		go func() { _, err := w.Token(t.Context(), of(alice)); got <- err }()
		time.Sleep(time.Second)
		w.sim.Unauthorize(t.Context(), alice)
		if err := <-got; !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		w.state(alice, store.StateUnauthorized)
		if w.Find(alice, time.Now()) != nil {
			t.Error("found")
		}
	})
}

// A new refresh token given by hand while a refresh with the old one is in
// flight.
func TestPutAuthorizerWhileARefreshIsInFlight(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(time.Second), AfterEffect: true, Times: 1})
		got := w.later(of(alice))
		time.Sleep(time.Second / 2)
		w.add(alice)
		w.live(got())
		w.state(alice, store.StateActive)
	})
}

func TestCodesThatCannotBeExchanged(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		w.event("authorized", alice, "queryauthcode@@@wrong", time.Now())
		synctest.Wait()
		w.count(pathQueryAuth, 1)
		w.state(alice, store.StateActive)
		w.noPushes()
		out, err := w.sim.Authorize(t.Context(), bob, wechattest.WithPushDelay(2*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		_ = out
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		w.count(pathQueryAuth, 2)
		w.noPushes()
		// alice works all the same, as the list says; bob's code was never spent, so
		// that even the list has no refresh token.
		if n := w.metric("pushes_total", "info_type", "authorized", "result", "error"); n != 1 {
			t.Errorf("%v errors counted", n)
		}
		w.event("notify_third_fasteregister", bob, "", time.Now()) // of a failed registration
		w.event("never_heard_of", bob, "", time.Now())
		synctest.Wait()
		w.count(pathQueryAuth, 2)
		w.noPushes()
	})
}

func TestExchangeOutlastsAnOutage(t *testing.T) {
	for _, outage := range []time.Duration{10 * time.Second, 50 * time.Minute, 2 * time.Hour} {
		t.Run(outage.String(), func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world) {
				w.ticket()
				w.sim.AddFault(wechattest.Fault{Path: "/cgi-bin/component/*", Kind: wechattest.FaultCut, For: wechattest.Duration(outage)})
				w.authorize(bob)
				time.Sleep(outage + 6*time.Minute)
				synctest.Wait()
				if outage < time.Hour {
					w.live(w.token(of(bob)))
				} else if err := w.refused(of(bob)); !errors.Is(err, ErrUnknown) {
					t.Error(err)
				}
				w.noPushes()
				if n := w.sim.Count(pathQueryAuth) + w.sim.Count(pathComponent); n > 100 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

func TestExchangeIsAbandonedForANewerEvent(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		w.fail(pathQueryAuth, -1, 0)
		w.event("authorized", bob, w.code(bob), time.Now())
		time.Sleep(10 * time.Minute)
		n := w.sim.Count(pathQueryAuth)
		w.event("notify_3rd_wxa_auth", bob, "", time.Now()) // decides nothing
		w.event("unauthorized", bob, "", time.Now().Add(-time.Hour))
		synctest.Wait()
		if left, _ := w.disk.Pushes(t.Context(), 0, 10); len(left) != 3 {
			t.Errorf("%d pushes left", len(left))
		}
		w.event("unauthorized", bob, "", time.Now())
		synctest.Wait()
		w.state(bob, store.StateUnauthorized)
		w.count(pathQueryAuth, n)
		w.noPushes()
		if n := w.metric("pushes_total", "info_type", "authorized", "result", "superseded"); n != 1 {
			t.Errorf("%v superseded", n)
		}
	})
}

// However many authorizers' exchanges fail, another's is done at once.
func TestOneAuthorizersTroubleDoesNotHoldUpOthers(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		for i := range 3 * maxWorkers {
			w.sim.AddFault(wechattest.Fault{Path: pathQueryAuth, Kind: wechattest.FaultErrcode, Errcode: -1, Times: 8})
			w.event("authorized", appID(i), w.code(appID(i)), time.Now())
		}
		time.Sleep(time.Minute)
		w.sim.ClearFaults()
		before := time.Now()
		w.authorize(bob)
		synctest.Wait()
		w.live(w.token(of(bob)))
		if time.Since(before) != 0 {
			t.Errorf("took %s", time.Since(before))
		}
		time.Sleep(2 * maxExchangeBackoff)
		for i := range 3 * maxWorkers {
			w.token(of(appID(i)))
		}
		w.noPushes()
	})
}

func TestPushesOfAFormerRun(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		w.stop()
		const n = 2*eventPage + 17
		for i := range n {
			w.event("authorized", appID(i), w.code(appID(i)), time.Now())
		}
		// One of them was exchanged before the process went, but not forgotten.
		message := eventXML("authorized", bob, w.code(bob), time.Now())
		w.ReceiveEvent(t.Context(), pushOf(message))
		w.restart()
		synctest.Wait()
		w.count(pathQueryAuth, n+1)
		w.noPushes()
		before := w.state(bob, store.StateActive)
		w.ReceiveEvent(t.Context(), pushOf(message))
		synctest.Wait()
		w.count(pathQueryAuth, n+1)
		if after := w.state(bob, store.StateActive); after.Token.Generation != before.Token.Generation {
			t.Error("a repeat changed the token")
		}
		for i := range n {
			w.token(of(appID(i)))
		}
		w.count(pathAuthorizer, 0)
	})
}

// A stop in the middle of an exchange waits for the answer, which cannot be had
// again.
func TestStopDuringAnExchange(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		w.token(Key{Component, platform})
		w.sim.AddFault(wechattest.Fault{Path: pathQueryAuth, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(3 * time.Second), AfterEffect: true})
		w.authorize(bob)
		time.Sleep(time.Second)
		w.restart()
		synctest.Wait()
		w.live(w.token(of(bob)))
		w.count(pathQueryAuth, 1)
		w.noPushes()
	})
}

func TestStoreFailsWhileEventsAreWorkedOn(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		w.token(Key{Component, platform})
		w.disk.set(nil, errDisk)
		w.authorize(bob) // stored by AddPush, exchanged, not saved
		w.event("unauthorized", alice, "", time.Now())
		time.Sleep(time.Minute)
		w.count(pathQueryAuth, 1)
		w.disk.set(errDisk, errDisk)
		time.Sleep(time.Minute)
		w.authorize(appID(1))
		time.Sleep(time.Minute)
		w.disk.set(nil, nil)
		time.Sleep(time.Minute)
		w.live(w.token(of(bob)))
		w.live(w.token(of(appID(1))))
		w.state(alice, store.StateUnauthorized)
		w.count(pathQueryAuth, 2)
		w.noPushes()
	})
}

func TestUnreadablePushesAreDropped(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		for i := range eventPage + 1 {
			w.ReceiveEvent(t.Context(), pushOf([]byte("no xml "+strconv.Itoa(i))))
		}
		w.authorize(bob)
		synctest.Wait()
		w.live(w.token(of(bob)))
		w.noPushes()
		w.event("unauthorized", "", "", time.Now())
		synctest.Wait()
		w.noPushes()
	})
}

func TestAccountWithoutAPI(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		if _, err := w.sim.Authorize(t.Context(), bob, wechattest.WithoutAPI()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := w.refused(of(bob)); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		w.count(pathAuthorizer, 0)
	})
}

// Between the last push of an authorizer and the end of its queue another may
// come.
func TestQueueOfEvents(t *testing.T) {
	e := newEvents()
	e.add(alice, pending{seq: 1, at: time.Unix(10, 0), decides: true})
	if got, ok := e.take(); got != alice || !ok {
		t.Fatal(got, ok)
	}
	e.first(alice)
	e.done(alice)
	e.add(alice, pending{seq: 2, at: time.Unix(20, 0), decides: true})
	if _, ok := e.take(); ok {
		t.Error("two workers for one authorizer")
	}
	if seq, _, _, ok := e.first(alice); seq != 2 || !ok {
		t.Error(seq, ok)
	}
	e.done(alice)
	if _, _, _, ok := e.first(alice); ok || len(e.queues) != 0 {
		t.Error("the queue stays")
	}
	e.add(alice, pending{seq: 3})
	if got, ok := e.take(); got != alice || !ok {
		t.Error(got, ok)
	}
}

func TestCodeDeadline(t *testing.T) {
	now := time.Unix(1e9, 0)
	f := func(told time.Time, want time.Duration) {
		t.Helper()
		if got := codeDeadline(told, now).Sub(now); got != want {
			t.Errorf("told %s: %s", told.Sub(now), got)
		}
	}
	f(time.Time{}, codeLifetime)
	f(now.Add(-1), codeLifetime)
	f(now, 0)
	f(now.Add(10*time.Minute), 10*time.Minute)
	f(now.Add(maxCodeLifetime), maxCodeLifetime)
	f(now.Add(1000*time.Hour), maxCodeLifetime)
}

func TestStaleEvents(t *testing.T) {
	now := time.Unix(1e9, 0)
	record := store.Authorizer{EventAt: now, EventDigest: "d"}
	f := func(record store.Authorizer, at time.Time, digest, want string) {
		t.Helper()
		if got := stale(record, at, digest); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	f(record, now, "d", "repeat")
	f(record, now.Add(time.Second), "d", "repeat")
	f(record, now, "e", "")
	f(record, now.Add(time.Second), "e", "")
	f(record, now.Add(-time.Second), "e", "superseded")
	f(store.Authorizer{}, time.Time{}, "e", "")
	f(store.Authorizer{}, now, "", "")
}
