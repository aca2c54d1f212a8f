package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// Lease implements store.Shared. ttl is counted in milliseconds, by the server's
// clock, and must be positive. A failover may give a lease away a second time.
// release may be called more than once, and after the lease has run out.
func (s *Store) Lease(ctx context.Context, name string, ttl time.Duration) (release func(context.Context) error, err error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("redis: lease %q: %w", name, err)
	}
	defer done()
	if name == "" || ttl <= 0 {
		return nil, fmt.Errorf("redis: lease %q for %s: %w", name, ttl, store.ErrInvalid)
	}
	key, owner := s.keys.lease(name), rand.Text()
	ms := max(1, ttl.Milliseconds())
	_, err = s.do(ctx, s.client.B().Set().Key(key).Value(owner).Nx().PxMilliseconds(ms).Build())
	if rueidis.IsRedisNil(err) {
		return nil, fmt.Errorf("redis: lease %q: %w", name, store.ErrLeased)
	}
	if err != nil {
		s.forget(key, owner)
		return nil, fmt.Errorf("redis: lease %q: %w", name, err)
	}
	return func(ctx context.Context) error {
		ctx, done, err := s.begin(ctx)
		if err != nil {
			return fmt.Errorf("redis: release %q: %w", name, err)
		}
		defer done()
		if err := s.release(ctx, key, owner); err != nil {
			return fmt.Errorf("redis: release %q: %w", name, err)
		}
		return nil
	}, nil
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
