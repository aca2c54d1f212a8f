package bolt

import (
	"context"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

// begin starts an operation, of which the end is s.under.Done.
func (s *Store) begin(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.under.Add(1)
	return nil
}

// view runs fn in a read transaction.
func (s *Store) view(ctx context.Context, fn func(*bbolt.Tx) error) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.under.Done()
	return s.db.View(fn)
}

// write runs fn in a write transaction that it may share with other calls, and
// returns when that is on disk.
//
// fn says whether it wrote anything. It may be called more than once, each time
// after everything of the call before was undone; what it leaves in variables
// of its caller counts only if write returns nil, since only then the
// transaction it was read from exists.
func (s *Store) write(ctx context.Context, fn func(*bbolt.Tx) (wrote bool, err error)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.under.Done()
	var refused error
	err := s.db.Batch(func(tx *bbolt.Tx) error {
		// The wait for the transaction before can be long.
		if refused = ctx.Err(); refused != nil {
			return nil
		}
		wrote, err := fn(tx)
		if err != nil && !wrote {
			// An error given to Batch undoes the whole transaction, and all
			// other calls in it run again: with many such errors, many times.
			// Where nothing was written there is nothing to undo.
			refused = err
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return refused
}
