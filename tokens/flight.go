package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// reason says why WeChat is asked for a token: the label reason.
type reason string

const (
	reasonMissing  reason = "missing"
	reasonExpiring reason = "expiring"
	reasonRejected reason = "rejected"
	reasonManual   reason = "manual"
	reasonEvent    reason = "event"
)

// flightTimeout bounds a flight: the wait for a slot, the component's token, the
// call, and one more of both if WeChat refuses that token.
func flightTimeout(c *Config) time.Duration { return 4*c.RefreshTimeout + storeTimeout }

// await joins the one flight of key and waits for a token of a generation other
// than stale, at most WaitTimeout and no longer than ctx. A caller that
// leaves does not end the flight.
func (s *Service) await(ctx context.Context, key Key, stale uint64, why reason) (*Token, error) {
	timeout := s.config.Load().WaitTimeout
	if why == reasonExpiring || why == reasonManual {
		timeout = flightTimeout(s.config.Load()) // nobody's call hangs on it
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrWait)
	defer cancel()
	// A flight joined may have begun for an older generation than ours: its
	// result is then no news, and the next flight is ours.
	for range 3 {
		led := false
		flight := s.flights.DoChan(key.String(), func() (any, error) {
			led = true
			return s.refresh(key, stale, why)
		})
		select {
		case result := <-flight:
			if !led {
				s.metrics.FlightWaiter(metrics.Kind(key.Kind))
			}
			if result.Err != nil {
				return nil, result.Err
			}
			if t := result.Val.(*Token); t.Generation != stale {
				return t, nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", key, ErrWait)
		}
	}
	return nil, ErrDeclined
}

// refresh is the body of a flight: look again in the store, ask WeChat if that
// has nothing newer than stale, persist, publish.
//
// The second look is needed: a caller finds memory empty, another's flight ends
// and publishes, and only then the first caller begins a flight of its own.
func (s *Service) refresh(key Key, stale uint64, why reason) (*Token, error) {
	if !s.begin() {
		return nil, &Unavailable{Detail: "lingpai is stopping", RetryAfter: time.Second}
	}
	defer s.work.Done()
	config := s.config.Load()
	ctx, cancel := context.WithTimeout(s.base, flightTimeout(config))
	defer cancel()

	from := s.source(key.Kind)
	current, err := from.stored(ctx, key.AppID)
	if err != nil {
		return nil, s.storeError(err)
	}
	now := time.Now()
	if current.Generation != stale && usable(current, now) {
		return s.published(ctx, key)
	}
	if why == reasonRejected && !s.mayForce(key, current, now) {
		return nil, ErrDeclined
	}
	if why != reasonManual {
		if wait, err := s.troubles.blocked(key, now); err != nil {
			return nil, unavailable(key, err, wait)
		}
	}
	// The component takes no slot: those who hold all of them may wait for it.
	if key.Kind != Component {
		if err := s.takeSlot(ctx); err != nil {
			return nil, err
		}
		defer s.freeSlot()
	}

	began := time.Now()
	err = s.renew(ctx, from, key, current, why)
	if notAsked(err) {
		return nil, err
	}
	s.metrics.Refresh(metrics.Kind(key.Kind), string(why), time.Since(began), err)
	if err != nil {
		return nil, s.refreshFailed(ctx, key, current, why, err)
	}
	s.troubles.mended(key)
	t, err := s.published(ctx, key)
	if err == nil && why == reasonRejected {
		s.troubles.with(key, func(tr *trouble) { tr.forcedGeneration = t.Generation })
	}
	s.log.Debug("token refreshed", "kind", key.Kind.String(), "app_id", key.AppID, "reason", string(why))
	return t, err
}

// renew asks WeChat and persists the answer. An answer that could not be
// persisted is kept and persisted by the next flight, since asking again could
// lose a rotated refresh token.
func (s *Service) renew(ctx context.Context, from source, key Key, current store.Token, why reason) error {
	grant, ok := s.unsaved.take(key, current.Generation)
	if !ok {
		var err error
		if grant, err = from.fetch(ctx, key.AppID, current, why); err != nil {
			return err
		}
	}
	// What WeChat has answered is persisted even if the flight's time is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	err := from.save(ctx, key.AppID, current.Generation, grant)
	if errors.Is(err, errSuperseded) {
		return nil // by an event, which brought newer tokens
	}
	if err != nil {
		s.unsaved.put(key, current.Generation, grant)
		return fmt.Errorf("store the new token: %w", err)
	}
	return nil
}

// published is publish for a flight, where no usable token is a failure.
func (s *Service) published(ctx context.Context, key Key) (*Token, error) {
	t, err := s.publish(ctx, key)
	if err != nil {
		return nil, s.storeError(err)
	}
	if t == nil {
		return nil, &Unavailable{Detail: "the new token has already expired; check the clock of this machine", RetryAfter: time.Second}
	}
	return t, nil
}

// mayForce decides whether the refusal of the current token may force a
// refresh, and counts the refusal of a young one: somebody else refreshes too.
func (s *Service) mayForce(key Key, current store.Token, now time.Time) (allowed bool) {
	minimum := s.config.Load().MinRefreshInterval
	foreign := false
	s.troubles.with(key, func(t *trouble) {
		if now.Sub(current.RefreshedAt) < minimum && t.foreign != current.Generation {
			t.foreign = current.Generation
			foreign = true
		}
		allowed = t.mayForce(current.Generation, now, minimum)
	})
	if foreign {
		s.metrics.ForeignRefresh(metrics.Kind(key.Kind))
		s.log.Warn("WeChat refused a token it gave out a moment ago: another program with the same secret probably refreshes it too",
			"kind", key.Kind.String(), "app_id", key.AppID, "age", now.Sub(current.RefreshedAt).Round(time.Millisecond).String())
	}
	return allowed
}

// refreshFailed notes a failure and returns what callers get to see of it.
func (s *Service) refreshFailed(ctx context.Context, key Key, current store.Token, why reason, err error) error {
	if e, ok := errors.AsType[*wechat.Error](err); ok && key.Kind == Authorizer && e.Class() == wechat.ClassRefreshToken {
		if s.markReauthorize(ctx, key.AppID, current.Generation) {
			s.log.Error("refresh token is dead: the account's administrator must authorize again", "app_id", key.AppID, "error", err)
			return ErrReauthorize
		}
	}
	wait := s.troubles.failed(key, err, time.Now())
	s.log.Warn("token not refreshed", "kind", key.Kind.String(), "app_id", key.AppID, "reason", string(why),
		"error", err, "retry_after", wait.Round(time.Millisecond).String())
	return unavailable(key, err, wait)
}

func (s *Service) takeSlot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Unavailable{Detail: "too many tokens are being refreshed", RetryAfter: time.Second}
	}
}

