package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

const (
	pathPreAuthCode = "/cgi-bin/component/api_create_preauthcode"
	pathInfo        = "/cgi-bin/component/api_get_authorizer_info"
)

// preAuthCode is a fresh one of the Service's.
func (w *world) preAuthCode() secret.String {
	w.t.Helper()
	code, expiresIn, err := w.PreAuthCode(w.t.Context())
	if err != nil || code.Empty() || expiresIn <= 0 {
		w.t.Fatalf("%v, for %s", err, expiresIn)
	}
	return code
}

// follow has appID authorize the platform by a link.
func (w *world) follow(appID string, preAuthCode secret.String, options ...wechattest.AuthorizeOption) wechattest.Authorization {
	w.t.Helper()
	out, err := w.sim.Authorize(w.t.Context(), appID, append(options, wechattest.WithPreAuthCode(preAuthCode.Reveal()))...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func isSpent(err error) bool {
	e, ok := errors.AsType[*wechat.Error](err)
	return ok && e.Class() == wechat.ClassCode
}

func isLost(err error) bool {
	_, ok := errors.AsType[*wechat.TransportError](err)
	return ok
}

func TestPreAuthCodeIsNeverGivenTwice(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(50 * time.Millisecond) }, func(t *testing.T, w *world) {
		if _, _, err := w.PreAuthCode(t.Context()); !NoTicket(err) || StoreDown(err) {
			t.Errorf("without a ticket: %v", err)
		}
		w.ticket()
		var mu sync.Mutex
		var asking sync.WaitGroup
		seen := map[string]bool{}
		for range 20 {
			asking.Go(func() {
				code := w.preAuthCode().Reveal()
				mu.Lock()
				defer mu.Unlock()
				if seen[code] {
					t.Error("two visitors were given one code")
				}
				seen[code] = true
			})
		}
		asking.Wait()
		w.count(pathPreAuthCode, 20)
		w.fail(pathPreAuthCode, 42001, 1) // the platform's token is not accepted
		w.preAuthCode()
		w.fail(pathPreAuthCode, 45009, 1)
		if _, _, err := w.PreAuthCode(t.Context()); classOf(err) != wechat.ClassDailyQuota {
			t.Errorf("%v", err)
		}
		config := w.conf
		config.Component = nil
		w.Reconfigure(config)
		if _, _, err := w.PreAuthCode(t.Context()); !errors.Is(err, ErrNoComponent) {
			t.Errorf("without a platform: %v", err)
		}
		config = w.conf
		config.Follower = true
		w.Reconfigure(config)
		if _, _, err := w.PreAuthCode(t.Context()); !errors.Is(err, ErrFollower) {
			t.Errorf("of a follower: %v", err)
		}
		if _, err := w.Authorize(t.Context(), secret.New("queryauthcode@@@x"), ""); !errors.Is(err, ErrFollower) {
			t.Errorf("of a follower: %v", err)
		}
	})
}

// Whatever comes first, twice, late or never, the account is usable in the end,
// and the visitor is told which it was, or that it is not known.
func TestPushAndVisitInEveryOrder(t *testing.T) {
	const (
		none       = "no"
		beforeBoth = "the visit"
		between    = "both"
	)
	for _, order := range []string{wechattest.OrderEventFirst, wechattest.OrderRedirectFirst, wechattest.OrderEventLate, wechattest.OrderEventTwice, wechattest.OrderEventLost} {
		for _, codes := range []string{wechattest.CodeSame, wechattest.CodeDifferent} {
			for _, lost := range []int{0, 1, 2} {
				for _, at := range []time.Duration{0, 100 * time.Millisecond, 20 * time.Second} {
					for _, restart := range []string{none, beforeBoth, between} {
						rule := fmt.Sprintf("%s, %s codes, %d answers lost, visit after %s, restart before %s", order, codes, lost, at, restart)
						inWorld(t, func(k *wechattest.Knobs) {
							k.PushOrder, k.RedirectCode = order, codes
							k.TokenLatency = wechattest.Duration(50 * time.Millisecond)
						}, func(t *testing.T, w *world) {
							w.ticket()
							code := w.preAuthCode()
							if lost > 0 {
								w.sim.AddFault(wechattest.Fault{Path: pathQueryAuth, Kind: wechattest.FaultLost, Times: lost})
							}
							out := w.follow(bob, code)
							time.Sleep(at)
							if restart == beforeBoth {
								w.restart()
							}
							// Long enough ago to have been worked on.
							pushed := at > time.Second && order != wechattest.OrderEventLate && order != wechattest.OrderEventLost
							got, err := w.Authorize(t.Context(), secret.New(out.Code), LinkOf(code))
							if restart == between {
								w.restart()
							}
							time.Sleep(2 * time.Minute)
							w.noPushes()
							if isLost(err) && lost == visitorTries { // the page says to try again
								got, err = w.Authorize(t.Context(), secret.New(out.Code), LinkOf(code))
								if order == wechattest.OrderEventLost && restart == between && isSpent(err) {
									return // nobody knows that an answer was lost: it says to authorize again
								}
							}
							w.live(w.token(of(bob)))
							switch {
							case err == nil && (got.AppID != bob || len(got.Scopes) != 15 || got.Name == ""):
								t.Errorf("%s: %+v", rule, got)
							case err == nil:
							case !isSpent(err):
								t.Errorf("%s: %v", rule, err)
							case lost == 0 && !pushed && !out.Pushed:
								t.Errorf("%s: nothing came between, but %v", rule, err)
							case pushed && restart != beforeBoth:
								t.Errorf("%s: the push has told whose link it was, but %v", rule, err)
							}
							// Asked again, it is the same account, and WeChat is not asked twice.
							if err == nil && restart == none {
								calls := w.sim.Count(pathQueryAuth)
								if again, err := w.Authorize(t.Context(), secret.New(out.Code), LinkOf(code)); err != nil || again.AppID != bob {
									t.Errorf("%s: again: %v", rule, err)
								}
								if lost == 0 && codes == wechattest.CodeSame {
									w.count(pathQueryAuth, calls)
								}
							}
						})
					}
				}
			}
		}
	}
}

