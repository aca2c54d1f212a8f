package tokens

import (
	"context"
	"errors"
	"sync"
	"time"

	"lingpai/tokens/store"
)

// watch keeps memory in step with what other processes write, until ctx ends.
func (s *Service) watch(ctx context.Context) {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := s.shared.Watch(ctx, func(c store.Change) { s.changedElsewhere(ctx, c) }, func() {
			failures = 0
			s.missedChanges(ctx)
		})
		if ctx.Err() == nil {
			s.log.Error("changes by other sidecars are not noticed, trying again", "error", err)
			sleep(ctx, backoff(err, failures, time.Now(), jitter()))
		}
	}
}

// changedElsewhere takes over what another process has written.
func (s *Service) changedElsewhere(ctx context.Context, c store.Change) {
	key := Key{AppID: c.AppID}
	switch c.Kind {
	case store.ChangedPushes:
		s.events.signal()
		if s.hooks.Pushes != nil {
			s.hooks.Pushes()
		}
		return
	case store.ChangedWanted:
		s.wantedElsewhere(c.AppID)
		return
	case store.ChangedComponent:
		s.componentChanged(ctx, c.AppID)
		return
	case store.ChangedAccount:
		key.Kind = Account
	case store.ChangedAuthorizer:
		key.Kind = Authorizer
	default:
		return
	}
	s.troubles.mended(key)
	if s.memory.get(key) != nil {
		s.refreshMemory(ctx, key)
	}
	s.signals.changed(key)
}

// componentChanged is changedElsewhere for the platform, whose record changes
// with its ticket too.
func (s *Service) componentChanged(ctx context.Context, appID string) {
	key := Key{Component, appID}
	if own, ok := s.ComponentKey(); !ok || own != key {
		return
	}
	before := s.memory.get(key)
	s.refreshMemory(ctx, key)
	if after := s.memory.get(key); after != nil && (before == nil || before.Generation != after.Generation) {
		s.troubles.mended(key)
		s.troubles.mendedComponent()
	}
	s.troubles.mendedTicket(key)
	if record, ok := s.survivors.component(); ok {
		s.metrics.VerifyTicket(record.TicketReceivedAt)
	}
	s.signals.changed(key)
}

// refreshMemory makes memory hold what the store has of key. If the store cannot
// be read, the token is looked up again when it is used.
func (s *Service) refreshMemory(ctx context.Context, key Key) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if _, err := s.publish(ctx, key); err != nil && !noToken(err) {
		s.memory.doubtLater()
	}
}

// missedChanges is called when changes may have been missed: nothing that memory
// has is used before the store was asked again.
func (s *Service) missedChanges(ctx context.Context) {
	now, err := s.shared.Identity(ctx)
	for failures := 1; err != nil && !errors.Is(err, store.ErrNotFound) && ctx.Err() == nil; failures++ {
		sleep(ctx, backoff(err, failures, time.Now(), jitter()))
		now, err = s.shared.Identity(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		if before := s.identity.Load(); before != nil && *before != now {
			s.recordsLost(ctx)
		}
		s.identity.Store(&now) // see unnoticedLoss
	}
	s.memory.epoch.Add(1)
	if s.lost.Load() {
		select {
		case s.emptied <- struct{}{}:
		default:
		}
	}
	s.events.signal()
	if s.hooks.Pushes != nil {
		s.hooks.Pushes()
	}
	s.saveUnsaved()
	if key, ok := s.ComponentKey(); ok {
		s.componentChanged(ctx, key.AppID)
	}
}

// unnoticedLoss reports whether the store has lost its records and recordsLost was
// not called yet.
func (s *Service) unnoticedLoss(ctx context.Context) bool {
	if s.shared == nil {
		return false
	}
	now, err := s.shared.Identity(ctx)
	before := s.identity.Load()
	return err != nil || before != nil && *before != now
}

// recordsLost is called when the store has lost its records, as a Redis that was
// restarted empty has. Tokens in memory serve on, the platform's record comes back
// from memory, and the authorizers' from WeChat's list.
func (s *Service) recordsLost(ctx context.Context) {
	s.memory.era.Add(1)
	if s.config.Load().Follower {
		s.log.Error("the store has lost its records: tokens in memory serve on until others have filled it again")
		return
	}
	s.log.Error("the store has lost its records: the authorizers are read from WeChat's list; " +
		"make the store durable (Redis: appendonly yes, appendfsync always)")
	s.lost.Store(true)
	if record, ok := s.survivors.component(); ok {
		s.restoreComponent(ctx, record)
	}
}

// restoreComponent writes the platform's record back, as far as it is newer than
// what others have written meanwhile.
func (s *Service) restoreComponent(ctx context.Context, record store.Component) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := s.store.UpdateComponent(ctx, record.AppID, func(c *store.Component) error {
		changed := false
		if record.TicketCreatedAt.After(c.TicketCreatedAt) {
			c.Ticket, c.TicketCreatedAt, c.TicketReceivedAt = record.Ticket, record.TicketCreatedAt, record.TicketReceivedAt
			changed = true
		}
		if record.Token.Generation > c.Token.Generation && record.Token.RefreshedAt.After(c.Token.RefreshedAt) {
			c.Token = record.Token
			changed = true
		}
		if !changed {
			return store.ErrUnchanged
		}
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrUnchanged) {
		s.log.Error("ticket and token of the platform cannot be written back", "error", err)
	}
}

// saveUnsaved begins flights that persist what WeChat has answered while the
// store failed.
func (s *Service) saveUnsaved() {
	for key, generation := range s.unsaved.all() {
		if !s.begin() {
			return
		}
		go func() {
			defer s.work.Done()
			if _, err := s.await(s.base, key, generation, reasonExpiring); err != nil {
				s.log.Debug("a new token is not stored yet", "kind", key.Kind.String(), "app_id", key.AppID, "error", err)
			}
		}()
	}
}

// survivors keeps what is needed when a shared store loses its records.
type survivors struct {
	mu     sync.Mutex
	record store.Component
}

// keep notes the platform's record as the store has it now.
func (s *survivors) keep(record store.Component) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A record that was just begun anew is not the one to come back.
	if s.record.AppID == record.AppID && record.Token.Generation < s.record.Token.Generation {
		record.Token = s.record.Token
	}
	if s.record.AppID == record.AppID && record.TicketCreatedAt.Before(s.record.TicketCreatedAt) {
		record.Ticket, record.TicketCreatedAt, record.TicketReceivedAt = s.record.Ticket, s.record.TicketCreatedAt, s.record.TicketReceivedAt
	}
	s.record = record
}

func (s *survivors) component() (store.Component, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record, s.record.AppID != ""
}
