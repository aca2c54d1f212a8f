package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

var _ store.Deliveries = (*Store)(nil)

// deliveryPageSize is how many deliveries are read in one go: each may have a
// megabyte.
const deliveryPageSize = 50

// maxDeliveries is how many are added by one script, whose number of arguments is
// bounded: as many as anybody has targets.
const maxDeliveries = 1000

// deadField is the field of the counts of dead letters. It is in no name of a
// target.
const deadField = "\x00"

var (
	// KEYS[2] deliveries, [3] ids, [4] pending, [5] counts, [6] targets, [7] last
	// Seq; ARGV[4] the least Seq, then ID, target and bytes of each. Done: how many
	// were added.
	addDeliveriesScript = script(`
local last = tonumber(redis.call('GET', KEYS[7]) or '0')
local first = math.max(last + 1, tonumber(ARGV[4]))
local new = {}
for i = 5, #ARGV, 3 do
  if not redis.call('HGET', KEYS[3], ARGV[i]) then new[#new + 1] = i end
end
if #new == 0 then
  return {0}
end
redis.call('SET', KEYS[7], string.format('%.0f', first + #new - 1))
for n, i in ipairs(new) do
  local seq = string.format('%.0f', first + n - 1)
  redis.call('HSET', KEYS[2], seq, ARGV[i + 2])
  redis.call('HSET', KEYS[3], ARGV[i], seq)
  redis.call('ZADD', KEYS[4], 0, ARGV[i + 1] .. '\0' .. string.format('%020.0f', first + n - 1))
  redis.call('HINCRBY', KEYS[5], ARGV[i + 1], 1)
  redis.call('ZADD', KEYS[6], 0, ARGV[i + 1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1, tostring(#new)}
`)

	// KEYS[2] deliveries, [3] ids, [4] pending, [5] dead, [6] counts, [7] targets,
	// [8] last Seq; ARGV[4] Seq, [5] the bytes that were read, [6] the new bytes, ''
	// to delete, [7] ID, [8] target, [9] and [10] '1' if it was and will be dead,
	// [11] the least Seq, [12] the Seq as a member. Not done: the bytes now there,
	// or nil. Done: the Seq.
	changeDeliveryScript = script(`
local now = redis.call('HGET', KEYS[2], ARGV[4])
if now ~= ARGV[5] then
  return {0, now}
end
local seq = ARGV[4]
if ARGV[6] ~= '' and ARGV[9] == ARGV[10] then
  redis.call('HSET', KEYS[2], seq, ARGV[6])
  return {1, seq}
end
local member = ARGV[12]
if ARGV[6] ~= '' then
  if ARGV[9] == '1' then
    local last = tonumber(redis.call('GET', KEYS[8]) or '0')
    local next = math.max(last + 1, tonumber(ARGV[11]))
    seq = string.format('%.0f', next)
    member = string.format('%020.0f', next)
    redis.call('SET', KEYS[8], seq)
  end
  redis.call('HSET', KEYS[2], seq, ARGV[6])
  redis.call('HSET', KEYS[3], ARGV[7], seq)
  if ARGV[10] == '1' then
    redis.call('ZADD', KEYS[5], seq, seq)
    redis.call('HINCRBY', KEYS[6], '\0', 1)
  else
    redis.call('ZADD', KEYS[4], 0, ARGV[8] .. '\0' .. member)
    redis.call('HINCRBY', KEYS[6], ARGV[8], 1)
    redis.call('ZADD', KEYS[7], 0, ARGV[8])
    redis.call('PUBLISH', ARGV[2], ARGV[3])
  end
end
if ARGV[6] == '' or seq ~= ARGV[4] then
  redis.call('HDEL', KEYS[2], ARGV[4])
end
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[3], ARGV[7])
end
local field = ARGV[8]
if ARGV[9] == '1' then
  redis.call('ZREM', KEYS[5], ARGV[4])
  field = '\0'
else
  redis.call('ZREM', KEYS[4], ARGV[8] .. '\0' .. ARGV[12])
end
if redis.call('HINCRBY', KEYS[6], field, -1) <= 0 then
  redis.call('HDEL', KEYS[6], field)
  if field ~= '\0' then redis.call('ZREM', KEYS[7], field) end
end
return {1, seq}
`)
)

// memberOf is a Seq as a member of the set of pending ones: of one length, so that
// the order of bytes is that of numbers.
func memberOf(seq uint64) string { return fmt.Sprintf("%020d", seq) }