// A visit that comes while the push is being worked on shares its exchange.
func TestVisitAndPushExchangeOnce(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(time.Second) }, func(t *testing.T, w *world) {
		w.ticket()
		code := w.preAuthCode()
		out := w.follow(bob, code)
		var visits sync.WaitGroup
		for range 10 {
			visits.Go(func() {
				if got, err := w.Authorize(t.Context(), secret.New(out.Code), LinkOf(code)); err != nil || got.AppID != bob {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		visits.Wait()
		w.count(pathQueryAuth, 1)
		w.live(w.token(of(bob)))
	})
}

// Of the codes of one authorization either spends both. The visitor's link tells
// whose it was; without it, nobody is named.
func TestLinkTellsTheAccount(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.RedirectCode = wechattest.CodeDifferent }, func(t *testing.T, w *world) {
		w.ticket()
		w.follow(alice, w.preAuthCode()) // another merchant at the same time
		code := w.preAuthCode()
		out := w.follow(bob, code)
		synctest.Wait()
		began := time.Now()
		if _, err := w.Authorize(t.Context(), secret.New(out.Code), ""); !isSpent(err) || time.Since(began) >= linkWait {
			t.Errorf("without a link: %v after %s", err, time.Since(began))
		}
		if _, err := w.Authorize(t.Context(), secret.New(out.Code), LinkOf(w.preAuthCode())); !isSpent(err) {
			t.Errorf("by a link that nobody followed: %v", err)
		}
		got, err := w.Authorize(t.Context(), secret.New(out.Code), LinkOf(code))
		if err != nil || got.AppID != bob {
			t.Fatalf("%+v, %v", got, err)
		}
		// A code made up from what the link shows is no code.
		for _, forged := range []string{"link/" + string(LinkOf(code)), string(LinkOf(code)), code.Reveal()} {
			if _, err := w.Authorize(t.Context(), secret.New(forged), ""); !isSpent(err) {
				t.Errorf("forged: %v", err)
			}
		}
		// What has ended since is not shown as authorized.
		time.Sleep(time.Minute)
		if _, err := w.sim.Unauthorize(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := w.Authorize(t.Context(), secret.New(out.Code), LinkOf(code)); !errors.Is(err, ErrReauthorize) {
			t.Errorf("after unauthorized: %v", err)
		}
	})
}

// Neither the push nor the answer has come, but the account is in WeChat's list.
func TestLostAnswerIsMadeUpFromTheList(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.sim.AddFault(wechattest.Fault{Path: pathQueryAuth, Kind: wechattest.FaultLost, Times: 1})
		out := w.follow(bob, w.preAuthCode(), wechattest.WithoutPush())
		if _, err := w.Authorize(t.Context(), secret.New(out.Code), ""); !isSpent(err) {
			t.Errorf("%v", err)
		}
		w.count(pathList, 1)
		w.live(w.token(of(bob)))
		// A stranger's bad codes do not have the list read.
		for i := range 5 {
			if _, err := w.Authorize(t.Context(), secret.New(fmt.Sprintf("queryauthcode@@@%d", i)), ""); !isSpent(err) {
				t.Errorf("%v", err)
			}
		}
		w.count(pathList, 1)
	})
}

