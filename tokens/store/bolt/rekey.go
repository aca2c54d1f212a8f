package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

const (
	// rekeySuffix is of the new file, until it takes the place of the old one.
	rekeySuffix = ".rekey"
	// rekeyBatch is how many records are written in one transaction.
	rekeyBatch = 10_000
	// rekeyFill is how full pages of the new file are: less than the whole, so
	// that a record that grows by a byte does not split its page.
	rekeyFill = 0.9
)

// recoders read a value of a bucket with all keys and give it written with the
// first one. Other buckets hold no secrets.
var recoders = map[string]func(codec store.Codec, key, value []byte) ([]byte, error){
	string(componentsBucket):  components.recode,
	string(accountsBucket):    accounts.recode,
	string(authorizersBucket): authorizers.recode,
	string(pushesBucket): func(codec store.Codec, key, value []byte) ([]byte, error) {
		p, err := decodePush(codec, key, value)
		if err != nil {
			return nil, err
		}
		return codec.EncodePush(p)
	},
	string(deliveriesBucket): func(codec store.Codec, key, value []byte) ([]byte, error) {
		d, err := decodeDelivery(codec, key, value)
		if err != nil {
			return nil, err
		}
		return codec.EncodeDelivery(d)
	},
}

func (t *table[R]) recode(codec store.Codec, key, value []byte) ([]byte, error) {
	rec, err := t.decodeAt(codec, key, value)
	if err != nil {
		return nil, err
	}
	return t.encode(codec, rec)
}

// Rekey writes the file at path anew with all its secrets encrypted by the first
// key of opts.Codec, and returns how many records there are. Keys other than
// the first are not needed for the file any more.
//
// The new file takes the place of the old one when it is complete and on disk;
// until then, and after any error, the old one is as it was. It is a new file
// because bolt leaves former values in pages that it uses no more. Both need
// room at the same time. The error is store.ErrLocked if a process has the file
// open. progress is called with the number of records so far now and then.
func Rekey(ctx context.Context, path string, opts Options, progress func(records int)) (records int, err error) {
	fail := func(err error) (int, error) { return 0, fmt.Errorf("bolt: rekey %s: %w", path, err) }
	if !opts.Codec.Encrypts() {
		return fail(errors.New("no key to encrypt with"))
	}
	// A link stays one.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fail(err)
	}
	if opts.LockTimeout <= 0 {
		opts.LockTimeout = defaultLockTimeout
	}
	src, err := lock(real, &bbolt.Options{Timeout: opts.LockTimeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		return 0, err
	}
	// Not before the rename: the lock keeps others out until then.
	defer src.Close()

	// What an earlier rekey left when it was killed; its lock is ours now.
	next := real + rekeySuffix
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fail(err)
	}
	defer func() {
		if err != nil {
			os.Remove(next)
		}
	}()
	if records, err = rewrite(ctx, next, src, opts.Codec, progress); err != nil {
		return fail(err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return fail(err)
	}
	if err = likeOld(next, info); err != nil {
		return fail(err)
	}
	if err = os.Rename(next, real); err != nil {
		return fail(err)
	}
	if err := syncDir(real); err != nil {
		return records, fmt.Errorf("bolt: rekey %s: sync its directory: %w", path, err)
	}
	return records, nil
}

// rewrite makes the file at path from src, and syncs it.
func rewrite(ctx context.Context, path string, src *bbolt.DB, codec store.Codec, progress func(int)) (records int, err error) {
	dst, err := bbolt.Open(path, 0o600, &bbolt.Options{
		FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		NoSync: true, // once, at the end
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	w := &rewriter{dst: dst, codec: codec, progress: progress}
	err = src.View(func(tx *bbolt.Tx) error {
		if found, err := schemaOf(tx); err != nil {
			return err
		} else if found != schema() {
			return errors.New("it has the form of an older lingpai: start this one with it first")
		}
		if _, err := codec.Mark(tx.Bucket(metaBucket).Get(keysKey)); err != nil {
			return err
		}
		return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error { return w.copy(ctx, name, bucket) })
	})
	if err != nil {
		return 0, err
	}
	err = dst.Update(func(tx *bbolt.Tx) error {
		mark, err := codec.Mark(nil)
		if err != nil {
			return err
		}
		return tx.Bucket(metaBucket).Put(keysKey, mark)
	})
	if err != nil {
		return 0, err
	}
	return w.records, dst.Sync()
}

// rewriter copies buckets, in transactions of a bounded size.
type rewriter struct {
	dst      *bbolt.DB
	codec    store.Codec
	progress func(int)
	records  int
}

func (w *rewriter) copy(ctx context.Context, name []byte, from *bbolt.Bucket) error {
	recode := recoders[string(name)]
	c := from.Cursor()
	key, value := c.First()
	for first := true; first || key != nil; first = false {
		err := w.dst.Update(func(tx *bbolt.Tx) error {
			to, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			to.FillPercent = rekeyFill
			if err := to.SetSequence(from.Sequence()); err != nil {
				return err
			}
			for n := 0; key != nil && n < rekeyBatch; n++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				if value == nil {
					return errForeign // a bucket in a bucket
				}
				data := value
				if recode != nil {
					if data, err = recode(w.codec, key, value); err != nil {
						return err
					}
					w.records++
				}
				if err := to.Put(key, data); err != nil {
					return err
				}
				key, value = c.Next()
			}
			return nil
		})
		if err != nil {
			return err
		}
		if w.progress != nil && recode != nil {
			w.progress(w.records)
		}
	}
	return nil
}
