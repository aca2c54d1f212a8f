package tokens

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

const pathList = "/cgi-bin/component/api_get_authorizer_list"

// A store that knows no authorizer is filled from the list as soon as a
// component token can be had, page by page.
func TestEmptyStoreIsFilledFromTheList(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		const authorizers = 1203
		for i := range authorizers {
			w.sim.AddAuthorizer(fmt.Sprintf("wx%016x", 0xe000+i))
		}
		time.Sleep(time.Hour) // no ticket: WeChat is not asked
		w.count(pathList, 0)
		w.count(pathComponent, 0)
		w.ticket()
		time.Sleep(2 * emptyEvery)
		counts, err := w.Counts(t.Context())
		if err != nil || counts.Active != authorizers {
			t.Fatalf("%+v, %v; want %d", counts, err, authorizers)
		}
		w.count(pathList, 3)
		w.live(w.token(of(fmt.Sprintf("wx%016x", 0xe000+authorizers-1))))
		time.Sleep(time.Hour)
		w.count(pathList, 3)
	})
}

func TestFilledStoreIsNotReadAtStart(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		w.restart()
		time.Sleep(time.Hour)
		w.token(of(alice))
		w.count(pathList, 0)
	})
}

// An answer lost on the wire takes a rotated refresh token with it. The list
// gives it back, and the caller notices nothing.
func TestLostRotationIsHealed(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) {
		k.RefreshToken = wechattest.RefreshTokenRotated
		k.RefreshTokenGrace = wechattest.Duration(time.Second)
	}, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultLost, Times: 1})
		w.unavailable(of(alice))
		time.Sleep(time.Minute)
		w.live(w.token(of(alice)))
		w.count(pathList, 1)
		w.state(alice, store.StateActive)
		if len(w.sim.Violations()) != 1 {
			t.Errorf("violations %q", w.sim.Violations())
		}
		w.sim.Reset() // the use of the dead refresh token was to be expected
	})
}

// The answer to api_query_auth is lost, so the code is spent for nothing. The
// list has what it brought.
func TestLostExchangeIsHealed(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		w.sim.AddFault(wechattest.Fault{Path: pathQueryAuth, Kind: wechattest.FaultLost, Times: 1})
		if _, err := w.sim.Authorize(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.live(w.token(of(bob)))
		w.count(pathQueryAuth, 2)
		w.count(pathList, 1)
	})
}

// The list has the refresh token that WeChat refused: it is dead indeed.
func TestDeadRefreshTokenIsSettledByTheList(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultErrcode, Errcode: 61023})
		if err := w.refused(of(alice)); !errors.Is(err, ErrReauthorize) {
			t.Fatal(err)
		}
		w.count(pathList, 1)
		w.count(pathAuthorizer, 1)
		w.state(alice, store.StateReauthorize)
		for range 100 {
			w.refused(of(alice))
			time.Sleep(time.Minute)
		}
		w.count(pathAuthorizer, 1)
	})
}

// 61003 is no proof: an account in the list stays active and backs off, one that
// is not in it has ended its authorization.
func TestNotAuthorizedIsJudgedByTheList(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		fault := w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, AppID: alice, Kind: wechattest.FaultErrcode, Errcode: 61003})
		if u := w.unavailable(of(alice)); u.Code != 61003 {
			t.Errorf("errcode %d", u.Code)
		}
		w.state(alice, store.StateActive)
		w.sim.RemoveFault(fault)
		time.Sleep(time.Hour)
		w.live(w.token(of(alice)))

		// The event that bob ended his authorization was lost.
		w.add(bob)
		w.token(of(bob))
		if _, err := w.sim.Unauthorize(t.Context(), bob, wechattest.WithoutPush()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		if err := w.refused(of(bob)); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
		w.state(bob, store.StateUnauthorized)
	})
}

// Two hundred dead refresh tokens at once, as after a store of last week was
// restored: those that fail together share a reading of the list.
func TestManyDeadRefreshTokensReadTheListTogether(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(50 * time.Millisecond) }, func(t *testing.T, w *world) {
		w.ticket()
		const authorizers = 200
		app := func(i int) string { return fmt.Sprintf("wx%016x", 0xe000+i) }
		for i := range authorizers {
			w.sim.AddAuthorizer(app(i))
			if _, err := w.PutAuthorizer(t.Context(), app(i), secret.New("refreshtoken@@@of-last-week")); err != nil {
				t.Fatal(err)
			}
		}
		var calls sync.WaitGroup
		for i := range authorizers {
			calls.Go(func() { w.Token(t.Context(), of(app(i))) })
		}
		calls.Wait()
		time.Sleep(time.Minute)
		for i := range authorizers {
			w.live(w.token(of(app(i))))
		}
		if n := w.sim.Count(pathList); n > authorizers/10 {
			t.Errorf("the list was read %d times", n)
		}
	})
}

