package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/store"
)

// turnPoll is how often one that waits for another process's refresh looks at
// the store though no notice came.
const turnPoll = 250 * time.Millisecond

// turn is the right to ask WeChat for a key. The zero value is that of a process
// that is alone with its store: its flights suffice.
type turn struct {
	service *Service
	lease   store.Lease
}

// turnTime is how long a turn lasts at most: longer than the calls in it and the
// write that follows, so that a process that dies in its turn keeps others from
// asking until WeChat has done with its call.
func turnTime(c *Config, kind Kind) time.Duration {
	calls := c.RefreshTimeout
	if kind == Account {
		calls *= 2 // see accountSource.fetch
	}
	return calls + storeTimeout + time.Second
}

// takeTurn waits for the turn to ask for key. errSuperseded means that the token
// is not current any more: another process has done what was to be done. Waiters
// wait for that, not for the lease.
func (s *Service) takeTurn(ctx context.Context, from source, key Key, current store.Token) (turn, error) {
	if s.shared == nil {
		return turn{}, nil
	}
	if key.Kind == Authorizer {
		// Before the turn, not in it: others' component may take a while.
		if _, err := s.ComponentToken(ctx); err != nil {
			return turn{}, err
		}
	}
	lost := false
	for {
		changed, forget := s.signals.wait(key)
		t, err := s.tryTurn(ctx, from, key, current, &lost)
		if !errors.Is(err, store.ErrLeased) {
			forget()
			return t, err
		}
		timer := time.NewTimer(turnPoll)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			err = ErrWait
		}
		timer.Stop()
		forget()
		if errors.Is(err, ErrWait) {
			return turn{}, fmt.Errorf("%s: %w", key, ErrWait)
		}
		if s.superseded(ctx, from, key, current) {
			return turn{}, errSuperseded
		}
	}
}

// tryTurn takes the turn if nobody has it; else the error is ErrLeased.
func (s *Service) tryTurn(ctx context.Context, from source, key Key, current store.Token, lost *bool) (turn, error) {
	lease, err := s.shared.Lease(ctx, "refresh/"+key.String(), turnTime(s.config.Load(), key.Kind))
	switch {
	case errors.Is(err, store.ErrLeased):
		if !*lost {
			s.metrics.Lease(metrics.LeaseLost)
		}
		*lost = true
		return turn{}, err
	case err != nil:
		s.metrics.Lease(metrics.LeaseError)
		return turn{}, s.storeError(err)
	}
	s.metrics.Lease(metrics.LeaseWon)
	t := turn{s, lease}
	// Whoever had the turn before may have done it.
	if s.superseded(ctx, from, key, current) {
		t.end()
		return turn{}, errSuperseded
	}
	if err := s.learnTrouble(ctx, key, current); err != nil {
		t.end()
		return turn{}, s.storeError(err)
	}
	return t, nil
}

// superseded reports whether the stored token is another than current, or can
// not be had any more; the flight then finds out which.
func (s *Service) superseded(ctx context.Context, from source, key Key, current store.Token) bool {
	stored, _, err := from.stored(ctx, key.AppID)
	return err != nil || stored.Generation != current.Generation
}

// end gives the turn to whoever wants it. It does not wait for the store: the
// lease ends by itself.
func (t turn) end() {
	if t.lease != nil {
		t.service.release(t.lease)
	}
}

// release gives up a lease in the background, as work that Close waits for.
func (s *Service) release(lease store.Lease) {
	release := func() {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		defer cancel()
		if err := lease.Release(ctx); err != nil {
			s.log.Debug("a lease is left to end by itself", "error", err)
		}
	}
	if !s.begin() {
		release()
		return
	}
	go func() {
		defer s.work.Done()
		release()
	}()
}

// signals wakes those who wait for another process to change a key.
type signals struct {
	mu      sync.Mutex
	waiting map[Key]*signal
}

type signal struct {
	changed chan struct{}
	waiters int
}

// wait returns a channel that is closed by the next change of key. forget must
// be called once.
func (s *signals) wait(key Key) (changed <-chan struct{}, forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = map[Key]*signal{}
	}
	on := s.waiting[key]
	if on == nil {
		on = &signal{changed: make(chan struct{})}
		s.waiting[key] = on
	}
	on.waiters++
	return on.changed, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if on.waiters--; on.waiters == 0 && s.waiting[key] == on {
			delete(s.waiting, key)
		}
	}
}

// changed wakes those who wait for key, and reports whether anybody did.
func (s *signals) changed(key Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	on, ok := s.waiting[key]
	if ok {
		delete(s.waiting, key)
		close(on.changed)
	}
	return ok
}
