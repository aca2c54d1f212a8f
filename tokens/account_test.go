package tokens

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat/wechattest"
)

func TestDirectAccounts(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		one, two := Key{Account, direct}, Key{Account, direct2}
		// No ticket, and the platform broken: of no concern to direct accounts.
		w.sim.AddFault(wechattest.Fault{Path: "/cgi-bin/component/*", Kind: wechattest.FaultCut})
		first := w.token(one)
		w.live(first)
		w.live(w.token(two))
		if w.KeyOf(direct) != one || w.KeyOf(alice) != of(alice) {
			t.Error("KeyOf")
		}
		if err := w.refused(Key{Account, alice}); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		time.Sleep(time.Until(first.ExpiresAt()) - 5*time.Minute)
		synctest.Wait()
		w.count(pathStable, 2) // not before the last five minutes
		time.Sleep(5*time.Minute - 1)
		synctest.Wait()
		w.count(pathStable, 4)
		w.live(w.token(one))
		w.count(pathComponent, 0)

		// Refused, but WeChat has another by now: no force.
		old := w.token(one)
		time.Sleep(time.Minute)
		w.sim.RevokeToken(wechattest.KindAccount, direct)
		better, err := w.refuse(old)
		if err != nil {
			t.Fatal(err)
		}
		w.live(better)
		w.count(pathStable, 5)
		// Refused, and WeChat gives out the same: force.
		time.Sleep(time.Minute)
		forced, err := w.refuse(better)
		if err != nil || forced.Value().Equal(better.Value()) {
			t.Fatal(err)
		}
		w.live(forced)
		w.count(pathStable, 7)
		w.live(w.token(two))
	})
}

// When the day's 20 forces are used up, the account's token is still renewed.
func TestForcesUsedUp(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		key := Key{Account, direct}
		start := time.Now()
		for range 25 {
			time.Sleep(31 * time.Second)
			w.Refresh(t.Context(), key)
		}
		if _, err := w.Refresh(t.Context(), key); err == nil {
			t.Fatal("25 forces in a day")
		} else if u, ok := errors.AsType[*Unavailable](err); !ok || u.Code == 0 {
			t.Errorf("%v", err)
		}
		for time.Since(start) < 6*time.Hour {
			time.Sleep(time.Minute)
			w.live(w.token(key))
		}
	})
}

func TestViews(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		ctx := t.Context()
		if v, err := w.Component(ctx); err != nil || !v.TicketReceivedAt.IsZero() || v.Token.State != StateMissing {
			t.Errorf("%+v %v", v, err)
		}
		w.ready()
		w.add(bob)
		w.token(of(alice))
		v, err := w.Authorizer(ctx, alice)
		if err != nil || v.State != store.StateActive || v.Token.State != StateFresh || !v.HasRefreshToken || v.Token.Generation != 2 {
			t.Errorf("%+v %v", v, err)
		}
		if v, _ := w.Component(ctx); v.Token.State != StateFresh || v.AppID != platform || !v.TicketReceivedAt.Equal(w.clock) {
			t.Errorf("%+v", v)
		}
		time.Sleep(time.Until(v.Token.ExpiresAt) - 10*time.Minute)
		if v, _ := w.Authorizer(ctx, alice); v.Token.State != StateStale {
			t.Errorf("%+v", v.Token)
		}
		list, err := w.Authorizers(ctx, alice, 10)
		if err != nil || len(list) != 1 || list[0].AppID != bob || list[0].Token.State != StateMissing {
			t.Errorf("%+v %v", list, err)
		}
		if c, err := w.Counts(ctx); err != nil || c.Active != 2 {
			t.Errorf("%+v %v", c, err)
		}
		if _, err := w.Authorizer(ctx, direct); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if err := w.Obtainable(ctx); err != nil {
			t.Error(err)
		}
		if err := w.Ping(ctx); err != nil {
			t.Error(err)
		}
		if message, err := w.StartPushTicket(ctx); message != "in a normal state" || err != nil {
			t.Error(message, err)
		}
		w.sim.SetTicketPush(false)
		if message, err := w.StartPushTicket(ctx); message != "ok" || err != nil {
			t.Error(message, err)
		}
		if _, err := w.PutAuthorizer(ctx, alice, secret.String{}); err == nil {
			t.Error("an empty refresh token replaced one")
		}
		w.state(alice, store.StateActive)
	})
}

func TestClearQuotaEndsTheBackOff(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.fail(pathComponent, 45009, 1)
		w.unavailable(of(alice))
		w.unavailable(of(alice))
		w.count(pathComponent, 1)
		if err := w.ClearQuota(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.live(w.token(of(alice)))
	})
}

