package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// pushPageSize is how many pushes are read in one go.
const pushPageSize = 100

// AddPush implements store.Store.
func (s *Store) AddPush(ctx context.Context, p store.Push) (store.Push, bool, error) {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return store.Push{}, false, fmt.Errorf("redis: add push: %w", err)
	}
	defer done()
	stored, added, err := s.addPush(ctx, p)
	if err != nil {
		return store.Push{}, false, fmt.Errorf("redis: add push: %w", err)
	}
	return stored, added, nil
}

func (s *Store) addPush(ctx context.Context, p store.Push) (store.Push, bool, error) {
	encoded, err := encodePush(s.codec, p)
	if err != nil {
		return store.Push{}, false, err
	}
	data := string(encoded)
	least := strconv.FormatInt(time.Now().UnixMilli(), 10)
	out, err := s.runNotice(ctx, addPushScript, s.notice(store.ChangedPushes, ""),
		[]string{s.keys.pushes, s.keys.pushOrder, s.keys.pushDigests, s.keys.lastPush}, p.Digest, data, least)
	if err != nil {
		return store.Push{}, false, err
	}
	seq, _, err := out.text(0)
	if err != nil {
		return store.Push{}, false, err
	}
	if !out.done {
		if data, _, err = out.text(1); err != nil {
			return store.Push{}, false, err
		}
	}
	stored, err := decodePush(s.codec, seq, data)
	return stored, err == nil && out.done, err
}

// Pushes implements store.Store.
func (s *Store) Pushes(ctx context.Context, after uint64, limit int) ([]store.Push, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("redis: pushes after %d: %w", after, err)
	}
	defer done()
	var page []store.Push
	from := "(" + strconv.FormatUint(after, 10)
	for len(page) < limit {
		count := min(limit-len(page), pushPageSize)
		seqs, err := s.seqs(ctx, from, count)
		if err == nil && len(seqs) > 0 {
			from = "(" + seqs[len(seqs)-1]
			page, err = s.appendPushes(ctx, page, seqs)
		}
		if err != nil {
			return nil, fmt.Errorf("redis: pushes after %d: %w", after, err)
		}
		if len(seqs) < count {
			break
		}
	}
	return page, nil
}

func (s *Store) seqs(ctx context.Context, from string, count int) ([]string, error) {
	m, err := s.do(ctx, s.client.B().Zrangebyscore().Key(s.keys.pushOrder).Min(from).Max("+inf").Limit(0, int64(count)).Build())
	if err != nil {
		return nil, err
	}
	seqs, err := m.AsStrSlice()
	if err != nil {
		return nil, errAnswer
	}
	return seqs, nil
}

// appendPushes leaves out those that were deleted since seqs were read.
func (s *Store) appendPushes(ctx context.Context, page []store.Push, seqs []string) ([]store.Push, error) {
	command := s.client.B().Hmget().Key(s.keys.pushes).Field(seqs...).Build()
	return appendRecords(ctx, s, page, seqs, command, func(seq, data string) (store.Push, error) { return decodePush(s.codec, seq, data) })
}

// DeletePush implements store.Store. A record that cannot be read is not
// deleted.
func (s *Store) DeletePush(ctx context.Context, seq uint64) error {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return fmt.Errorf("redis: delete push %d: %w", seq, err)
	}
	defer done()
	if err := s.deletePush(ctx, strconv.FormatUint(seq, 10)); err != nil {
		return fmt.Errorf("redis: delete push %d: %w", seq, err)
	}
	return nil
}

func (s *Store) deletePush(ctx context.Context, seq string) error {
	m, err := s.do(ctx, s.client.B().Hget().Key(s.keys.pushes).Field(seq).Build())
	if rueidis.IsRedisNil(err) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := m.ToString()
	if err != nil {
		return errAnswer
	}
	p, err := decodePush(s.codec, seq, data)
	if err != nil {
		return err
	}
	_, err = s.runNotice(ctx, deletePushScript, s.notice(store.ChangedPushes, ""),
		[]string{s.keys.pushes, s.keys.pushOrder, s.keys.pushDigests}, seq, p.Digest)
	return err
}
