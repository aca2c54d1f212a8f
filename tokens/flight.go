package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lingpai/metrics"
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

// flightTimeout bounds a flight: the wait for a slot, the component's token and
// the call, and both once more if WeChat refuses that token.
func flightTimeout(c *Config) time.Duration {
	return c.RefreshTimeout + 2*(c.WaitTimeout+c.RefreshTimeout) + storeTimeout
}

// await joins the one flight of key and waits for a token of a generation other
// than stale, at most WaitTimeout and no longer than ctx. A caller that
// leaves does not end the flight.
func (s *Service) await(ctx context.Context, key Key, stale uint64, why reason) (*Token, error) {
	timeout := s.config.Load().WaitTimeout
	if why == reasonExpiring || why == reasonManual {
		timeout = flightTimeout(s.config.Load()) // nobody's call hangs on it
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := ErrDeclined
	// A flight joined may have begun for an older generation or for a lesser
	// reason than ours: its result is then no news, and the next flight is ours.
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
			if err = result.Err; err == nil {
				if t := result.Val.(*Token); t.Generation != stale {
					return t, nil
				}
				err = ErrDeclined
			} else if led || why == reasonRejected || why != reasonManual && !errors.Is(err, ErrDeclined) {
				return nil, err
			}
		case <-ctx.Done():
			if s.config.Load().Follower {
				return nil, s.notBrought(key)
			}
			return nil, fmt.Errorf("%s: %w", key, ErrWait)
		}
	}
	return nil, err
}

// maxTurns is how often a flight begins anew because what it had begun with was
// superseded.
const maxTurns = 3

// refresh is the body of a flight: look again in the store, ask WeChat if that
// has nothing newer than stale, persist, publish.
//
// The second look is needed: a caller finds memory empty, another's flight ends
// and publishes, and only then the first caller begins a flight of its own.
func (s *Service) refresh(key Key, stale uint64, why reason) (*Token, error) {
	if !s.begin() {
		return nil, stopping
	}
	defer s.work.Done()
	ctx, cancel := context.WithTimeout(s.base, flightTimeout(s.config.Load()))
	defer cancel()

	if s.config.Load().Follower {
		return s.follow(ctx, key, stale, why)
	}
	from := s.source(key.Kind)
	overtaken, begun := false, false // begun: it was found that WeChat may be asked
	for range maxTurns {
		current, _, err := from.stored(ctx, key.AppID)
		if err != nil {
			return nil, s.storeError(err)
		}
		now := time.Now()
		if current.Generation != stale && usable(current, now) && !overtaken {
			break
		}
		if err := s.mayTry(key, current, why, now); err != nil && !begun {
			return nil, err
		}
		t, err := s.inTurn(ctx, from, key, current, why, begun)
		overtaken = errors.Is(err, errOvertaken)
		begun = overtaken || errors.Is(err, errComponentReplaced)
		if !begun && !errors.Is(err, errSuperseded) {
			return t, err
		}
	}
	return s.published(ctx, key)
}

// inTurn asks WeChat when it is this process's turn to do so for key.
// errSuperseded, errOvertaken and errComponentReplaced mean that the flight has to
// look at the store again.
func (s *Service) inTurn(ctx context.Context, from source, key Key, current store.Token, why reason, begun bool) (*Token, error) {
	// The component takes no slot: those who hold all of them may wait for it.
	if key.Kind != Component {
		if err := s.takeSlot(ctx, s.config.Load().RefreshTimeout); err != nil {
			return nil, err
		}
		defer s.freeSlot()
	}
	turn, err := s.takeTurn(ctx, from, key, current)
	if err != nil {
		return nil, err
	}
	defer turn.end()
	if err := s.mayAsk(key, current, why, time.Now()); err != nil && !begun {
		return nil, err
	}
	t, err := s.ask(ctx, from, key, current, why)
	s.tellTrouble(ctx, key, current, why, err)
	return t, err
}

// stopping is what is answered when no flight is begun any more.
var stopping = &Unavailable{Detail: "lingpai is stopping", RetryAfter: time.Second}

// mayTry returns an error if mayAsk would, as far as this process knows; then
// there is no use in waiting for a turn.
func (s *Service) mayTry(key Key, current store.Token, why reason, now time.Time) error {
	refused := why == reasonRejected && usable(current, now)
	if refused {
		s.noteForeign(key, current, now)
	}
	if why != reasonManual {
		if wait, err := s.troubles.blocked(key, now); err != nil {
			return unavailable(key, err, wait)
		}
	}
	if refused && !s.troubles.wouldForce(key, current.Generation, now, s.config.Load().MinRefreshInterval) {
		return ErrDeclined
	}
	return nil
}

// mayAsk returns nil if WeChat may be asked for a token in place of current. A
// token that has ended is missing, whatever was refused.
func (s *Service) mayAsk(key Key, current store.Token, why reason, now time.Time) error {
	if why != reasonManual {
		if wait, err := s.troubles.blocked(key, now); err != nil {
			return unavailable(key, err, wait)
		}
	}
	if why == reasonRejected && usable(current, now) && !s.mayForce(key, current.Generation, now) {
		return ErrDeclined
	}
	return nil
}

