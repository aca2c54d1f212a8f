package tokens

import (
	"errors"
	"fmt"
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

func TestLessonOfList(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	f := func(rule string, state store.State, known, listed string, later time.Duration, want lesson) {
		t.Helper()
		a := store.Authorizer{AppID: alice, State: state, RefreshToken: secret.New(known), AuthorizedAt: at, EventAt: at}
		got := lessonOfList(a, wechat.ListedAuthorizer{AppID: alice, RefreshToken: secret.New(listed), AuthorizedAt: at.Add(later)})
		if got != want {
			t.Errorf("%s: %d, want %d", rule, got, want)
		}
	}
	f("the same", store.StateActive, "r", "r", time.Hour, nothingNew)
	f("older", store.StateActive, "r", "old", -time.Second, nothingNew)
	f("equal time", store.StateActive, "r", "other", 0, nothingNew)
	f("newer", store.StateActive, "r", "new", time.Second, newAuthorization)
	f("none known", store.StateActive, "", "r", 0, refreshTokenOnly)
	f("refused", store.StateReauthorize, "r", "r", 0, nothingNew)
	f("another in place of a refused one", store.StateReauthorize, "r", "other", -time.Hour, refreshTokenOnly)
	f("authorized again", store.StateReauthorize, "r", "r", time.Second, newAuthorization)
	f("ended after", store.StateUnauthorized, "", "r", -time.Second, nothingNew)
	f("ended and authorized", store.StateUnauthorized, "", "r", time.Second, newAuthorization)
	if got := lessonOfList(store.Authorizer{}, wechat.ListedAuthorizer{RefreshToken: secret.New("r")}); got != newAuthorization {
		t.Errorf("unknown: %d", got)
	}
}

// A list of 500 makes accounts known, and throws away no token that is good.
func TestLearnList(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		before := w.token(of(alice))
		list := []wechat.ListedAuthorizer{{AppID: alice, RefreshToken: secret.New("another"), AuthorizedAt: time.Now().Add(-time.Hour)}, {AppID: bob}}
		for i := range 498 {
			list = append(list, wechat.ListedAuthorizer{AppID: appID(i), RefreshToken: secret.New(w.sim.AddAuthorizer(appID(i))), AuthorizedAt: time.Now()})
		}
		got, err := w.LearnList(t.Context(), list)
		if want := (Learned{Total: 500, Added: 498, WithoutRefreshToken: 1}); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		if w.token(of(alice)) != before {
			t.Error("a good token was thrown away")
		}
		w.live(w.token(of(appID(497))))
		w.disk.set(errDisk, nil)
		if _, err := w.LearnList(t.Context(), list); !isUnavailable(err) {
			t.Errorf("store down: %v", err)
		}
		w.disk.set(nil, nil)
	})
}

func isUnavailable(err error) bool {
	_, ok := errors.AsType[*Unavailable](err)
	return ok
}

// An answer of api_get_authorizer_info that is older than the end of an
// authorization does not undo it.
func TestLearnInfo(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		before := w.token(of(alice))
		info := wechat.AuthorizerInfo{AppID: alice, RefreshToken: secret.New("another"), Scopes: []int{1, 3}}
		learn := func(asked time.Time) {
			t.Helper()
			if err := w.LearnInfo(t.Context(), info, asked); err != nil {
				t.Fatal(err)
			}
		}
		learn(time.Now())
		if record := w.state(alice, store.StateActive); len(record.Scopes) != 2 || w.token(of(alice)) != before {
			t.Errorf("scopes %v", record.Scopes)
		}
		info.Scopes = []int{2, 3}
		learn(time.Now())
		if record := w.state(alice, store.StateActive); record.Scopes[0] != 2 {
			t.Errorf("other scopes of the same number: %v", record.Scopes)
		}
		asked := time.Now()
		time.Sleep(10 * time.Second)
		if _, err := w.sim.Unauthorize(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		learn(asked)
		w.state(alice, store.StateUnauthorized)
		time.Sleep(10 * time.Second)
		learn(time.Now())
		w.state(alice, store.StateActive)
	})
}

