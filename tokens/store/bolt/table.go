package bolt

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

// table says how the records of one kind are kept.
type table[R any] struct {
	kind   string
	bucket []byte
	id     func(*R) *string
	encode func(store.Codec, R) ([]byte, error)
	decode func(store.Codec, []byte) (R, error)
	// written, if there is one, is called in the transaction after a record was
	// put; old is as it was before.
	written func(tx *bbolt.Tx, old, rec R) error
}

var components = table[store.Component]{
	kind:   "component",
	bucket: componentsBucket,
	id:     func(c *store.Component) *string { return &c.AppID },
	encode: store.Codec.EncodeComponent,
	decode: store.Codec.DecodeComponent,
}

var accounts = table[store.Account]{
	kind:   "account",
	bucket: accountsBucket,
	id:     func(a *store.Account) *string { return &a.AppID },
	encode: store.Codec.EncodeAccount,
	decode: store.Codec.DecodeAccount,
}

// decodeAt reads the record stored under key.
func (t *table[R]) decodeAt(codec store.Codec, key, value []byte) (R, error) {
	rec, err := t.decode(codec, value)
	if err == nil && *t.id(&rec) != string(key) {
		err = fmt.Errorf("it names another app id: %w", store.ErrCorrupt)
	}
	if err != nil {
		var none R
		return none, fmt.Errorf("%q in bucket %s: %w", key, t.bucket, err)
	}
	return rec, nil
}

// at reads the record of appID, or makes one with only its app id.
func (t *table[R]) at(s *Store, tx *bbolt.Tx, appID string) (rec R, found bool, err error) {
	value := tx.Bucket(t.bucket).Get([]byte(appID))
	if value == nil {
		*t.id(&rec) = appID
		return rec, false, nil
	}
	rec, err = t.decodeAt(s.codec, []byte(appID), value)
	return rec, true, err
}

func (t *table[R]) read(ctx context.Context, s *Store, appID string) (R, error) {
	var rec R
	err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		var found bool
		rec, found, err = t.at(s, tx, appID)
		if err == nil && !found {
			err = store.ErrNotFound
		}
		return err
	})
	if err != nil {
		var none R
		return none, fmt.Errorf("bolt: %s %q: %w", t.kind, appID, err)
	}
	return rec, nil
}

func (t *table[R]) update(ctx context.Context, s *Store, appID string, fn func(*R) error) (R, error) {
	var (
		none, rec R
		fnErr     error
	)
	err := s.write(ctx, func(tx *bbolt.Tx) (wrote bool, err error) {
		rec, fnErr = none, nil
		old, _, err := t.at(s, tx, appID)
		if err != nil {
			return false, err
		}
		// Read again for fn, which may change or keep what it gets.
		next, _, err := t.at(s, tx, appID)
		if err != nil {
			return false, err
		}
		if fnErr = fn(&next); fnErr != nil {
			if errors.Is(fnErr, store.ErrUnchanged) {
				rec = old
			}
			return false, nil
		}
		*t.id(&next) = appID
		data, err := t.encode(s.codec, next)
		if err != nil {
			return false, err
		}
		// What is returned is what a read would give.
		if rec, err = t.decode(s.codec, data); err != nil {
			return false, err
		}
		if err := tx.Bucket(t.bucket).Put([]byte(appID), data); err != nil {
			return true, err
		}
		if t.written == nil {
			return true, nil
		}
		return true, t.written(tx, old, rec)
	})
	if err != nil {
		return none, fmt.Errorf("bolt: update %s %q: %w", t.kind, appID, err)
	}
	return rec, fnErr
}

// Component implements store.Store.
func (s *Store) Component(ctx context.Context, appID string) (store.Component, error) {
	return components.read(ctx, s, appID)
}

// UpdateComponent implements store.Store.
func (s *Store) UpdateComponent(ctx context.Context, appID string, fn func(*store.Component) error) (store.Component, error) {
	return components.update(ctx, s, appID, fn)
}

// Account implements store.Store.
func (s *Store) Account(ctx context.Context, appID string) (store.Account, error) {
	return accounts.read(ctx, s, appID)
}

// UpdateAccount implements store.Store.
func (s *Store) UpdateAccount(ctx context.Context, appID string, fn func(*store.Account) error) (store.Account, error) {
	return accounts.update(ctx, s, appID, fn)
}

// ComponentIDs implements store.Lister.
func (s *Store) ComponentIDs(ctx context.Context) ([]string, error) {
	return s.keys(ctx, componentsBucket)
}

// AccountIDs implements store.Lister.
func (s *Store) AccountIDs(ctx context.Context) ([]string, error) {
	return s.keys(ctx, accountsBucket)
}

func (s *Store) keys(ctx context.Context, bucket []byte) ([]string, error) {
	var keys []string
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(key, _ []byte) error {
			keys = append(keys, string(key))
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("bolt: keys of bucket %s: %w", bucket, err)
	}
	return keys, nil
}