// ask has WeChat asked for a token in place of current, and publishes it.
func (s *Service) ask(ctx context.Context, from source, key Key, current store.Token, why reason) (*Token, error) {
	config := s.config.Load()
	began := time.Now()
	err := s.renew(ctx, from, key, current, why)
	if notAsked(err) || errors.Is(err, errComponentReplaced) {
		return nil, err
	}
	if errors.Is(err, errSuperseded) || errors.Is(err, errOvertaken) {
		s.metrics.Refresh(metrics.Kind(key.Kind), string(why), time.Since(began), nil)
		return nil, err
	}
	s.metrics.Refresh(metrics.Kind(key.Kind), string(why), time.Since(began), err)
	if err != nil {
		return nil, s.refreshFailed(ctx, config, from, key, current, why, err)
	}
	s.troubles.mended(key)
	if key.Kind == Component {
		s.troubles.mendedComponent()
	}
	// What is persisted is published even if the flight's time is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	t, err := s.published(ctx, key)
	if err != nil {
		return nil, err
	}
	if why == reasonRejected {
		s.troubles.with(key, func(tr *trouble) { tr.forcedGeneration = t.Generation })
	}
	s.log.Debug("token refreshed", "kind", key.Kind.String(), "app_id", key.AppID, "reason", string(why))
	return t, nil
}

// renew asks WeChat and persists the answer. An answer that could not be
// persisted is kept and persisted by the next flight, since asking again could
// lose a rotated refresh token. errOvertaken means that the stored token has
// changed meanwhile, errSuperseded that the answer kept has expired.
func (s *Service) renew(ctx context.Context, from source, key Key, current store.Token, why reason) error {
	brought, kept := s.unsaved.take(key, current.Generation)
	if !kept {
		var err error
		if brought, err = from.fetch(ctx, key.AppID, current, why); err != nil {
			return err
		}
	}
	// What WeChat has answered is persisted even if the flight's time is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	err := from.save(ctx, key.AppID, current.Generation, brought)
	if err != nil && !errors.Is(err, errOvertaken) {
		s.unsaved.put(key, current.Generation, brought)
		return fmt.Errorf("store the new token: %w", err)
	}
	if err == nil && kept && !time.Now().Before(brought.expiresAt) {
		return errSuperseded
	}
	return err
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

// noteForeign counts the refusal of a young token, once for each: somebody else
// refreshes too.
func (s *Service) noteForeign(key Key, current store.Token, now time.Time) {
	age := now.Sub(current.RefreshedAt)
	if age >= s.config.Load().MinRefreshInterval {
		return
	}
	foreign := false
	s.troubles.with(key, func(t *trouble) {
		foreign = t.foreign != current.Generation
		t.foreign = current.Generation
	})
	if foreign {
		s.metrics.ForeignRefresh(metrics.Kind(key.Kind))
		s.log.Warn("WeChat refused a token it gave out a moment ago: another program with the same secret probably refreshes it too",
			"kind", key.Kind.String(), "app_id", key.AppID, "age", age.Round(time.Millisecond).String())
	}
}

// mayForce decides whether the refusal of the current token may force a
// refresh now.
func (s *Service) mayForce(key Key, generation uint64, now time.Time) (allowed bool) {
	minimum := s.config.Load().MinRefreshInterval
	s.troubles.with(key, func(t *trouble) { allowed = t.mayForce(generation, now, minimum) })
	return allowed
}

// refreshFailed notes a failure and returns what callers get to see of it;
// errSuperseded if it speaks of what is no longer so.
func (s *Service) refreshFailed(ctx context.Context, config *Config, from source, key Key, current store.Token, why reason, err error) error {
	if s.config.Load() != config {
		return errSuperseded // with a secret, say, that has been changed
	}
	switch stored, _, storeErr := from.stored(ctx, key.AppID); {
	case noToken(storeErr):
		return storeErr // an event ended the authorization meanwhile
	case storeErr == nil && stored.Generation != current.Generation:
		return errSuperseded // an event has brought another refresh token
	}
	if key.Kind == Authorizer {
		if settled := s.authorizationFailed(ctx, key.AppID, current.Generation, err); settled != nil {
			return settled
		}
	}
	wait := s.troubles.failed(key, err, time.Now())
	s.log.Warn("token not refreshed", "kind", key.Kind.String(), "app_id", key.AppID, "reason", string(why),
		"error", err, "retry_after", wait.Round(time.Millisecond).String())
	return unavailable(key, err, wait)
}

// authorizationFailed looks into WeChat's list if an error says that an account's
// authorization has ended or that its refresh token is dead. errSuperseded means
// that the list had a better one; ErrReauthorize that there is none; nil that
// nothing is settled, and the key backs off.
func (s *Service) authorizationFailed(ctx context.Context, appID string, generation uint64, err error) error {
	class := classOf(err)
	if class != wechat.ClassRefreshToken && class != wechat.ClassNotAuthorized {
		return nil
	}
	verdict := s.judge(ctx, appID, generation)
	switch {
	case verdict == verdictHealed:
		return errSuperseded
	case verdict == verdictAbsent && s.markUnauthorized(ctx, appID, generation):
		s.log.Error("the account does not authorize the platform any more: it is not in WeChat's list", "app_id", appID, "error", err)
		return ErrReauthorize
	case verdict == verdictListed && class == wechat.ClassRefreshToken && s.markReauthorize(ctx, appID, generation):
		s.log.Error("refresh token is dead: the account's administrator must authorize again", "app_id", appID, "error", err)
		return ErrReauthorize
	}
	return nil
}

// takeSlot waits for leave to call a token endpoint, not so long that no time
// for the call is left.
func (s *Service) takeSlot(ctx context.Context, timeout time.Duration) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default: // only who waits needs a timer
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Unavailable{Detail: "too many tokens are being refreshed", RetryAfter: time.Second}
	}
}

func (s *Service) freeSlot() { <-s.slots }
