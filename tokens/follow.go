package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrFollower means that a follower was asked for what only a sidecar that
// refreshes can do.
var ErrFollower = errors.New("this sidecar is a follower (store.role): it only reads tokens; ask one that refreshes them")

// wantEvery is how often a follower asks again for a token.
const wantEvery = 500 * time.Millisecond

// want is what a follower asks of the processes that refresh.
type want struct {
	key Key
	// generation is that of the token that will not do.
	generation uint64
	rejected   bool // WeChat has refused it
}

// String writes a want as it is told to others.
func (w want) String() string {
	return fmt.Sprintf("%s %s %d %t", w.key.Kind, w.key.AppID, w.generation, w.rejected)
}

// parseWant is the reverse of String.
func parseWant(text string) (w want, ok bool) {
	kind := ""
	if n, err := fmt.Sscanf(text, "%s %s %d %t", &kind, &w.key.AppID, &w.generation, &w.rejected); n != 4 || err != nil {
		return want{}, false
	}
	for _, k := range []Kind{Component, Authorizer, Account} {
		if k.String() == kind {
			w.key.Kind = k
			return w, true
		}
	}
	return want{}, false
}

// follow is refresh for a follower: it waits until another process has stored a
// token of a generation other than stale.
func (s *Service) follow(ctx context.Context, key Key, stale uint64, why reason) (*Token, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Load().WaitTimeout)
	defer cancel()
	for asked := false; ; asked = true {
		changed, forget := s.signals.wait(key)
		t, err := s.askOthers(ctx, key, stale, why, asked)
		if t != nil || err != nil {
			forget()
			return t, err
		}
		timer := time.NewTimer(wantEvery)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		forget()
	}
}

// askOthers returns the token that others have stored; else it tells them that it
// is wanted.
func (s *Service) askOthers(ctx context.Context, key Key, stale uint64, why reason, asked bool) (*Token, error) {
	current, _, err := s.source(key.Kind).stored(ctx, key.AppID)
	now := time.Now()
	switch {
	case ctx.Err() != nil:
		return nil, s.notBrought(key)
	case err != nil:
		return nil, s.storeError(err)
	case current.Generation != stale && usable(current, now):
		return s.published(ctx, key)
	}
	if err := s.learnTrouble(ctx, key, current); err == nil {
		if wait, err := s.troubles.blocked(key, now); err != nil {
			return nil, unavailable(key, err, wait)
		}
	}
	rejected := why == reasonRejected && usable(current, now)
	if rejected && !asked && !s.mayForce(key, current.Generation, now) {
		return nil, ErrDeclined
	}
	if err := s.shared.Want(ctx, want{key, current.Generation, rejected}.String()); err != nil && ctx.Err() == nil {
		s.log.Debug("a token cannot be asked for", "kind", key.Kind.String(), "app_id", key.AppID, "error", err)
	}
	return nil, nil
}

// notBrought is what a follower answers when no token came.
func (s *Service) notBrought(key Key) error {
	if s.base.Err() != nil {
		return stopping
	}
	return &Unavailable{
		Detail: "no sidecar that refreshes has brought the " + key.Kind.String() + "'s access token: " +
			"check that one without store.role follower runs on the same store",
		RetryAfter: time.Second,
	}
}

// wantedElsewhere begins a refresh that a follower asks for, if that is due by
// what the store has: a follower decides nothing.
func (s *Service) wantedElsewhere(text string) {
	w, ok := parseWant(text)
	if !ok || s.config.Load().Follower || !s.known(w.key) {
		return
	}
	select {
	case s.wants <- struct{}{}:
	default:
		return // it is asked for again
	}
	if !s.begin() {
		<-s.wants
		return
	}
	go func() {
		defer s.work.Done()
		defer func() { <-s.wants }()
		if err := s.bring(w); err != nil {
			s.log.Debug("a token that a follower wants is not to be had", "kind", w.key.Kind.String(), "app_id", w.key.AppID, "error", err)
		}
	}()
}

// known reports whether this process has what it takes to refresh a key.
func (s *Service) known(key Key) bool {
	switch key.Kind {
	case Component:
		own, ok := s.ComponentKey()
		return ok && own == key
	case Account:
		_, ok := s.config.Load().Accounts[key.AppID]
		return ok
	}
	return !strings.ContainsAny(key.AppID, "/ ")
}

func (s *Service) bring(w want) error {
	ctx, cancel := context.WithTimeout(s.base, storeTimeout)
	defer cancel()
	stored, _, err := s.source(w.key.Kind).stored(ctx, w.key.AppID)
	if err != nil {
		return s.storeError(err)
	}
	now := time.Now()
	why := reasonExpiring
	switch {
	case stored.Generation != w.generation:
		return nil // there is another one
	case !usable(stored, now):
		why = reasonMissing
	case w.rejected:
		why = reasonRejected
	case now.Before(dueAt(w.key.Kind, stored.RefreshedAt, stored.ExpiresAt, s.config.Load().RefreshAhead, 0)):
		return nil
	}
	_, err = s.await(s.base, w.key, stored.Generation, why)
	return err
}

// mayWrite returns ErrFollower if this process only reads.
func (s *Service) mayWrite() error {
	if s.config.Load().Follower {
		return ErrFollower
	}
	return nil
}
