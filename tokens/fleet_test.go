package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	storemem "lingpai/tokens/store/memory"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

// fleet is several Services that share a store and the WeChat they speak to.
type fleet struct {
	t       *testing.T
	group   *storemem.Group
	front   *world   // its Service is the one that WeChat's pushes reach
	members []*world // of one simulator
}

// inFleet is inWorld with n Services.
func inFleet(t *testing.T, n int, knobs func(*wechattest.Knobs), fn func(t *testing.T, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		first := newWorld(t, knobs, 1<<20)
		first.stop()
		f := &fleet{t: t, group: storemem.NewGroup(storemem.Options{}), front: first}
		for range n {
			f.join(first, nil)
		}
		defer func() {
			for _, w := range f.members {
				w.stop()
			}
			first.sim.Close()
			synctest.Wait()
		}()
		synctest.Wait() // all watch
		fn(t, f)
		if v := first.sim.Violations(); len(v) > 0 {
			t.Errorf("violations: %q", v)
		}
		for _, w := range f.members {
			w.stop()
			w.checkNoSecrets(w.log.String())
		}
	})
}

// join adds a Service to the fleet. change, if there is one, changes its
// configuration and store.
func (f *fleet) join(like *world, change func(*Config, store.Shared) store.Store) *world {
	peer := f.group.Open()
	w := &world{t: f.t, sim: like.sim, disk: &faultyStore{Store: peer}, m: metrics.New("test", "", ""), log: &syncBuffer{}, conf: like.conf, clock: like.clock}
	var st store.Store = peer
	if change != nil {
		st = change(&w.conf, peer)
	}
	service, err := NewService(w.conf, st, 1<<20, w.m, slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		f.t.Fatal(err)
	}
	w.Service = service
	w.begin()
	f.members = append(f.members, w)
	return w
}

// same waits until all members hold the same generation of key in memory, ready
// to be used.
func (f *fleet) same(key Key, generation uint64) {
	f.t.Helper()
	synctest.Wait()
	for i, w := range f.members {
		if t := w.memory.get(key); t == nil || t.Generation != generation {
			f.t.Fatalf("sidecar %d does not have generation %d of %s", i, generation, key)
		}
	}
}

func TestFleetStartsCold(t *testing.T) {
	inFleet(t, 5, func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(100 * time.Millisecond) }, func(t *testing.T, f *fleet) {
		f.members[0].ticket()
		for i := range 40 {
			f.members[0].add(appID(i))
		}
		var calls sync.WaitGroup
		for i := range 2000 {
			w := f.members[i%5]
			calls.Go(func() { w.live(w.token(of(appID(i % 40)))) })
		}
		calls.Wait()
		f.members[0].count(pathComponent, 1)
		f.members[0].count(pathAuthorizer, 40)
		won, lost := 0.0, 0.0
		for _, w := range f.members {
			won += w.metric("lease_total", "result", "won")
			lost += w.metric("lease_total", "result", "lost")
		}
		if won < 41 || lost == 0 {
			t.Errorf("%v leases won, %v lost", won, lost)
		}
	})
}

func TestFleetRenewsOnce(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		for range 20 {
			f.members[0].ticket()
			for range 12 { // two hours
				for _, w := range f.members {
					w.live(w.token(of(alice)))
				}
				time.Sleep(10 * time.Minute)
			}
		}
		if n := f.members[0].sim.Count(pathAuthorizer); n < 20 || n > 22 {
			t.Errorf("%d refreshes in 20 lifetimes", n)
		}
		if n := f.members[0].sim.Count(pathComponent); n < 20 || n > 22 {
			t.Errorf("%d refreshes of the platform in 20 lifetimes", n)
		}
	})
}

// One refusal makes one refresh, after which all use the new token at once.
func TestFleetReplacesARefusedToken(t *testing.T) {
	inFleet(t, 5, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		old := f.members[0].token(of(alice))
		for _, w := range f.members {
			w.token(of(alice))
		}
		time.Sleep(time.Minute)
		fresh, err := f.members[3].refuse(old)
		if err != nil {
			t.Fatal(err)
		}
		f.same(of(alice), fresh.Generation)
		for _, w := range f.members {
			if token := w.Find(alice, time.Now()); token == nil || token.Generation != fresh.Generation {
				t.Error("the new token is not found in memory")
			}
		}
		f.members[0].count(pathAuthorizer, 2)
		// The others meet the refusal of the former one a little later.
		for _, w := range f.members {
			if token, err := w.refuse(old); err != nil || token.Generation != fresh.Generation {
				t.Errorf("%v", err)
			}
		}
		f.members[0].count(pathAuthorizer, 2)
	})
}

