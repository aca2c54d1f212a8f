package bolt

import (
	"context"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

// countsKey is the key in meta of the authorizers of each state, as three
// numbers of eight bytes. They are written in the transaction of the
// authorizer, so they are never wrong by a crash.
var countsKey = []byte("counts")

const countsLen = 3 * 8

// countsValid reports whether the counters can be read.
func countsValid(tx *bbolt.Tx) bool { return len(tx.Bucket(metaBucket).Get(countsKey)) == countsLen }

func counts(tx *bbolt.Tx) (store.Counts, error) {
	value := tx.Bucket(metaBucket).Get(countsKey)
	if len(value) != countsLen {
		return store.Counts{}, fmt.Errorf("%s in bucket %s: %w", countsKey, metaBucket, store.ErrCorrupt)
	}
	return store.Counts{
		Active:       int(binary.BigEndian.Uint64(value)),
		Reauthorize:  int(binary.BigEndian.Uint64(value[8:])),
		Unauthorized: int(binary.BigEndian.Uint64(value[16:])),
	}, nil
}

func putCounts(tx *bbolt.Tx, c store.Counts) error {
	value := make([]byte, 0, countsLen)
	value = binary.BigEndian.AppendUint64(value, uint64(c.Active))
	value = binary.BigEndian.AppendUint64(value, uint64(c.Reauthorize))
	value = binary.BigEndian.AppendUint64(value, uint64(c.Unauthorized))
	return tx.Bucket(metaBucket).Put(countsKey, value)
}

// moveCount counts an authorizer under next instead of old. "" stands for an
// authorizer that was not there, or is not any more.
func moveCount(tx *bbolt.Tx, old, next store.State) error {
	if old == next {
		return nil
	}
	c, err := counts(tx)
	if err != nil {
		return err
	}
	c.Add(old, -1)
	c.Add(next, 1)
	return putCounts(tx, c)
}

// recount makes the counters anew from all authorizers. Counters that cannot be
// read must not keep tokens from being written.
func recount(tx *bbolt.Tx, codec store.Codec) error {
	var c store.Counts
	err := tx.Bucket(authorizersBucket).ForEach(func(key, value []byte) error {
		a, err := authorizers.decodeAt(codec, key, value)
		c.Add(a.State, 1)
		return err
	})
	if err != nil {
		return err
	}
	return putCounts(tx, c)
}

// CountAuthorizers implements store.Store.
func (s *Store) CountAuthorizers(ctx context.Context) (store.Counts, error) {
	var c store.Counts
	err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		c, err = counts(tx)
		return err
	})
	if err != nil {
		return store.Counts{}, fmt.Errorf("bolt: count authorizers: %w", err)
	}
	return c, nil
}