func (s *Service) freeSlot() { <-s.slots }

// notAsked reports whether a renewal ended before WeChat was asked for the
// key's own token: that is no failure of the key.
func notAsked(err error) bool {
	if _, ok := errors.AsType[*Unavailable](err); ok {
		return true
	}
	return errors.Is(err, ErrReauthorize) || errors.Is(err, ErrUnknown) || errors.Is(err, ErrWait) || errors.Is(err, ErrNoComponent)
}

// unavailable is what callers get to see of a failed refresh: what failed and
// WeChat's errcode, never its text.
func unavailable(key Key, err error, wait time.Duration) *Unavailable {
	u := &Unavailable{RetryAfter: wait, Err: err}
	token := "the " + key.Kind.String() + "'s access token"
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		u.Code = e.Code
		u.Detail = fmt.Sprintf("WeChat refuses %s with errcode %d%s", token, e.Code, advice(e))
		return u
	}
	if _, ok := errors.AsType[*wechat.TransportError](err); ok {
		u.Detail = "WeChat's token endpoint does not answer as it should; " + token + " cannot be obtained now"
		return u
	}
	u.Detail = "the store does not work; see lingpai's log"
	return u
}

// advice says what a person can do about an errcode.
func advice(e *wechat.Error) string {
	switch e.Class() {
	case wechat.ClassOperator:
		switch e.Code {
		case 40164, 45035, 61004:
			return ": add this machine's egress address to the IP whitelist in WeChat's console"
		case 40125:
			return ": the AppSecret is wrong; check app_secret"
		}
		return ": check the app id, secret and state of the platform in WeChat's console"
	case wechat.ClassDailyQuota:
		return ": the daily quota is used up; see POST /v1/component/clear-quota"
	case wechat.ClassMinuteQuota:
		return ": too many calls this minute"
	case wechat.ClassTicket:
		return ": the component_verify_ticket is not accepted; wait for the next push, at most 10 minutes"
	case wechat.ClassNotAuthorized:
		return ": the account does not authorize this platform"
	case wechat.ClassBadToken:
		return ": check app_secret and whether another program uses the same platform"
	}
	return ""
}

// storeError passes on what callers tell apart, and turns the rest, which is a
// fault of the store, into *Unavailable.
func (s *Service) storeError(err error) error {
	if err == nil || notAsked(err) || errors.Is(err, ErrDeclined) {
		return err
	}
	s.log.Error("store", "error", err)
	return &Unavailable{Detail: "the store does not work; see lingpai's log", RetryAfter: time.Second, Err: err}
}

// unsaved keeps answers of WeChat that could not be persisted.
type unsaved struct {
	mu   sync.Mutex
	keys map[Key]unsavedGrant
}

type unsavedGrant struct {
	generation uint64 // the one it was obtained to replace
	grant      grant
}

// grant is what a fetch brings.
type grant struct {
	token        secret.String
	expiresAt    time.Time
	refreshedAt  time.Time
	refreshToken secret.String // authorizers; empty: keep the one there is
}

func (u *unsaved) take(key Key, generation uint64) (grant, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	kept, ok := u.keys[key]
	delete(u.keys, key)
	return kept.grant, ok && kept.generation == generation
}

func (u *unsaved) put(key Key, generation uint64, g grant) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.keys[key] = unsavedGrant{generation, g}
}