// Some 40001 are about the request: then the sidecars together force no more
// refreshes than one would.
func TestFleetForcesNoStorm(t *testing.T) {
	inFleet(t, 5, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		f.members[0].token(of(alice))
		time.Sleep(time.Minute)
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			for _, w := range f.members {
				w.refuse(w.token(of(alice)))
			}
			time.Sleep(time.Second)
		}
		// At 0, 30 s, and then in twice the time each: 90, 210, 450.
		if n := f.members[0].sim.Count(pathAuthorizer); n > 7 {
			t.Errorf("%d refreshes in ten minutes", n)
		}
	})
}

func TestFleetSharesTroubles(t *testing.T) {
	inFleet(t, 5, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		f.members[0].token(Key{Component, platform})
		f.members[0].fail(pathAuthorizer, 45009, 100)
		for range 10 {
			for _, w := range f.members {
				if u := w.unavailable(of(alice)); u.Code != 45009 {
					t.Fatalf("errcode %d", u.Code)
				}
			}
			time.Sleep(time.Second)
		}
		f.members[0].count(pathAuthorizer, 1)
		// Another authorization mends it for all.
		f.members[0].sim.ClearFaults()
		f.members[2].add(alice)
		synctest.Wait()
		for _, w := range f.members {
			w.live(w.token(of(alice)))
		}
		f.members[0].count(pathAuthorizer, 2)
	})
}

// A refresh that meets a dead token of the platform goes on with another one: the
// call that waits for it notices nothing.
func TestFleetReplacesThePlatformsTokenToo(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		old := f.members[1].token(of(alice))
		time.Sleep(time.Hour)
		f.members[0].sim.RevokeAll()
		fresh, err := f.members[1].refuse(old)
		if err != nil {
			t.Fatal(err)
		}
		f.members[1].live(fresh)
		f.members[0].count(pathComponent, 2)
	})
}

// slowWriter is a store whose writes of authorizers come after a while.
type slowWriter struct {
	store.Shared
	delay chan struct{} // closed when they may go on
	slow  chan struct{} // closed when one waits
	once  sync.Once
}

func (s *slowWriter) UpdateAuthorizer(ctx context.Context, appID string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	s.once.Do(func() { close(s.slow) })
	<-s.delay
	return s.Shared.UpdateAuthorizer(context.WithoutCancel(ctx), appID, fn)
}

// A refresher that was frozen beyond its turn cannot overwrite what another has
// stored meanwhile.
func TestFrozenRefresherOverwritesNothing(t *testing.T) {
	inFleet(t, 2, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		first := f.members[0].token(of(alice))
		slow := &slowWriter{delay: make(chan struct{}), slow: make(chan struct{})}
		frozen := f.join(f.members[0], func(_ *Config, peer store.Shared) store.Store {
			slow.Shared = peer
			return slow
		})
		thaw := frozen.later(of(alice)) // it has it from the store
		thaw()
		time.Sleep(time.Minute)
		done := make(chan error, 1)
		go func() {
			_, err := frozen.Refresh(context.Background(), of(alice))
			done <- err
		}()
		<-slow.slow
		// The others wait for their turn until the frozen one's is over.
		fresh := f.members[1]
		began := time.Now()
		token, err := fresh.Refresh(t.Context(), of(alice))
		if err != nil || token.Generation == first.Generation {
			t.Fatalf("%v", err)
		}
		if waited := time.Since(began); waited < turnTime(&fresh.conf, Authorizer)-time.Second {
			t.Errorf("the turn was taken over after %s", waited)
		}
		close(slow.delay)
		if err := <-done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for _, w := range f.members {
			last := w.token(of(alice))
			w.live(last)
			if last.Generation < token.Generation {
				t.Errorf("generation %d after %d", last.Generation, token.Generation)
			}
		}
	})
}