// A list that is shorter than WeChat says it is proves nobody's absence.
func TestShortListSettlesNothing(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(Key{Component, platform})
		for _, answer := range []string{`{"total_count":2,"list":[]}`, `{"errcode":0,"errmsg":"ok"}`, `{}`} {
			short := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == pathList {
					io.WriteString(rw, answer)
					return
				}
				w.sim.ServeHTTP(rw, r)
			})
			conf := w.conf
			conf.Client = wechat.NewClient(inProcess{short}, "https://api.weixin.qq.com", 10*time.Second)
			w.Reconfigure(conf)
			for _, errcode := range []int{61003, 61023} {
				fault := w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultErrcode, Errcode: errcode})
				if u := w.unavailable(of(alice)); u.Code != errcode {
					t.Errorf("%s: errcode %d, want %d", answer, u.Code, errcode)
				}
				w.state(alice, store.StateActive)
				w.sim.RemoveFault(fault)
				time.Sleep(time.Hour)
			}
			w.ticket()
		}
		w.Reconfigure(w.conf)
		w.live(w.token(of(alice)))
	})
}

// While the list cannot be read nothing is settled, and WeChat is not asked for
// it at every call.
func TestListThatCannotBeRead(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultErrcode, Errcode: 61023})
		list := w.sim.AddFault(wechattest.Fault{Path: pathList, Kind: wechattest.FaultStatus, Status: 502})
		for range 600 {
			if u := w.unavailable(of(alice)); u.Code != 61023 {
				t.Fatalf("errcode %d", u.Code)
			}
			time.Sleep(time.Second)
		}
		if n := w.sim.Count(pathList); n < 2 || n > 11 {
			t.Errorf("the list was read %d times in 10 minutes", n)
		}
		w.state(alice, store.StateActive)
		w.sim.RemoveFault(list)
		time.Sleep(time.Hour)
		if err := w.refused(of(alice)); !errors.Is(err, ErrReauthorize) {
			t.Error(err)
		}
	})
}

// A newer local authorization is not overwritten by the list, an older one is.
func TestSyncGoesByAuthTime(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.sim.AddAuthorizer(bob)
		learned, err := w.Sync(t.Context())
		if err != nil || learned != (Learned{Total: 2, Added: 1}) {
			t.Fatalf("%+v, %v", learned, err)
		}
		generation := w.token(of(bob)).Generation
		if learned, err = w.Sync(t.Context()); err != nil || learned != (Learned{Total: 2}) {
			t.Fatalf("%+v, %v", learned, err)
		}
		if got := w.token(of(bob)).Generation; got != generation {
			t.Errorf("generation %d, want %d: a good token was thrown away", got, generation)
		}
		time.Sleep(time.Hour)
		if _, err := w.sim.Reauthorize(t.Context(), bob, wechattest.WithoutPush()); err != nil {
			t.Fatal(err)
		}
		if learned, err = w.Sync(t.Context()); err != nil || learned.Updated+learned.WithoutRefreshToken != 1 {
			t.Fatalf("%+v, %v", learned, err)
		}
	})
}

func TestNextNight(t *testing.T) {
	f := func(now, want string, jitter float64) {
		t.Helper()
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := nextNight(at, jitter).Format(time.RFC3339); got != want {
			t.Errorf("%s: %s, want %s", now, got, want)
		}
	}
	f("2026-11-20T20:00:00+08:00", "2026-11-21T03:00:00+08:00", 0)
	f("2026-11-20T20:00:00+08:00", "2026-11-21T04:00:00+08:00", 0.5)
	f("2026-11-21T02:30:00+08:00", "2026-11-22T03:00:00+08:00", 0)
	f("2026-11-21T03:05:00+08:00", "2026-11-22T04:30:00+08:00", 0.75)
	f("2026-11-20T12:00:00Z", "2026-11-21T03:00:00+08:00", 0)
	f("2026-12-31T20:00:00+08:00", "2027-01-01T03:00:00+08:00", 0)
}

func TestNightlyReading(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		for range 3 * 24 {
			time.Sleep(time.Hour)
			w.ticket()
		}
		synctest.Wait()
		if n := w.sim.Count(pathList); n < 2 || n > 3 {
			t.Errorf("the list was read %d times in three days", n)
		}
	})
}

// The accounts of WeChat's release test stay in the list and fail for ever: that
// costs one call a day, however often a token is asked for.
func TestReleaseTestAccountsCostOneCallADay(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		const tester = "wx570bc396a51b8ff8"
		w.ready()
		w.add(tester)
		w.fail(pathAuthorizer, 61003, 1000)
		for range 3 * 24 * 60 {
			time.Sleep(time.Minute)
			if time.Since(w.clock)%time.Hour < time.Minute {
				w.ticket()
			}
			if u := w.unavailable(of(tester)); u.Code != 61003 {
				t.Fatalf("errcode %d", u.Code)
			}
		}
		if n := w.sim.CountFor(pathAuthorizer, tester); n < 3 || n > 4 {
			t.Errorf("%d calls in three days", n)
		}
		w.state(tester, store.StateActive)
	})
}
