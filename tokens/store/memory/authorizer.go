package memory

import (
	"context"
	"fmt"
	"slices"

	"lingpai/tokens/store"
)

// authorizers is the table of authorizers with its order and counters.
type authorizers struct {
	table[store.Authorizer]
	order  index[string]
	counts store.Counts
}

func (a *authorizers) init(codec store.Codec) {
	a.table = table[store.Authorizer]{
		kind:    "authorizer",
		records: make(map[string]store.Authorizer),
		id:      func(a *store.Authorizer) *string { return &a.AppID },
		copy: func(a store.Authorizer) store.Authorizer {
			a.Scopes = slices.Clone(a.Scopes)
			return a
		},
		encode: codec.EncodeAuthorizer,
		decode: codec.DecodeAuthorizer,
	}
	a.order.live = func(appID string) bool {
		_, ok := a.records[appID]
		return ok
	}
}

// Authorizer implements store.Store.
func (s *Store) Authorizer(ctx context.Context, appID string) (store.Authorizer, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Authorizer{}, err
	}
	return s.authorizers.read(appID)
}

// UpdateAuthorizer implements store.Store. fn runs under the lock of the store.
func (s *Store) UpdateAuthorizer(ctx context.Context, appID string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return store.Authorizer{}, err
	}
	a := &s.authorizers
	old, found, rec, err := a.update(appID, fn)
	if err != nil {
		return rec, err
	}
	if found {
		a.counts.Add(old.State, -1)
	} else {
		a.order.add(appID)
	}
	a.counts.Add(rec.State, 1)
	return rec, nil
}

// DeleteAuthorizer implements store.Store.
func (s *Store) DeleteAuthorizer(ctx context.Context, appID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	a := &s.authorizers
	old, ok := a.records[appID]
	if !ok {
		return fmt.Errorf("memory: delete authorizer %q: %w", appID, store.ErrNotFound)
	}
	delete(a.records, appID)
	a.order.removed()
	a.counts.Add(old.State, -1)
	return nil
}

// Authorizers implements store.Store. A page after new authorizers were made
// sorts these and merges them into the order, in time proportional to all there
// are; other pages only look up where they begin.
func (s *Store) Authorizers(ctx context.Context, after string, limit int) ([]store.Authorizer, error) {
	s.mu.Lock() // not RLock: page may put the order right
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	a := &s.authorizers
	var page []store.Authorizer
	for _, appID := range a.order.page(after, limit) {
		page = append(page, a.copy(a.records[appID]))
	}
	return page, nil
}

// CountAuthorizers implements store.Store.
func (s *Store) CountAuthorizers(ctx context.Context) (store.Counts, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Counts{}, err
	}
	return s.authorizers.counts, nil
}
