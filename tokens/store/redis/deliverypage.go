package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

// deliveryPageSize is how many deliveries are read in one go: each may have a
// megabyte.
const deliveryPageSize = 50

// Deliveries implements store.Deliveries.
func (s *Store) Deliveries(ctx context.Context, target string, after uint64, limit int) ([]store.Delivery, error) {
	prefix := target + "\x00"
	page, err := s.deliveryPage(ctx, after, limit, func(ctx context.Context, after uint64, count int) ([]string, error) {
		members, err := s.texts(ctx, s.client.B().Zrangebylex().Key(s.keys.deliveryPending).
			Min("("+prefix+memberOf(after)).Max("("+target+"\x01").Limit(0, int64(count)).Build())
		for i, member := range members {
			members[i] = strings.TrimLeft(strings.TrimPrefix(member, prefix), "0")
		}
		return members, err
	})
	if err != nil {
		return nil, fmt.Errorf("redis: deliveries to %q after %d: %w", target, after, err)
	}
	return page, nil
}

// DeadDeliveries implements store.Deliveries.
func (s *Store) DeadDeliveries(ctx context.Context, after uint64, limit int) ([]store.Delivery, error) {
	page, err := s.deliveryPage(ctx, after, limit, func(ctx context.Context, after uint64, count int) ([]string, error) {
		return s.texts(ctx, s.client.B().Zrangebyscore().Key(s.keys.deliveryDead).
			Min("("+strconv.FormatUint(after, 10)).Max("+inf").Limit(0, int64(count)).Build())
	})
	if err != nil {
		return nil, fmt.Errorf("redis: dead deliveries after %d: %w", after, err)
	}
	return page, nil
}

// texts sends a command whose answer is a list of them.
func (s *Store) texts(ctx context.Context, command rueidis.Completed) ([]string, error) {
	m, err := s.do(ctx, command)
	if err != nil {
		return nil, err
	}
	list, err := m.AsStrSlice()
	if err != nil {
		return nil, errAnswer
	}
	return list, nil
}

// deliveryPage reads up to limit deliveries, of the Seqs that seqs gives.
func (s *Store) deliveryPage(ctx context.Context, after uint64, limit int,
	seqs func(ctx context.Context, after uint64, count int) ([]string, error)) ([]store.Delivery, error) {
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var page []store.Delivery
	for len(page) < limit {
		count := min(limit-len(page), deliveryPageSize)
		found, err := seqs(ctx, after, count)
		if err != nil || len(found) == 0 {
			return page, err
		}
		if after, err = strconv.ParseUint(found[len(found)-1], 10, 64); err != nil {
			return nil, errAnswer
		}
		if page, err = s.appendDeliveries(ctx, page, found); err != nil {
			return nil, err
		}
		if len(found) < count {
			break
		}
	}
	return page, nil
}

// appendDeliveries leaves out those that were deleted since seqs were read.
func (s *Store) appendDeliveries(ctx context.Context, page []store.Delivery, seqs []string) ([]store.Delivery, error) {
	command := s.client.B().Hmget().Key(s.keys.deliveries).Field(seqs...).Build()
	return appendRecords(ctx, s, page, seqs, command, func(seq, data string) (store.Delivery, error) { return decodeDelivery(s.codec, seq, data) })
}

// CountDeliveries implements store.Deliveries: it costs the same however many
// there are, but for the number of targets.
func (s *Store) CountDeliveries(ctx context.Context) (store.DeliveryCounts, error) {
	c, err := s.countDeliveries(ctx)
	if err != nil {
		return store.DeliveryCounts{}, fmt.Errorf("redis: count deliveries: %w", err)
	}
	return c, nil
}

func (s *Store) countDeliveries(ctx context.Context) (store.DeliveryCounts, error) {
	c := store.DeliveryCounts{Pending: map[string]int{}}
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return c, err
	}
	defer done()
	targets, err := s.texts(ctx, s.client.B().Zrangebylex().Key(s.keys.deliveryTargets).Min("-").Max("+").Build())
	if err != nil {
		return c, err
	}
	fields := append([]string{deadField}, targets...)
	m, err := s.do(ctx, s.client.B().Hmget().Key(s.keys.deliveryCounts).Field(fields...).Build())
	if err != nil {
		return c, err
	}
	values, err := m.ToArray()
	if err != nil || len(values) != len(fields) {
		return c, errAnswer
	}
	for i, value := range values {
		if value.IsNil() {
			continue
		}
		n, err := value.AsInt64()
		switch {
		case err != nil:
			return c, errAnswer
		case i == 0:
			c.Dead = int(n)
		default:
			c.Pending[fields[i]] = int(n)
		}
	}
	return c, nil
}