func TestVisitsThatMaySucceedLater(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		if _, err := w.Authorize(t.Context(), secret.New("queryauthcode@@@x"), ""); !NoTicket(err) {
			t.Errorf("without a ticket: %v", err)
		}
		w.ticket()
		w.token(Key{Component, platform})
		out := w.follow(bob, w.preAuthCode(), wechattest.WithoutPush())
		code := secret.New(out.Code)
		w.sim.AddFault(wechattest.Fault{Path: pathQueryAuth, Kind: wechattest.FaultCut, Times: visitorTries})
		if _, err := w.Authorize(t.Context(), code, ""); !isLost(err) {
			t.Errorf("WeChat does not answer: %v", err)
		}
		w.fail(pathQueryAuth, -1, 1) // is tried again at once
		w.sim.AddFault(wechattest.Fault{Path: pathInfo, Kind: wechattest.FaultStatus, Times: 1})
		got, err := w.Authorize(t.Context(), code, "")
		if err != nil || got.AppID != bob || got.Name != "" {
			t.Errorf("%+v, %v", got, err)
		}
		got, err = w.Authorize(t.Context(), code, "")
		if err != nil || got.Name == "" {
			t.Errorf("%+v, %v", got, err)
		}
		calls := w.sim.Count(pathInfo)
		w.disk.set(errDisk, nil)
		if _, err := w.Authorize(t.Context(), code, ""); !StoreDown(err) || NoTicket(err) {
			t.Errorf("%v", err)
		}
		w.disk.set(nil, nil)
		if got, err := w.Authorize(t.Context(), code, ""); err != nil || got.Name == "" {
			t.Errorf("%+v, %v", got, err)
		}
		w.count(pathInfo, calls)
		w.live(w.token(of(bob)))
	})
}

// The answer to the push's code is late: the visitor waits for it, but not for ever.
func TestVisitorWaitsForThePush(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ticket()
		code := w.preAuthCode()
		spent := secret.New("queryauthcode@@@spent")
		w.fail(pathQueryAuth, 61010, 2)
		began := time.Now()
		if _, err := w.Authorize(t.Context(), spent, LinkOf(code)); !isSpent(err) || time.Since(began) < linkWait || time.Since(began) > linkWait+time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		w.add(bob)
		began = time.Now()
		time.AfterFunc(linkWait/2, func() { w.noteLink(code, bob) })
		if got, err := w.Authorize(t.Context(), spent, LinkOf(code)); err != nil || got.AppID != bob || time.Since(began) > linkWait {
			t.Errorf("%+v, %v after %s", got, err, time.Since(began))
		}
	})
}

func TestStoreDown(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{&Unavailable{Err: errDisk}, true},
		{fmt.Errorf("op: %w", &Unavailable{Err: errDisk}), true},
		{&Unavailable{Err: &wechat.Error{Code: -1}}, false},
		{&Unavailable{Err: &wechat.TransportError{Err: errDisk}}, false},
		{&Unavailable{}, false},
		{ErrWait, false},
		{nil, false},
	} {
		if got := StoreDown(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// The push reaches one sidecar, the visitor another; so do two visits of one code.
func TestFleetTellsVisitors(t *testing.T) {
	inFleet(t, 3, func(k *wechattest.Knobs) { k.RedirectCode = wechattest.CodeDifferent }, func(t *testing.T, f *fleet) {
		w := f.members[0]
		w.ticket()
		f.front.Service = f.members[1].Service
		code := f.members[2].preAuthCode()
		out := w.follow(bob, code)
		synctest.Wait()
		time.Sleep(time.Second)
		for i, w := range f.members {
			if got, err := w.Authorize(t.Context(), secret.New(out.Code), LinkOf(code)); err != nil || got.AppID != bob {
				t.Errorf("sidecar %d: %+v, %v", i, got, err)
			}
		}
		out = w.follow(alice, w.preAuthCode(), wechattest.WithoutPush())
		calls := w.sim.Count(pathQueryAuth)
		var visits sync.WaitGroup
		for _, w := range f.members {
			visits.Go(func() {
				got, err := w.Authorize(t.Context(), secret.New(out.Code), "")
				if err != nil || got.AppID != alice || len(got.Scopes) != 15 {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		visits.Wait()
		w.count(pathQueryAuth, calls+1)
		for _, w := range f.members {
			w.live(w.token(of(alice)))
		}
		w.state(bob, store.StateActive)
	})
}

func TestLinkOf(t *testing.T) {
	code := secret.New("preauthcode@@@0123456789")
	link := LinkOf(code)
	if link != LinkOf(code) || link == LinkOf(secret.New("preauthcode@@@0123456780")) || strings.Contains(string(link), "0123") {
		t.Errorf("%q", link)
	}
	if what := noted("link", "x"); slices.Contains([]codeDigest{noted("name", "x"), noted("link", "y")}, what) {
		t.Error("two things are noted in one place")
	}
}
