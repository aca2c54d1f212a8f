package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

// The buckets. Records lie under their app id, pushes under their Seq as eight
// bytes, big-endian, so that the order of keys is the order of arrival.
// push_digests has the Seq of each pending push under its digest. Those of
// deliveries are in delivery.go.
var (
	metaBucket        = []byte("meta")
	componentsBucket  = []byte("components")
	accountsBucket    = []byte("accounts")
	authorizersBucket = []byte("authorizers")
	pushesBucket      = []byte("pushes")
	digestsBucket     = []byte("push_digests")
)

// keysKey is the key in meta of what store.Codec.Mark wrote: the ids of the keys
// that values may be encrypted with. Without it, none is.
var keysKey = []byte("encryption_keys")

// schemaKey is the key in meta of the schema version, as eight bytes.
var schemaKey = []byte("schema")

// migrations[i] takes a file from schema i+1 to i+2. All that a file needs run
// in one transaction, so that it is never found half way. None is ever removed.
var migrations = []func(*bbolt.Tx) error{addDeliveryBuckets}

// schema is the version this lingpai writes.
func schema() uint64 { return uint64(len(migrations)) + 1 }

var errForeign = errors.New("the file is a bolt database, but not lingpai's")

// prepare makes sure that db has the present schema, and that codec has all keys
// of its values.
func prepare(db *bbolt.DB, codec store.Codec) error {
	ready := false
	err := db.View(func(tx *bbolt.Tx) error {
		found, err := schemaOf(tx)
		if err != nil || found == 0 {
			return err
		}
		have := tx.Bucket(metaBucket).Get(keysKey)
		mark, err := codec.Mark(have)
		ready = err == nil && found == schema() && countsValid(tx) && bytes.Equal(mark, have)
		return err
	})
	if err != nil || ready {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		found, err := schemaOf(tx)
		if err != nil {
			return err
		}
		if found == 0 {
			if err := create(tx); err != nil {
				return err
			}
			return putMark(tx, codec)
		}
		for ; found < schema(); found++ {
			if err := migrations[found-1](tx); err != nil {
				return fmt.Errorf("migrate from schema %d: %w", found, err)
			}
		}
		if !countsValid(tx) {
			if err := recount(tx, codec); err != nil {
				return err
			}
		}
		if err := putMark(tx, codec); err != nil {
			return err
		}
		return putSchema(tx)
	})
}

// putMark adds the key that codec encrypts with to the mark.
func putMark(tx *bbolt.Tx, codec store.Codec) error {
	meta := tx.Bucket(metaBucket)
	mark, err := codec.Mark(meta.Get(keysKey))
	if err != nil || mark == nil {
		return err
	}
	return meta.Put(keysKey, bytes.Clone(mark))
}

// schemaOf returns the version of the file, or 0 if it is empty.
func schemaOf(tx *bbolt.Tx) (uint64, error) {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		if name, _ := tx.Cursor().First(); name != nil {
			return 0, errForeign
		}
		return 0, nil
	}
	value := meta.Get(schemaKey)
	if len(value) != 8 {
		return 0, errForeign
	}
	switch found := binary.BigEndian.Uint64(value); {
	case found == 0:
		return 0, errForeign
	case found > schema():
		return 0, fmt.Errorf("schema %d, this lingpai knows up to %d: %w", found, schema(), store.ErrNewer)
	default:
		return found, nil
	}
}

func putSchema(tx *bbolt.Tx) error {
	return tx.Bucket(metaBucket).Put(schemaKey, binary.BigEndian.AppendUint64(nil, schema()))
}

func create(tx *bbolt.Tx) error {
	for _, name := range [][]byte{
		metaBucket, componentsBucket, accountsBucket, authorizersBucket, pushesBucket, digestsBucket,
	} {
		if _, err := tx.CreateBucket(name); err != nil {
			return fmt.Errorf("create bucket %s: %w", name, err)
		}
	}
	if err := addDeliveryBuckets(tx); err != nil {
		return err
	}
	if err := putCounts(tx, store.Counts{}); err != nil {
		return err
	}
	return putSchema(tx)
}
