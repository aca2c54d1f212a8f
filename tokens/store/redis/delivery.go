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

var _ store.Deliveries = (*Store)(nil)

// maxDeliveries is how many are added by one script, whose number of arguments is
// bounded: as many as anybody has targets.
const maxDeliveries = 1000

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
