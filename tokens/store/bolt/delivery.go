package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

// The buckets of deliveries. The records lie under their Seq, as pushes do;
// delivery_ids has the Seq of each under its ID. delivery_pending has a key for
// each that is pending, its target, a zero byte and its Seq, delivery_dead one
// for each dead letter, its Seq. delivery_counts has how many are pending under
// their target, and of dead letters under a zero byte, which is in no name of a
// target.
var (
	deliveriesBucket                       = []byte("deliveries")
	deliveryIDsBucket                      = []byte("delivery_ids")
	pendingDeliveries                      = []byte("delivery_pending")
	deadDeliveries                         = []byte("delivery_dead")
	deliveryCountsBucket                   = []byte("delivery_counts")
	deadCountKey                           = []byte{0}
	present                                = []byte{1}
	deliveryBuckets                        = [][]byte{deliveriesBucket, deliveryIDsBucket, pendingDeliveries, deadDeliveries, deliveryCountsBucket}
	_                     store.Deliveries = (*Store)(nil)
	errDeliveryIncomplete                  = fmt.Errorf("a delivery is not where it should be: %w", store.ErrCorrupt)
)

// addDeliveryBuckets is the migration to schema 2.
func addDeliveryBuckets(tx *bbolt.Tx) error {
	for _, name := range deliveryBuckets {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	return nil
}

func pendingPrefix(target string) []byte { return append([]byte(target), 0) }

// place is the bucket and key that put rec in order, and the key of its count.
func place(rec store.Delivery) (bucket, key, count []byte) {
	if rec.Dead {
		return deadDeliveries, seqKey(rec.Seq), deadCountKey
	}
	return pendingDeliveries, append(pendingPrefix(rec.Target), seqKey(rec.Seq)...), []byte(rec.Target)
}

func countDelivery(tx *bbolt.Tx, key []byte, n int64) error {
	b := tx.Bucket(deliveryCountsBucket)
	if value := b.Get(key); len(value) == 8 {
		n += int64(binary.BigEndian.Uint64(value))
	}
	if n <= 0 {
		return b.Delete(key)
	}
	return b.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func decodeDelivery(codec store.Codec, key, value []byte) (store.Delivery, error) {
	d, err := codec.DecodeDelivery(value)
	if err == nil && !bytes.Equal(key, seqKey(d.Seq)) {
		err = fmt.Errorf("it names another seq: %w", store.ErrCorrupt)
	}
	if err != nil {
		return store.Delivery{}, fmt.Errorf("key %x in bucket %s: %w", key, deliveriesBucket, err)
	}
	return d, nil
}

// deliveryAt reads the delivery under key.
func (s *Store) deliveryAt(tx *bbolt.Tx, key []byte) (store.Delivery, error) {
	value := tx.Bucket(deliveriesBucket).Get(key)
	if value == nil {
		return store.Delivery{}, store.ErrNotFound
	}
	return decodeDelivery(s.codec, key, value)
}

// putDelivery writes rec, encoded as data, in all its places.
func putDelivery(tx *bbolt.Tx, rec store.Delivery, data []byte) error {
	bucket, at, count := place(rec)
	key := seqKey(rec.Seq)
	return errors.Join(
		tx.Bucket(deliveriesBucket).Put(key, data),
		tx.Bucket(deliveryIDsBucket).Put([]byte(rec.ID), key),
		tx.Bucket(bucket).Put(at, present),
		countDelivery(tx, count, 1),
	)
}

func removeDelivery(tx *bbolt.Tx, rec store.Delivery) error {
	bucket, at, count := place(rec)
	return errors.Join(
		tx.Bucket(deliveriesBucket).Delete(seqKey(rec.Seq)),
		tx.Bucket(deliveryIDsBucket).Delete([]byte(rec.ID)),
		tx.Bucket(bucket).Delete(at),
		countDelivery(tx, count, -1),
	)
}

// AddDeliveries implements store.Deliveries.
func (s *Store) AddDeliveries(ctx context.Context, ds []store.Delivery) (int, error) {
	added := 0
	err := s.write(ctx, func(tx *bbolt.Tx) (wrote bool, err error) {
		added = 0
		b, ids := tx.Bucket(deliveriesBucket), tx.Bucket(deliveryIDsBucket)
		type encoded struct {
			rec  store.Delivery
			data []byte
		}
		var next []encoded
		for _, rec := range ds {
			if ids.Get([]byte(rec.ID)) != nil {
				continue
			}
			rec.Seq, rec.Dead = b.Sequence()+1+uint64(len(next)), false
			data, err := s.codec.EncodeDelivery(rec)
			if err != nil {
				return false, err
			}
			next = append(next, encoded{rec, data})
		}
		if len(next) == 0 {
			return false, nil
		}
		for _, e := range next {
			if err := putDelivery(tx, e.rec, e.data); err != nil {
				return true, err
			}
		}
		added = len(next)
		return true, b.SetSequence(next[added-1].rec.Seq)
	})
	if err != nil {
		return 0, fmt.Errorf("bolt: add deliveries: %w", err)
	}
	return added, nil
}

// Delivery implements store.Deliveries.
func (s *Store) Delivery(ctx context.Context, seq uint64) (store.Delivery, error) {
	var rec store.Delivery
	err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		rec, err = s.deliveryAt(tx, seqKey(seq))
		return err
	})
	if err != nil {
		return store.Delivery{}, fmt.Errorf("bolt: delivery %d: %w", seq, err)
	}
	return rec, nil
}

