// Package memory keeps lingpai's records in memory only: for tests, and for
// store.kind memory, where a restart loses every refresh token and ticket.
package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"lingpai/tokens/store"
)

// Store is a store.Store in memory. Create it with New. Its methods are safe
// for concurrent use. Records are written through the codec of package store,
// so that this store refuses and normalizes exactly what one on disk does.
type Store struct {
	codec       store.Codec
	mu          sync.RWMutex
	closed      bool
	components  table[store.Component]
	accounts    table[store.Account]
	authorizers authorizers
	pushes      pushes
	deliveries  deliveries
}

var (
	_ store.Store  = (*Store)(nil)
	_ store.Lister = (*Store)(nil)
)

// Options of Open.
type Options struct {
	// Codec is what records are written through. It decides nothing here: the
	// records themselves lie in the memory of the process that has its keys.
	Codec store.Codec
}

// New returns an empty store.
func New() *Store { return Open(Options{}) }

// Open is New with options.
func Open(opts Options) *Store {
	s := &Store{codec: opts.Codec, components: components(opts.Codec), accounts: accounts(opts.Codec)}
	s.authorizers.init(opts.Codec)
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

// ComponentIDs implements store.Lister.
func (s *Store) ComponentIDs(ctx context.Context) ([]string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.components.records)), s.usable(ctx)
}

// AccountIDs implements store.Lister.
func (s *Store) AccountIDs(ctx context.Context) ([]string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.accounts.records)), s.usable(ctx)
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