// decodeDelivery reads the delivery stored under the field seq.
func decodeDelivery(codec store.Codec, seq, data string) (store.Delivery, error) {
	d, err := codec.DecodeDelivery([]byte(data))
	if err != nil {
		return store.Delivery{}, fmt.Errorf("delivery %s: %w", seq, err)
	}
	if d.Seq, err = strconv.ParseUint(seq, 10, 64); err != nil || d.Seq == 0 {
		return store.Delivery{}, fmt.Errorf("seq of a delivery: %w", store.ErrCorrupt)
	}
	return d, nil
}

// encodeDelivery leaves out the Seq, which the server gives.
func encodeDelivery(codec store.Codec, d store.Delivery) (string, error) {
	d.Seq = 0
	data, err := codec.EncodeDelivery(d)
	return string(data), err
}

func leastSeq() string { return strconv.FormatInt(time.Now().UnixMilli(), 10) }

// AddDeliveries implements store.Deliveries.
func (s *Store) AddDeliveries(ctx context.Context, ds []store.Delivery) (int, error) {
	fail := func(err error) (int, error) { return 0, fmt.Errorf("redis: add deliveries: %w", err) }
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return fail(err)
	}
	defer done()
	if len(ds) == 0 {
		return 0, nil
	}
	if len(ds) > maxDeliveries {
		return fail(fmt.Errorf("%d at a time: %w", len(ds), store.ErrInvalid))
	}
	args := []string{leastSeq()}
	for _, d := range ds {
		d.Dead = false
		data, err := encodeDelivery(s.codec, d)
		if err != nil {
			return fail(err)
		}
		args = append(args, d.ID, d.Target, data)
	}
	k := s.keys
	out, err := s.runNotice(ctx, addDeliveriesScript, s.notice(store.ChangedPushes, ""),
		[]string{k.deliveries, k.deliveryIDs, k.deliveryPending, k.deliveryCounts, k.deliveryTargets, k.lastDelivery}, args...)
	if err != nil {
		return fail(err)
	}
	if !out.done {
		return 0, nil
	}
	text, _, err := out.text(0)
	if err != nil {
		return fail(err)
	}
	added, err := strconv.Atoi(text)
	if err != nil {
		return fail(errAnswer)
	}
	return added, nil
}

// Delivery implements store.Deliveries.
func (s *Store) Delivery(ctx context.Context, seq uint64) (store.Delivery, error) {
	fail := func(err error) (store.Delivery, error) {
		return store.Delivery{}, fmt.Errorf("redis: delivery %d: %w", seq, err)
	}
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return fail(err)
	}
	defer done()
	field := strconv.FormatUint(seq, 10)
	data, err := s.deliveryBytes(ctx, field)
	if err != nil {
		return fail(err)
	}
	d, err := decodeDelivery(s.codec, field, data)
	if err != nil {
		return fail(err)
	}
	return d, nil
}

// FindDelivery implements store.Deliveries.
func (s *Store) FindDelivery(ctx context.Context, id string) (store.Delivery, error) {
	fail := func(err error) (store.Delivery, error) {
		return store.Delivery{}, fmt.Errorf("redis: delivery %q: %w", id, err)
	}
	ctx, done, err := s.begin(ctx)
	if err != nil {
		return fail(err)
	}
	defer done()
	m, err := s.do(ctx, s.client.B().Hget().Key(s.keys.deliveryIDs).Field(id).Build())
	if rueidis.IsRedisNil(err) {
		return fail(store.ErrNotFound)
	}
	if err != nil {
		return fail(err)
	}
	seq, err := m.ToString()
	if err != nil {
		return fail(errAnswer)
	}
	data, err := s.deliveryBytes(ctx, seq)
	if err != nil {
		return fail(err)
	}
	d, err := decodeDelivery(s.codec, seq, data)
	if err != nil {
		return fail(err)
	}
	return d, nil
}