// The push and the redirect of one authorization may reach different sidecars.
func TestFleetSpendsACodeOnce(t *testing.T) {
	inFleet(t, 3, func(k *wechattest.Knobs) { k.TokenLatency = wechattest.Duration(50 * time.Millisecond) }, func(t *testing.T, f *fleet) {
		w := f.members[0]
		w.ticket()
		w.token(Key{Component, platform})
		out, err := w.sim.Authorize(t.Context(), alice, wechattest.WithoutPush())
		if err != nil {
			t.Fatal(err)
		}
		code := secret.New(out.Code)
		var asking sync.WaitGroup
		for _, w := range f.members {
			asking.Go(func() {
				answer, err := w.ExchangeCode(t.Context(), code, func() (wechat.Grant, error) {
					component := w.token(Key{Component, platform})
					return w.conf.Client.QueryAuth(t.Context(), component.Value(), platform, code)
				})
				if err != nil {
					t.Error(err)
					return
				}
				var parsed struct {
					Info struct {
						AppID     string `json:"authorizer_appid"`
						ExpiresIn int    `json:"expires_in"`
						Functions []any  `json:"func_info"`
					} `json:"authorization_info"`
				}
				if err := json.Unmarshal(answer, &parsed); err != nil || parsed.Info.AppID != alice || parsed.Info.ExpiresIn < 7000 || len(parsed.Info.Functions) == 0 {
					t.Errorf("%v %+v", err, parsed)
				}
			})
		}
		asking.Wait()
		w.count(pathQueryAuth, 1)
		for _, w := range f.members {
			w.live(w.token(of(alice)))
		}
	})
}

// Whichever sidecar gets a push, one works on it; if that one goes, another does.
func TestFleetWorksOnEvents(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.members[0].ticket()
		for i := range 9 {
			app := appID(i)
			f.front.Service = f.members[max(i%3, i/3)].Service
			if _, err := f.front.sim.Authorize(t.Context(), app); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(time.Second)
			for _, w := range f.members[i/3:] {
				w.live(w.token(of(app)))
			}
			if i%3 == 2 && i < 8 {
				f.members[i/3].stop()
				time.Sleep(2 * leadTime)
			}
		}
		f.members[0].count(pathQueryAuth, 9)
		f.members[0].count(pathAuthorizer, 0)
	})
}

// Without the store, what is in memory is served and nothing is refreshed.
func TestFleetWithoutStore(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		f.members[0].add(bob)
		for _, w := range f.members {
			w.token(of(alice))
		}
		time.Sleep(100 * time.Minute) // due soon
		f.members[0].ticket()
		f.group.SetDown(true)
		for range 15 {
			time.Sleep(time.Minute)
			for _, w := range f.members {
				w.live(w.token(of(alice)))
				w.unavailable(of(bob))
				if err := w.Ping(t.Context()); err == nil {
					t.Error("Ping says that the store works")
				}
			}
		}
		f.members[0].count(pathAuthorizer, 1)
		f.members[0].count(pathComponent, 1)
		f.group.SetDown(false)
		time.Sleep(time.Minute)
		for _, w := range f.members {
			w.live(w.token(of(alice)))
			w.live(w.token(of(bob)))
		}
		f.members[0].count(pathAuthorizer, 3)
		f.members[0].count(pathComponent, 2)
	})
}

// A store that comes back empty is filled again from WeChat's list, while all
// that is in memory is served, without a refresh.
func TestFleetOutlivesItsStore(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.members[0].ticket()
		for i := range 20 {
			f.members[0].add(appID(i))
		}
		for _, w := range f.members {
			for i := range 20 {
				w.token(of(appID(i)))
			}
		}
		f.members[0].count(pathAuthorizer, 20)
		synctest.Wait() // all know the platform's token
		f.group.SetDown(true)
		time.Sleep(time.Minute)
		f.group.Lose()
		f.group.SetDown(false)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			for _, w := range f.members {
				for i := range 20 {
					w.live(w.token(of(appID(i))))
				}
			}
		}
		f.members[0].count(pathList, 1)
		f.members[0].count(pathComponent, 1)
		f.members[0].count(pathAuthorizer, 20)
		for _, w := range f.members {
			if counts, err := w.Counts(t.Context()); err != nil || counts.Active != 20 {
				t.Errorf("%+v, %v", counts, err)
			}
			view, err := w.Component(t.Context())
			if err != nil || view.TicketReceivedAt.IsZero() || view.Token.State != StateFresh {
				t.Errorf("%+v, %v", view, err)
			}
			if w.lost.Load() {
				t.Error("still recovering")
			}
		}
		// And the refresh tokens are there.
		time.Sleep(2 * time.Hour)
		f.members[1].ticket()
		for _, w := range f.members {
			w.live(w.token(of(appID(3))))
		}
	})
}