func TestDeleteAuthorizerAndAddAgain(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		old := w.token(of(alice))
		if v, err := w.DeleteAuthorizer(t.Context(), alice); err != nil || v.State != store.StateActive {
			t.Error(v, err)
		}
		if w.Find(alice, time.Now()) != nil {
			t.Error("found after deletion")
		}
		if err := w.refused(of(alice)); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		if _, err := w.DeleteAuthorizer(t.Context(), alice); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		w.add(alice)
		now := w.token(of(alice))
		if now.Generation <= old.Generation {
			t.Errorf("generation %d after %d", now.Generation, old.Generation)
		}
		w.count(pathAuthorizer, 2)
		// A late refusal of the old token does not touch the new one.
		if better, err := w.refuse(old); err != nil || better != now {
			t.Error(better, err)
		}
		w.count(pathAuthorizer, 2)
		// Deleted and added again while a refresh is in flight.
		w.sim.AddFault(wechattest.Fault{Path: pathAuthorizer, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(2 * time.Second), AfterEffect: true, Times: 1})
		done := make(chan struct{})
		go func() { w.Refresh(t.Context(), of(alice)); close(done) }()
		time.Sleep(time.Second)
		w.DeleteAuthorizer(t.Context(), alice)
		w.add(alice)
		<-done
		w.live(w.token(of(alice)))
		if c, _ := w.Counts(t.Context()); c != (store.Counts{Active: 1}) {
			t.Errorf("%+v", c)
		}
	})
}

func TestDirectAccountsOnly(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		conf := w.conf
		conf.Component = nil
		w.Reconfigure(conf)
		if _, err := w.ComponentToken(t.Context()); !errors.Is(err, ErrNoComponent) {
			t.Error(err)
		}
		if _, err := w.Component(t.Context()); !errors.Is(err, ErrNoComponent) {
			t.Error(err)
		}
		if _, err := w.ReceiveTicket(t.Context(), secret.New("x"), time.Now()); !errors.Is(err, ErrNoComponent) {
			t.Error(err)
		}
		if err := w.Obtainable(t.Context()); err != nil {
			t.Error(err)
		}
		w.fail(pathStable, 40164, 0)
		w.unavailable(Key{Account, direct})
		if err := w.Obtainable(t.Context()); err != nil {
			t.Errorf("the other account's token can be had: %v", err)
		}
		w.unavailable(Key{Account, direct2})
		if err := w.Obtainable(t.Context()); err == nil {
			t.Error("obtainable though both are refused")
		}
		conf.Accounts = nil
		w.Reconfigure(conf)
		if err := w.Obtainable(t.Context()); !errors.Is(err, ErrNoComponent) {
			t.Error(err)
		}
	})
}

// One day with all kinds of trouble; inWorld looks for every secret in the log.
func TestNothingLeaks(t *testing.T) {
	inWorld(t, func(k *wechattest.Knobs) {
		k.RefreshToken, k.ErrcodeType = wechattest.RefreshTokenRotated, wechattest.ErrcodeString
		k.RefreshTokenGrace = wechattest.Duration(48 * time.Hour) // lost answers bring rotated ones
	}, func(t *testing.T, w *world) {
		w.ready()
		w.authorize(bob)
		keys := []Key{of(alice), of(bob), {Account, direct}, {Component, platform}}
		kinds := []wechattest.FaultKind{
			wechattest.FaultCut, wechattest.FaultLost, wechattest.FaultGarbage, wechattest.FaultEmpty,
			wechattest.FaultTruncated, wechattest.FaultStatus, wechattest.FaultDelay, wechattest.FaultErrcode,
		}
		codes := []int{-1, 40001, 42001, 40125, 40164, 45009, 45011, 61003, 61004, 61005, 61010}
		for i := range 24 * 12 {
			w.ReceiveTicket(t.Context(), secret.New(w.sim.IssueTicket()), time.Now())
			w.sim.AddFault(wechattest.Fault{
				Path: "*", Kind: kinds[i%len(kinds)], Probability: 0.5, Times: 4, Errcode: codes[i%len(codes)],
				Delay: wechattest.Duration(12 * time.Second),
			})
			w.sim.AddFault(wechattest.Fault{
				Path: pathComponent, Kind: wechattest.FaultErrcode, Probability: 0.1, Times: 1, Errcode: 40125,
				Errmsg: "secret " + wechattest.DefaultComponentAppSecret,
			})
			for _, key := range keys {
				token, err := w.Token(t.Context(), key)
				if err == nil && i%7 == 0 {
					_, err = w.refuse(token)
				}
				if err == nil && i%11 == 0 {
					_, err = w.Refresh(t.Context(), key)
				}
				for ; err != nil; err = errors.Unwrap(err) {
					w.checkNoSecrets(err.Error())
				}
			}
			switch i % 50 {
			case 10:
				w.sim.UpdateAuthorize(t.Context(), bob)
			case 20:
				w.sim.Unauthorize(t.Context(), bob)
			case 30:
				w.sim.Authorize(t.Context(), bob)
			case 40:
				w.disk.set(nil, errDisk)
			case 41:
				w.disk.set(nil, nil)
				w.restart()
			}
			time.Sleep(5 * time.Minute)
		}
		w.disk.set(nil, nil)
		w.sim.ClearFaults()
		w.ClearQuota(t.Context())
		time.Sleep(time.Hour)
		w.ticket()
		for _, key := range keys {
			if _, err := w.Refresh(t.Context(), key); err == nil {
				w.live(w.token(key))
			} else if !errors.Is(err, ErrReauthorize) {
				t.Errorf("%s does not recover: %v", key, err)
			}
		}
		if len(w.log.String()) < 1000 {
			t.Error("the log is empty")
		}
	})
}
