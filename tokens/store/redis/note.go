package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// Note implements store.Shared.
func (s *Store) Note(ctx context.Context, name string) (string, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return "", fmt.Errorf("redis: note %q: %w", name, err)
	}
	defer done()
	text, found, err := s.bytes(ctx, s.keys.note(name))
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("redis: note %q: %w", name, err)
	}
	return text, nil
}

// SetNote implements store.Shared. ttl is counted in milliseconds, by the server's
// clock.
func (s *Store) SetNote(ctx context.Context, name, text string, ttl time.Duration) error {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return fmt.Errorf("redis: set note %q: %w", name, err)
	}
	defer done()
	if name == "" || text != "" && ttl <= 0 {
		return fmt.Errorf("redis: set note %q for %s: %w", name, ttl, store.ErrInvalid)
	}
	key := s.keys.note(name)
	command := s.client.B().Set().Key(key).Value(text).PxMilliseconds(milliseconds(ttl)).Build()
	if text == "" {
		command = s.client.B().Del().Key(key).Build()
	}
	if _, err := s.do(ctx, command); err != nil {
		return fmt.Errorf("redis: set note %q: %w", name, err)
	}
	return nil
}

// Identity implements store.Shared. A store that is open for reading only makes
// none: the error is ErrNotFound then.
func (s *Store) Identity(ctx context.Context) (string, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return "", fmt.Errorf("redis: identity: %w", err)
	}
	defer done()
	text, found, err := s.bytes(ctx, s.keys.identity)
	if err == nil && !found && !s.readOnly {
		text, found, err = s.makeIdentity(ctx)
	}
	if err == nil && !found {
		err = store.ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("redis: identity: %w", err)
	}
	return text, nil
}

// makeIdentity is for when there was none. Of several that come at once, one makes
// it for all. It is apart from reading, which goes on when memory has run out.
func (s *Store) makeIdentity(ctx context.Context) (text string, found bool, err error) {
	_, err = s.do(ctx, s.client.B().Set().Key(s.keys.identity).Value(rand.Text()).Nx().Build())
	if err != nil && !rueidis.IsRedisNil(err) {
		return "", false, err
	}
	return s.bytes(ctx, s.keys.identity)
}

// Want implements store.Shared.
func (s *Store) Want(ctx context.Context, text string) error {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("redis: want: %w", err)
	}
	defer done()
	notice := s.notice(store.ChangedWanted, text)
	if _, err := s.do(ctx, s.client.B().Publish().Channel(s.keys.changes).Message(notice).Build()); err != nil {
		return fmt.Errorf("redis: want: %w", err)
	}
	return nil
}