// deliveryBytes returns store.ErrNotFound if there is no such delivery.
func (s *Store) deliveryBytes(ctx context.Context, seq string) (string, error) {
	m, err := s.do(ctx, s.client.B().Hget().Key(s.keys.deliveries).Field(seq).Build())
	if rueidis.IsRedisNil(err) {
		return "", store.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	data, err := m.ToString()
	if err != nil {
		return "", errAnswer
	}
	return data, nil
}

// Deliveries implements store.Deliveries.
func (s *Store) Deliveries(ctx context.Context, target string, after uint64, limit int) ([]store.Delivery, error) {
	prefix := target + "\x00"
	page, err := s.deliveryPage(ctx, after, limit, func(ctx context.Context, after uint64, count int) ([]string, error) {
		members, err := s.strings(ctx, s.client.B().Zrangebylex().Key(s.keys.deliveryPending).
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
		return s.strings(ctx, s.client.B().Zrangebyscore().Key(s.keys.deliveryDead).
			Min("("+strconv.FormatUint(after, 10)).Max("+inf").Limit(0, int64(count)).Build())
	})
	if err != nil {
		return nil, fmt.Errorf("redis: dead deliveries after %d: %w", after, err)
	}
	return page, nil
}

// strings sends a command whose answer is a list of them.
func (s *Store) strings(ctx context.Context, command rueidis.Completed) ([]string, error) {
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
	m, err := s.do(ctx, s.client.B().Hmget().Key(s.keys.deliveries).Field(seqs...).Build())
	if err != nil {
		return nil, err
	}
	values, err := m.ToArray()
	if err != nil || len(values) != len(seqs) {
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
		d, err := decodeDelivery(s.codec, seqs[i], data)
		if err != nil {
			return nil, err
		}
		page = append(page, d)
	}
	return page, nil
}

// UpdateDelivery implements store.Deliveries.
func (s *Store) UpdateDelivery(ctx context.Context, seq uint64, fn func(*store.Delivery) error) (store.Delivery, error) {
	rec, fnErr, err := s.updateDelivery(ctx, strconv.FormatUint(seq, 10), fn)
	if err != nil {
		return store.Delivery{}, fmt.Errorf("redis: update delivery %d: %w", seq, err)
	}
	return rec, fnErr
}

func (s *Store) updateDelivery(ctx context.Context, seq string, fn func(*store.Delivery) error) (rec store.Delivery, fnErr, err error) {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return rec, nil, err
	}
	defer done()
	pass, err := s.turn(ctx, s.keys.deliveries+" "+seq)
	if err != nil {
		return rec, nil, err
	}
	defer pass()
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return rec, nil, err
			}
		}
		data, err := s.deliveryBytes(ctx, seq)
		if err != nil {
			return rec, nil, err
		}
		old, err := decodeDelivery(s.codec, seq, data)
		if err != nil {
			return rec, nil, err
		}
		next := old
		if fnErr := fn(&next); fnErr != nil {
			if errors.Is(fnErr, store.ErrUnchanged) {
				rec = old
			}
			return rec, fnErr, nil
		}
		next.ID, next.Target = old.ID, old.Target
		newData, err := encodeDelivery(s.codec, next)
		if err != nil {
			return rec, nil, err
		}
		now, changed, err := s.changeDelivery(ctx, old, data, newData, next.Dead)
		if err != nil {
			return rec, nil, err
		}
		if changed {
			// What is returned is what a read would give.
			rec, err = decodeDelivery(s.codec, now, newData)
			return rec, nil, err
		}
	}
	return rec, nil, errContended
}

// changeDelivery puts newData, "" to delete it, in the place of data, if that is
// still there, and returns the Seq it has then.
func (s *Store) changeDelivery(ctx context.Context, old store.Delivery, data, newData string, dead bool) (seq string, changed bool, err error) {
	k := s.keys
	out, err := s.runNotice(ctx, changeDeliveryScript, s.notice(store.ChangedPushes, ""),
		[]string{k.deliveries, k.deliveryIDs, k.deliveryPending, k.deliveryDead, k.deliveryCounts, k.deliveryTargets, k.lastDelivery},
		strconv.FormatUint(old.Seq, 10), data, newData, old.ID, old.Target, flag(old.Dead), flag(dead), leastSeq(), memberOf(old.Seq))
	if err != nil || !out.done {
		return "", false, err
	}
	seq, _, err = out.text(0)
	return seq, err == nil, err
}

// DeleteDelivery implements store.Deliveries. A record that cannot be read is
// not deleted.
func (s *Store) DeleteDelivery(ctx context.Context, seq uint64) error {
	if err := s.deleteDelivery(ctx, strconv.FormatUint(seq, 10)); err != nil {
		return fmt.Errorf("redis: delete delivery %d: %w", seq, err)
	}
	return nil
}

func (s *Store) deleteDelivery(ctx context.Context, seq string) error {
	ctx, done, err := s.beginWrite(ctx)
	if err != nil {
		return err
	}
	defer done()
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return err
			}
		}
		data, err := s.deliveryBytes(ctx, seq)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		old, err := decodeDelivery(s.codec, seq, data)
		if err != nil {
			return err
		}
		if _, changed, err := s.changeDelivery(ctx, old, data, "", false); err != nil || changed {
			return err
		}
	}
	return errContended
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
	targets, err := s.strings(ctx, s.client.B().Zrangebylex().Key(s.keys.deliveryTargets).Min("-").Max("+").Build())
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