// FindDelivery implements store.Deliveries.
func (s *Store) FindDelivery(ctx context.Context, id string) (store.Delivery, error) {
	var rec store.Delivery
	err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		rec, err = s.deliveryAt(tx, tx.Bucket(deliveryIDsBucket).Get([]byte(id)))
		return err
	})
	if err != nil {
		return store.Delivery{}, fmt.Errorf("bolt: delivery %q: %w", id, err)
	}
	return rec, nil
}

// Deliveries implements store.Deliveries.
func (s *Store) Deliveries(ctx context.Context, target string, after uint64, limit int) ([]store.Delivery, error) {
	page, err := s.deliveryPage(ctx, pendingDeliveries, pendingPrefix(target), after, limit)
	if err != nil {
		return nil, fmt.Errorf("bolt: deliveries to %q after %d: %w", target, after, err)
	}
	return page, nil
}

// DeadDeliveries implements store.Deliveries.
func (s *Store) DeadDeliveries(ctx context.Context, after uint64, limit int) ([]store.Delivery, error) {
	page, err := s.deliveryPage(ctx, deadDeliveries, nil, after, limit)
	if err != nil {
		return nil, fmt.Errorf("bolt: dead deliveries after %d: %w", after, err)
	}
	return page, nil
}

// deliveryPage reads the deliveries of an ordering bucket whose keys begin with
// prefix.
func (s *Store) deliveryPage(ctx context.Context, bucket, prefix []byte, after uint64, limit int) ([]store.Delivery, error) {
	var page []store.Delivery
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		if after == math.MaxUint64 {
			return nil
		}
		c := tx.Bucket(bucket).Cursor()
		for key, _ := c.Seek(append(bytes.Clone(prefix), seqKey(after+1)...)); len(page) < limit; key, _ = c.Next() {
			if key == nil || !bytes.HasPrefix(key, prefix) {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			rec, err := s.deliveryAt(tx, key[len(prefix):])
			if errors.Is(err, store.ErrNotFound) {
				err = errDeliveryIncomplete
			}
			if err != nil {
				return err
			}
			page = append(page, rec)
		}
		return nil
	})
	return page, err
}

// UpdateDelivery implements store.Deliveries.
func (s *Store) UpdateDelivery(ctx context.Context, seq uint64, fn func(*store.Delivery) error) (store.Delivery, error) {
	var (
		rec   store.Delivery
		fnErr error
	)
	err := s.write(ctx, func(tx *bbolt.Tx) (wrote bool, err error) {
		rec, fnErr = store.Delivery{}, nil
		old, err := s.deliveryAt(tx, seqKey(seq))
		if err != nil {
			return false, err
		}
		next := old
		if fnErr = fn(&next); fnErr != nil {
			if errors.Is(fnErr, store.ErrUnchanged) {
				rec = old
			}
			return false, nil
		}
		next.Seq, next.ID, next.Target = old.Seq, old.ID, old.Target
		b := tx.Bucket(deliveriesBucket)
		if old.Dead && !next.Dead {
			next.Seq = b.Sequence() + 1
		}
		data, err := s.codec.EncodeDelivery(next)
		if err != nil {
			return false, err
		}
		if rec, err = s.codec.DecodeDelivery(data); err != nil {
			return false, err
		}
		if next.Seq == old.Seq && next.Dead == old.Dead {
			return true, b.Put(seqKey(seq), data) // it stands where it stood
		}
		return true, errors.Join(
			removeDelivery(tx, old), putDelivery(tx, rec, data), b.SetSequence(max(b.Sequence(), rec.Seq)))
	})
	if err != nil {
		return store.Delivery{}, fmt.Errorf("bolt: update delivery %d: %w", seq, err)
	}
	return rec, fnErr
}

// DeleteDelivery implements store.Deliveries. A record that cannot be read is
// not deleted.
func (s *Store) DeleteDelivery(ctx context.Context, seq uint64) error {
	err := s.write(ctx, func(tx *bbolt.Tx) (wrote bool, err error) {
		rec, err := s.deliveryAt(tx, seqKey(seq))
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, removeDelivery(tx, rec)
	})
	if err != nil {
		return fmt.Errorf("bolt: delete delivery %d: %w", seq, err)
	}
	return nil
}

// CountDeliveries implements store.Deliveries.
func (s *Store) CountDeliveries(ctx context.Context) (store.DeliveryCounts, error) {
	c := store.DeliveryCounts{Pending: map[string]int{}}
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(deliveryCountsBucket).ForEach(func(key, value []byte) error {
			if len(value) != 8 {
				return fmt.Errorf("%q in bucket %s: %w", key, deliveryCountsBucket, store.ErrCorrupt)
			}
			n := int(binary.BigEndian.Uint64(value))
			if bytes.Equal(key, deadCountKey) {
				c.Dead = n
			} else {
				c.Pending[string(key)] = n
			}
			return nil
		})
	})
	if err != nil {
		return store.DeliveryCounts{}, fmt.Errorf("bolt: count deliveries: %w", err)
	}
	return c, nil
}
