// Package memory keeps lingpai's records in memory only: for tests, and for
// store.kind memory, where a restart loses every refresh token and ticket.
package memory

import (
	"context"
	"fmt"
	"sync"

	"lingpai/tokens/store"
)

// Store is a store.Store in memory. Create it with New. Its methods are safe
// for concurrent use. Records are written through the codec of package store,
// so that this store refuses and normalizes exactly what one on disk does.
type Store struct {
	mu          sync.RWMutex
	closed      bool
	components  table[store.Component]
	accounts    table[store.Account]
	authorizers authorizers
	pushes      pushes
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	s := &Store{components: components(), accounts: accounts()}
	s.authorizers.init()
	s.pushes.init()
	return s
}

// Component implements store.Store.
func (s *Store) Component(ctx context.Context, appID string) (store.Component, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Component{}, err
	}
	return s.components.read(appID)
}

// UpdateComponent implements store.Store. fn runs under the lock of the store.
func (s *Store) UpdateComponent(ctx context.Context, appID string, fn func(*store.Component) error) (store.Component, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return store.Component{}, err
	}
	_, _, rec, err := s.components.update(appID, fn)
	return rec, err
}

// Account implements store.Store.
func (s *Store) Account(ctx context.Context, appID string) (store.Account, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Account{}, err
	}
	return s.accounts.read(appID)
}

// UpdateAccount implements store.Store. fn runs under the lock of the store.
func (s *Store) UpdateAccount(ctx context.Context, appID string, fn func(*store.Account) error) (store.Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return store.Account{}, err
	}
	_, _, rec, err := s.accounts.update(appID, fn)
	return rec, err
}

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.usable(ctx)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("memory: %w", store.ErrClosed)
	}
	s.closed = true
	return nil
}

// usable is called with the lock held.
func (s *Store) usable(ctx context.Context) error {
	if s.closed {
		return fmt.Errorf("memory: %w", store.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	return nil
}
