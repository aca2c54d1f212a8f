package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// decodePush reads the push stored under key.
func decodePush(codec store.Codec, key, value []byte) (store.Push, error) {
	p, err := codec.DecodePush(value)
	if err == nil && (len(key) != 8 || binary.BigEndian.Uint64(key) != p.Seq) {
		err = fmt.Errorf("it names another seq: %w", store.ErrCorrupt)
	}
	if err != nil {
		return store.Push{}, fmt.Errorf("key %x in bucket %s: %w", key, pushesBucket, err)
	}
	return p, nil
}

// AddPush implements store.Store.
func (s *Store) AddPush(ctx context.Context, p store.Push) (store.Push, bool, error) {
	var (
		stored store.Push
		added  bool
	)
	err := s.write(ctx, func(tx *bbolt.Tx) (wrote bool, err error) {
		stored, added = store.Push{}, false
		pushes, digests := tx.Bucket(pushesBucket), tx.Bucket(digestsBucket)
		if key := digests.Get([]byte(p.Digest)); key != nil {
			stored, err = decodePush(s.codec, key, pushes.Get(key))
			return false, err
		}
		next := p
		// The sequence belongs to the bucket and never goes back, also when the
		// bucket is empty.
		next.Seq = pushes.Sequence() + 1
		data, err := s.codec.EncodePush(next)
		if err != nil {
			return false, err
		}
		if stored, err = s.codec.DecodePush(data); err != nil {
			return false, err
		}
		if err := pushes.SetSequence(next.Seq); err != nil {
			return true, err
		}
		key := seqKey(next.Seq)
		if err := pushes.Put(key, data); err != nil {
			return true, err
		}
		added = true
		return true, digests.Put([]byte(p.Digest), key)
	})
	if err != nil {
		return store.Push{}, false, fmt.Errorf("bolt: add push: %w", err)
	}
	return stored, added, nil
}

// Pushes implements store.Store.
func (s *Store) Pushes(ctx context.Context, after uint64, limit int) ([]store.Push, error) {
	var page []store.Push
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		if after == math.MaxUint64 {
			return nil
		}
		c := tx.Bucket(pushesBucket).Cursor()
		for key, value := c.Seek(seqKey(after + 1)); key != nil && len(page) < limit; key, value = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			p, err := decodePush(s.codec, key, value)
			if err != nil {
				return err
			}
			page = append(page, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("bolt: pushes after %d: %w", after, err)
	}
	return page, nil
}

// DeletePush implements store.Store. A record that cannot be read is not
// deleted.
func (s *Store) DeletePush(ctx context.Context, seq uint64) error {
	err := s.write(ctx, func(tx *bbolt.Tx) (wrote bool, err error) {
		key := seqKey(seq)
		pushes := tx.Bucket(pushesBucket)
		value := pushes.Get(key)
		if value == nil {
			return false, nil
		}
		p, err := decodePush(s.codec, key, value)
		if err != nil {
			return false, err
		}
		if err := pushes.Delete(key); err != nil {
			return true, err
		}
		return true, tx.Bucket(digestsBucket).Delete([]byte(p.Digest))
	})
	if err != nil {
		return fmt.Errorf("bolt: delete push %d: %w", seq, err)
	}
	return nil
}
