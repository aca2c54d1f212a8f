package tokens

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// Mirror takes the current access tokens of the platform and its authorizers to
// where other services look for them. Its methods return at once. Kinds are those
// of Kind.String.
type Mirror interface {
	// Publish has value found until shortly before expiresAt.
	Publish(kind, appID string, value secret.String, expiresAt time.Time)
	// Remove has no token found any more: the authorization has ended.
	Remove(kind, appID string)
	// Pending is how many tokens are not written yet.
	Pending() int
}

const (
	// sweepEvery lies between two publications of everything. A token is due at
	// least 7 minutes before its end, its renewal begins at the next sweep if memory
	// has no room for it, and WxJava takes one for expired 200 s before: so it finds
	// a good one always.
	sweepEvery = 2 * time.Minute
	// sweepWorkers is how many tokens that are missing are obtained at a time.
	sweepWorkers = 8
	// sweepPending is how many tokens may wait to be written in a sweep.
	sweepPending = 1 << 12
)

// mirror is the Mirror there is now.
type mirror struct {
	to      atomic.Pointer[Mirror]
	changed chan struct{}
}

// SetMirror has tokens published to m from now on; nil is nowhere. As long as
// there is a Mirror, the tokens of all active authorizers are kept valid, used or
// not: services that share them must never have to refresh one.
func (s *Service) SetMirror(m Mirror) {
	if m == nil {
		s.mirror.to.Store(nil)
	} else {
		s.mirror.to.Store(&m)
	}
	select {
	case s.mirror.changed <- struct{}{}:
	default:
	}
}

// publish passes a token on, if there is a Mirror.
func (m *mirror) publish(t *Token) {
	if to := m.to.Load(); to != nil && t.Kind() != Account {
		(*to).Publish(t.Kind().String(), t.AppID(), t.Value(), t.ExpiresAt())
	}
}

func (m *mirror) remove(key Key) {
	if to := m.to.Load(); to != nil && key.Kind != Account {
		(*to).Remove(key.Kind.String(), key.AppID)
	}
}

// runMirror publishes everything from time to time, until ctx ends: what a service
// has deleted there comes back, and tokens nobody calls for are renewed.
func (s *Service) runMirror(ctx context.Context) {
	for ctx.Err() == nil {
		if to := s.mirror.to.Load(); to != nil {
			s.sweep(ctx, *to)
		}
		timer := time.NewTimer(sweepEvery)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.mirror.changed:
		}
		timer.Stop()
	}
}

// sweep publishes the tokens of all that are active.
func (s *Service) sweep(ctx context.Context, to Mirror) {
	if key, ok := s.ComponentKey(); ok && s.Obtainable(ctx) == nil {
		s.publishKept(ctx, key)
	}
	for after := ""; ctx.Err() == nil; {
		page, err := s.store.Authorizers(ctx, after, listPage)
		if err != nil || len(page) == 0 {
			if err != nil && ctx.Err() == nil {
				s.log.Warn("tokens are not published for other services, trying again", "error", err)
			}
			return
		}
		workers := errgroup.Group{}
		workers.SetLimit(sweepWorkers)
		for _, a := range page {
			if a.State == store.StateActive {
				workers.Go(func() error {
					s.publishKept(ctx, Key{Authorizer, a.AppID})
					return nil
				})
			}
		}
		workers.Wait()
		for to.Pending() > sweepPending && ctx.Err() == nil {
			sleep(ctx, time.Second)
		}
		after = page[len(page)-1].AppID
	}
}

// publishKept publishes the token of key, after having obtained one if there is
// none. It is renewed ahead of its end, as one in use.
func (s *Service) publishKept(ctx context.Context, key Key) {
	t, err := s.Token(ctx, key)
	if err != nil {
		s.log.Debug("no token to publish", "kind", key.Kind.String(), "app_id", key.AppID, "error", err)
		return
	}
	s.mirror.publish(t)
}

// ForeignToken says that a service with which tokens are shared has put another
// one in the place of key's: held. Unless that is the current one all the same,
// the service has refreshed it, and lingpai's own will die.
func (s *Service) ForeignToken(ctx context.Context, key Key, held secret.String) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stored, _, err := s.source(key.Kind).stored(ctx, key.AppID)
	if err != nil || stored.Value.Equal(held) {
		return
	}
	s.metrics.ForeignRefresh(metrics.Kind(key.Kind))
	s.log.Warn("a service that shares this token has refreshed it by itself: point it at lingpai, or take app secret and refresh tokens from it",
		"kind", key.Kind.String(), "app_id", key.AppID)
	if !s.begin() {
		return
	}
	go func() {
		defer s.work.Done()
		if _, err := s.await(s.base, key, stored.Generation, reasonRejected); err != nil {
			s.log.Debug("token not replaced after a foreign refresh", "kind", key.Kind.String(), "app_id", key.AppID, "error", err)
		}
	}()
}
