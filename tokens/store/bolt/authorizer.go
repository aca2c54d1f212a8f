package bolt

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

var authorizers = table[store.Authorizer]{
	kind:   "authorizer",
	bucket: authorizersBucket,
	id:     func(a *store.Authorizer) *string { return &a.AppID },
	encode: store.Codec.EncodeAuthorizer,
	decode: store.Codec.DecodeAuthorizer,
	written: func(tx *bbolt.Tx, old, rec store.Authorizer) error {
		return moveCount(tx, old.State, rec.State)
	},
}

// Authorizer implements store.Store.
func (s *Store) Authorizer(ctx context.Context, appID string) (store.Authorizer, error) {
	return authorizers.read(ctx, s, appID)
}

// UpdateAuthorizer implements store.Store.
func (s *Store) UpdateAuthorizer(ctx context.Context, appID string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	return authorizers.update(ctx, s, appID, fn)
}

// DeleteAuthorizer implements store.Store. A record that cannot be read is not
// deleted.
func (s *Store) DeleteAuthorizer(ctx context.Context, appID string) error {
	err := s.write(ctx, func(tx *bbolt.Tx) (wrote bool, err error) {
		old, found, err := authorizers.at(s, tx, appID)
		if err != nil {
			return false, err
		}
		if !found {
			return false, store.ErrNotFound
		}
		if err := tx.Bucket(authorizersBucket).Delete([]byte(appID)); err != nil {
			return true, err
		}
		return true, moveCount(tx, old.State, "")
	})
	if err != nil {
		return fmt.Errorf("bolt: delete authorizer %q: %w", appID, err)
	}
	return nil
}

// Authorizers implements store.Store.
func (s *Store) Authorizers(ctx context.Context, after string, limit int) ([]store.Authorizer, error) {
	var page []store.Authorizer
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		c := tx.Bucket(authorizersBucket).Cursor()
		key, value := c.Seek([]byte(after))
		if key != nil && string(key) == after {
			key, value = c.Next()
		}
		for ; key != nil && len(page) < limit; key, value = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			a, err := authorizers.decodeAt(s.codec, key, value)
			if err != nil {
				return err
			}
			page = append(page, a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("bolt: authorizers after %q: %w", after, err)
	}
	return page, nil
}