// However many callers, and the push, bring a code, it is spent once, and no
// answer is given before it is stored.
func TestExchangeCodeOnce(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(time.Second) }, func(t *testing.T, w *world) {
		w.ticket()
		authorization, err := w.sim.Authorize(t.Context(), alice, wechattest.WithPushDelay(500*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ComponentToken(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.disk.set(nil, errDisk)
		var all sync.WaitGroup
		began := time.Now()
		for range 100 {
			all.Go(func() {
				answer, err := w.exchangeAsApp(authorization.Code)
				if err != nil || !strings.Contains(string(answer), alice) {
					t.Errorf("%v", err)
				}
				if time.Since(began) < 20*time.Second {
					t.Error("answered before it was stored")
				}
			})
		}
		time.Sleep(20 * time.Second)
		w.disk.set(nil, nil)
		all.Wait()
		synctest.Wait()
		w.count(pathQueryAuth, 1)
		w.live(w.token(of(alice)))
	})
}

// Redirect and event may carry different codes, which are spent together: the
// event is then settled, not a failure, and later events are applied.
func TestTheOtherCodeOfAnAuthorization(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) { k.RedirectCode = wechattest.CodeDifferent }, func(t *testing.T, w *world) {
		w.ticket()
		authorization, err := w.sim.Authorize(t.Context(), alice, wechattest.WithPushDelay(10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.exchangeAsApp(authorization.Code); err != nil {
			t.Fatal(err)
		}
		before := w.token(of(alice))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if w.token(of(alice)) != before || strings.Contains(w.log.String(), `"level":"ERROR"`) {
			t.Errorf("the event was taken for a failure: %s", w.log)
		}
		if record := w.state(alice, store.StateActive); record.EventDigest == "" {
			t.Error("the event is not noted")
		}
		var refused *wechat.Error
		if _, err := w.exchangeAsApp(authorization.EventCode); !errors.As(err, &refused) || refused.Code != 61010 {
			t.Errorf("the other code: %v", err)
		}
		if _, err := w.sim.Unauthorize(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.state(alice, store.StateUnauthorized)
	})
}

// A forced refresh happens at most once per MinRefreshInterval, and is no foreign
// one.
func TestForce(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		force := func(want int) {
			t.Helper()
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if token, err := w.Force(t.Context(), of(alice)); err != nil || !token.Usable(time.Now()) {
						t.Errorf("%v", err)
					}
				})
			}
			all.Wait()
			w.count(pathAuthorizer, want)
		}
		force(1) // it is young
		time.Sleep(31 * time.Second)
		force(2)
		time.Sleep(31 * time.Second)
		force(2) // the interval has doubled
		time.Sleep(31 * time.Second)
		force(3)
		time.Sleep(10 * time.Minute)
		w.fail(pathAuthorizer, -1, 1)
		force(4) // the present one is served
		w.live(w.token(of(alice)))
		if n := w.metric("foreign_refreshes_total", "kind", "authorizer"); n != 0 {
			t.Errorf("%v foreign refreshes", n)
		}
	})
}

func TestCodesAreBounded(t *testing.T) {
	var c codes
	now := time.Now()
	for i := range 2 * maxCodes {
		c.put(codeDigest{byte(i), byte(i >> 8), byte(i >> 16)}, spending{result: fmt.Sprint(i)}, now)
	}
	c.put(codeDigest{255, 255, 255}, spending{brought: wechat.Grant{Answer: make([]byte, maxCodeAnswer+1)}}, now)
	if _, ok := c.find(codeDigest{255, 255, 255}, now); ok || len(c.spent) != maxCodes {
		t.Errorf("%d codes are remembered", len(c.spent))
	}
}

// The end of an authorization that comes late, after an app's exchange for a newer
// one, does not end that.
func TestLateEndOfAnOlderAuthorization(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		ended := time.Now()
		time.Sleep(time.Hour)
		authorization, err := w.sim.Authorize(t.Context(), alice, wechattest.WithoutPush())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.exchangeAsApp(authorization.Code); err != nil {
			t.Fatal(err)
		}
		end := func(at time.Time) {
			t.Helper()
			event := wechat.Event{InfoType: wechat.InfoTypeUnauthorized, AuthorizerID: alice, CreateTime: at}
			if _, err := w.applyUnauthorized(t.Context(), store.Push{Digest: at.String(), ReceivedAt: time.Now()}, event, at); err != nil {
				t.Fatal(err)
			}
		}
		end(ended)
		w.state(alice, store.StateActive)
		w.live(w.token(of(alice)))
		end(time.Now())
		w.state(alice, store.StateUnauthorized)
	})
}

// exchangeAsApp is what the data plane does for an app that calls
// api_query_auth.
func (w *world) exchangeAsApp(code string) ([]byte, error) {
	return w.ExchangeCode(w.t.Context(), secret.New(code), func() (wechat.Grant, error) { return w.exchange(secret.New(code)) })
}
