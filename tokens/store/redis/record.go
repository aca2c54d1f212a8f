package redis

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// maxAttempts bounds how often an update is begun. The updates of one process
// take turns, and each attempt that fails means that another process succeeded.
const maxAttempts = 64

var errContended = errors.New("others kept writing this record")

// Component implements store.Store.
func (s *Store) Component(ctx context.Context, appID string) (store.Component, error) {
	return get(ctx, s, &components, appID)
}

// UpdateComponent implements store.Store.
func (s *Store) UpdateComponent(ctx context.Context, appID string, fn func(*store.Component) error) (store.Component, error) {
	return update(ctx, s, &components, appID, fn)
}

// Account implements store.Store.
func (s *Store) Account(ctx context.Context, appID string) (store.Account, error) {
	return get(ctx, s, &accounts, appID)
}

// UpdateAccount implements store.Store.
func (s *Store) UpdateAccount(ctx context.Context, appID string, fn func(*store.Account) error) (store.Account, error) {
	return update(ctx, s, &accounts, appID, fn)
}

func get[R any](ctx context.Context, s *Store, t *table[R], appID string) (rec R, err error) {
	var none R
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return none, fmt.Errorf("redis: %s %q: %w", t.kind, appID, err)
	}
	defer done()
	data, found, err := s.bytes(ctx, s.keys.record(t.kind, appID))
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err == nil {
		rec, err = t.read(s.codec, appID, data)
	}
	if err != nil {
		return none, fmt.Errorf("redis: %s %q: %w", t.kind, appID, err)
	}
	return rec, nil
}

// bytes reads the string at key.
func (s *Store) bytes(ctx context.Context, key string) (data string, found bool, err error) {
	m, err := s.do(ctx, s.client.B().Get().Key(key).Build())
	if rueidis.IsRedisNil(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if data, err = m.ToString(); err != nil {
		return "", false, errAnswer
	}
	return data, true, nil
}

// appendRecords reads what the names of a page stand for, in one command, and
// leaves out what was deleted since they were read.
func appendRecords[R any](ctx context.Context, s *Store, page []R, names []string, command rueidis.Completed, decode func(name, data string) (R, error)) ([]R, error) {
	m, err := s.do(ctx, command)
	if err != nil {
		return nil, err
	}
	values, err := m.ToArray()
	if err != nil || len(values) != len(names) {
		return nil, errAnswer
	}
	for i, value := range values {
		if value.IsNil() {
			continue
		}
		data, err := value.ToString()
		if err != nil {
			return nil, errAnswer
		}
		r, err := decode(names[i], data)
		if err != nil {
			return nil, err
		}
		page = append(page, r)
	}
	return page, nil
}

// update does what package store says of an Update method. The error of fn is
// returned as it is.
func update[R any](ctx context.Context, s *Store, t *table[R], appID string, fn func(*R) error) (R, error) {
	var none R
	fail := func(err error) (R, error) {
		return none, fmt.Errorf("redis: update %s %q: %w", t.kind, appID, err)
	}
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return fail(err)
	}
	defer done()
	key := s.keys.record(t.kind, appID)
	pass, err := s.turn(ctx, key)
	if err != nil {
		return fail(err)
	}
	defer pass()
	data, found, err := s.bytes(ctx, key)
	if err != nil {
		return fail(err)
	}
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return fail(err)
			}
		}
		var old, next R
		*t.id(&old), *t.id(&next) = appID, appID
		if found {
			// Read twice: fn may change or keep what it gets.
			if old, err = t.read(s.codec, appID, data); err != nil {
				return fail(err)
			}
			if next, err = t.read(s.codec, appID, data); err != nil {
				return fail(err)
			}
		}
		if err := fn(&next); err != nil {
			if errors.Is(err, store.ErrUnchanged) {
				return old, err
			}
			return none, err
		}
		*t.id(&next) = appID
		newData, err := t.encode(s.codec, next)
		if err != nil {
			return fail(err)
		}
		// What is returned is what a read would give.
		rec, err := t.read(s.codec, appID, string(newData))
		if err != nil {
			return fail(err)
		}
		was := ""
		if found {
			was = t.state(old)
		}
		out, err := s.runNotice(ctx, updateScript, s.notice(t.kind, appID), []string{key, s.keys.index(t.kind), s.keys.counts},
			flag(found), data, string(newData), appID, was, t.state(rec))
		if err != nil {
			return fail(err)
		}
		if out.done {
			return rec, nil
		}
		if data, found, err = out.text(0); err != nil {
			return fail(err)
		}
	}
	return fail(errContended)
}

var turnSeed = maphash.MakeSeed()

// turn waits until no other update of this process is at key, or at one that
// shares its turn.
func (s *Store) turn(ctx context.Context, key string) (pass func(), err error) {
	turn := s.turns[maphash.String(turnSeed, key)%uint64(len(s.turns))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// pause waits before another attempt, at random up to a bound that doubles from
// 1 to 32 ms.
func pause(ctx context.Context, attempt int) error {
	t := time.NewTimer(rand.N(time.Millisecond << min(attempt-1, 5)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	}
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// ComponentIDs implements store.Lister.
func (s *Store) ComponentIDs(ctx context.Context) ([]string, error) {
	return s.allIDs(ctx, components.kind)
}

// AccountIDs implements store.Lister.
func (s *Store) AccountIDs(ctx context.Context) ([]string, error) {
	return s.allIDs(ctx, accounts.kind)
}

func (s *Store) allIDs(ctx context.Context, kind store.ChangeKind) ([]string, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("redis: %ss: %w", kind, err)
	}
	defer done()
	ids, err := s.appIDs(ctx, kind, "", -1)
	if err != nil {
		return nil, fmt.Errorf("redis: %ss: %w", kind, err)
	}
	return ids, nil
}
