package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// Lease implements store.Shared. ttl is counted in milliseconds, by the server's
// clock, and must be positive. A failover may give a lease away a second time.
func (s *Store) Lease(ctx context.Context, name string, ttl time.Duration) (store.Lease, error) {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return nil, fmt.Errorf("redis: lease %q: %w", name, err)
	}
	defer done()
	if name == "" || ttl <= 0 {
		return nil, fmt.Errorf("redis: lease %q for %s: %w", name, ttl, store.ErrInvalid)
	}
	l := &lease{store: s, name: name, key: s.keys.lease(name), owner: rand.Text()}
	_, err = s.do(ctx, s.client.B().Set().Key(l.key).Value(l.owner).Nx().PxMilliseconds(milliseconds(ttl)).Build())
	if rueidis.IsRedisNil(err) {
		return nil, fmt.Errorf("redis: lease %q: %w", name, store.ErrLeased)
	}
	if err != nil {
		s.forget(l.key, l.owner)
		return nil, fmt.Errorf("redis: lease %q: %w", name, err)
	}
	return l, nil
}

// milliseconds of a positive duration, at least 1: 0 would mean no end.
func milliseconds(d time.Duration) int64 { return max(1, d.Milliseconds()) }

// lease is a lease that was taken.
type lease struct {
	store            *Store
	name, key, owner string
}

// Extend implements store.Lease.
func (l *lease) Extend(ctx context.Context, ttl time.Duration) error {
	ctx, done, err := l.store.begin(ctx)
	if err != nil {
		return fmt.Errorf("redis: extend %q: %w", l.name, err)
	}
	defer done()
	if ttl <= 0 {
		return fmt.Errorf("redis: extend %q by %s: %w", l.name, ttl, store.ErrInvalid)
	}
	m, err := l.store.exec(ctx, func(ctx context.Context) rueidis.RedisResult {
		return extendScript.Exec(ctx, l.store.client, []string{l.key}, []string{l.owner, strconv.FormatInt(milliseconds(ttl), 10)})
	})
	var n int64
	if err == nil {
		if n, err = m.AsInt64(); err != nil {
			err = errAnswer
		} else if n == 0 {
			err = store.ErrLeased
		}
	}
	if err != nil {
		return fmt.Errorf("redis: extend %q: %w", l.name, err)
	}
	return nil
}

// Release implements store.Lease.
func (l *lease) Release(ctx context.Context) error {
	ctx, done, err := l.store.begin(ctx)
	if err != nil {
		return fmt.Errorf("redis: release %q: %w", l.name, err)
	}
	defer done()
	if err := l.store.release(ctx, l.key, l.owner); err != nil {
		return fmt.Errorf("redis: release %q: %w", l.name, err)
	}
	return nil
}

func (s *Store) release(ctx context.Context, key, owner string) error {
	_, err := s.exec(ctx, func(ctx context.Context) rueidis.RedisResult {
		return releaseScript.Exec(ctx, s.client, []string{key}, []string{owner})
	})
	return err
}

// forget gives up a lease of which it is not known whether it was taken: nobody
// else could have it before its time is up. It is called inside an operation.
func (s *Store) forget(key, owner string) {
	s.under.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		defer cancel()
		// Where this fails as well the lease runs out by itself.
		_ = s.release(ctx, key, owner)
	})
}