func TestFleetReadsTheListOnceANight(t *testing.T) {
	inFleet(t, 5, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		for range 3 * 24 * 6 {
			f.members[0].ticket()
			time.Sleep(10 * time.Minute)
		}
		if n := f.members[0].sim.Count(pathList); n != 3 {
			t.Errorf("the list was read %d times in three nights", n)
		}
	})
}

func TestFollowerNeedsASharedStore(t *testing.T) {
	_, err := NewService(Config{Follower: true}, storemem.New(), 1<<20, metrics.New("", "", ""), slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("a follower of a store that nobody else writes into")
	}
}

// While a follower's store is empty, what it has in memory serves on.
func TestFollowerOutlivesItsStore(t *testing.T) {
	inFleet(t, 1, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		follower := f.join(f.members[0], func(c *Config, peer store.Shared) store.Store {
			c.Follower = true
			return peer
		})
		synctest.Wait()
		follower.live(follower.token(of(alice)))
		synctest.Wait() // whoever got the token for it has it in memory too
		f.group.SetDown(true)
		time.Sleep(time.Minute)
		f.group.Lose()
		f.group.SetDown(false)
		for range 100 {
			follower.live(follower.token(of(alice)))
			time.Sleep(100 * time.Millisecond)
		}
		f.members[0].count(pathAuthorizer, 1)
		if err := follower.refused(of("wxnobody")); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
	})
}

// A follower has no secret, asks WeChat for nothing, and has every token all the
// same.
func TestFollower(t *testing.T) {
	inFleet(t, 2, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		follower := f.join(f.members[0], func(c *Config, peer store.Shared) store.Store {
			c.Follower = true
			c.Component = &ComponentConfig{AppID: platform}
			c.Accounts = map[string]secret.String{direct: {}}
			c.Client = wechat.NewClient(nil, "http://127.0.0.1:1", time.Second)
			return peer
		})
		synctest.Wait()
		for _, key := range []Key{of(alice), {Component, platform}, {Account, direct}} {
			follower.live(follower.token(key))
		}
		f.members[0].count(pathAuthorizer, 1)
		// What the follower uses is renewed for it.
		for range 13 {
			time.Sleep(10 * time.Minute)
			f.members[0].ticket()
			follower.live(follower.token(of(alice)))
		}
		f.members[0].count(pathAuthorizer, 2)
		old := follower.token(of(alice))
		if fresh, err := follower.refuse(old); err != nil || fresh.Generation == old.Generation {
			t.Fatalf("%v", err)
		}
		f.members[0].count(pathAuthorizer, 3)
		if _, err := follower.refuse(follower.token(of(alice))); !errors.Is(err, ErrDeclined) {
			t.Errorf("%v", err)
		}
		if err := follower.refused(of("wxnobody")); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		for name, call := range map[string]func() error{
			"put":      func() error { _, err := follower.PutAuthorizer(t.Context(), bob, secret.New("x")); return err },
			"delete":   func() error { _, err := follower.DeleteAuthorizer(t.Context(), alice); return err },
			"refresh":  func() error { _, err := follower.Refresh(t.Context(), of(alice)); return err },
			"sync":     func() error { _, err := follower.Sync(t.Context()); return err },
			"ticket":   func() error { _, err := follower.ReceiveTicket(t.Context(), secret.New("x"), time.Now()); return err },
			"event":    func() error { _, err := follower.ReceiveEvent(t.Context(), pushOf([]byte("<xml/>"))); return err },
			"exchange": func() error { _, err := follower.ExchangeCode(t.Context(), secret.New("x"), nil); return err },
		} {
			if err := call(); !errors.Is(err, ErrFollower) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Nobody left who refreshes.
		f.members[0].stop()
		f.members[1].stop()
		time.Sleep(3 * time.Hour)
		if u := follower.unavailable(of(alice)); !strings.Contains(u.Detail, "store.role") {
			t.Error(u.Detail)
		}
	})
}
