package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// A migration takes the records from one schema to the next. It may be
// interrupted and run again, and sidecars of the former version may still write
// while it runs: from its end on they are refused.
type migration func(ctx context.Context, s *Store) error

// migrations[i] takes records from schema i+1 to i+2. None is ever removed.
var migrations []migration

// migrationLease is how long one sidecar has for one migration.
const migrationLease = 10 * time.Minute

var errForeign = errors.New("the schema key is not lingpai's")

// otherSchema is the error for a schema that is not the present one.
func (s *Store) otherSchema(found string) error {
	n, err := strconv.ParseUint(found, 10, 32)
	switch present := uint64(len(s.migrations) + 1); {
	case err != nil || n == 0:
		return errForeign
	case n > present:
		return fmt.Errorf("schema %d, this lingpai knows up to %d: %w", n, present, store.ErrNewer)
	default:
		return fmt.Errorf("schema %d came back in the place of %d: restart to migrate", n, present)
	}
}

// prepare makes sure that the records have the present schema.
func (s *Store) prepare(ctx context.Context) error {
	for {
		found, err := s.schema(ctx)
		if err != nil || found == len(s.migrations)+1 {
			return err
		}
		err = s.migrate(ctx, found)
		if errors.Is(err, store.ErrLeased) {
			// Another sidecar is at it.
			t := time.NewTimer(200 * time.Millisecond)
			select {
			case <-t.C:
				continue
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			}
		}
		if err != nil {
			return fmt.Errorf("migrate from schema %d: %w", found, err)
		}
	}
}

// schema writes the present schema where there is none and returns the one that
// is there, which is not newer.
func (s *Store) schema(ctx context.Context) (int, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	if s.readOnly {
		found, err := s.foundSchema(ctx)
		if err == nil && found < len(s.migrations)+1 {
			err = fmt.Errorf("schema %d: a sidecar that may write has to migrate it first", found)
		}
		return found, err
	}
	// Nothing but the preamble may write here: a migration may be needed.
	if _, err := s.do(ctx, s.client.B().Set().Key(s.keys.schema).Value(s.version).Nx().Build()); err != nil && !rueidis.IsRedisNil(err) {
		return 0, err
	}
	text, found, err := s.bytes(ctx, s.keys.schema)
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, errAnswer
	}
	return s.parseSchema(text)
}

// parseSchema refuses what is no schema that is known here.
func (s *Store) parseSchema(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || n > uint64(len(s.migrations)+1) {
		return 0, s.otherSchema(text)
	}
	return int(n), nil
}

// foundSchema returns the schema that is there, the present one if there are no
// records yet.
func (s *Store) foundSchema(ctx context.Context) (int, error) {
	text, found, err := s.bytes(ctx, s.keys.schema)
	if err != nil {
		return 0, err
	}
	if !found {
		return len(s.migrations) + 1, nil
	}
	return s.parseSchema(text)
}

// migrate runs the one migration that begins at found, or returns ErrLeased.
func (s *Store) migrate(ctx context.Context, found int) (err error) {
	lease, err := s.Lease(ctx, "migration", migrationLease)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lease.Release(context.WithoutCancel(ctx))) }()
	// Between the look at the schema and the lease another may have done it.
	if now, err := s.schema(ctx); err != nil || now != found {
		return err
	}
	if err := s.migrations[found-1](ctx, s); err != nil {
		return err
	}
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = s.swap(ctx, s.keys.schema, strconv.Itoa(found), strconv.Itoa(found+1))
	return err
}

// swap puts next in the place of old, "" for absent, and says whether old was
// there.
func (s *Store) swap(ctx context.Context, key, old, next string) (bool, error) {
	m, err := s.exec(ctx, func(ctx context.Context) rueidis.RedisResult {
		return swapScript.Exec(ctx, s.client, []string{key}, []string{old, next})
	})
	if err != nil {
		return false, err
	}
	n, err := m.AsInt64()
	if err != nil {
		return false, errAnswer
	}
	return n == 1, nil
}

// mark notes the key that the codec encrypts with, before anything is written,
// and makes sure that it has all keys of the values. A server that lost its data
// has no mark until the next Open; a missing key is then found by the first read.
func (s *Store) mark(ctx context.Context) error {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	for range maxAttempts {
		text, found, err := s.bytes(ctx, s.keys.encryption)
		if err != nil {
			return err
		}
		var have []byte
		if found {
			have = []byte(text)
		}
		next, err := s.codec.Mark(have)
		if err != nil || string(next) == text || s.readOnly {
			return err
		}
		if swapped, err := s.swap(ctx, s.keys.encryption, text, string(next)); err != nil || swapped {
			return err
		}
	}
	return errContended
}

// ForgetKeys has the store know of no key but the one that the codec encrypts with:
// all records have been written with it.
func (s *Store) ForgetKeys(ctx context.Context) error {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return fmt.Errorf("redis: forget keys: %w", err)
	}
	defer done()
	only, err := s.codec.Mark(nil)
	switch {
	case err != nil:
	case len(only) == 0:
		_, err = s.do(ctx, s.client.B().Del().Key(s.keys.encryption).Build())
	default:
		_, err = s.do(ctx, s.client.B().Set().Key(s.keys.encryption).Value(string(only)).Build())
	}
	if err != nil {
		return fmt.Errorf("redis: forget keys: %w", err)
	}
	return nil
}
