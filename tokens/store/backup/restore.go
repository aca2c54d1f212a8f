package backup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"golang.org/x/sync/errgroup"

	"lingpai/tokens/store"
)

// writers is how many authorizers are written at a time: stores share an fsync,
// or a round trip, among writes of the same moment.
const writers = 256

// visitor is called with the records of a backup, in the order of the file.
type visitor struct {
	component  func(store.Component) error
	account    func(store.Account) error
	authorizer func(store.Authorizer) error
	push       func(store.Push) error
	delivery   func(store.Delivery) error
}

// Verify reads a whole backup and says what is in it. The error is ErrFormat,
// ErrDamaged, store.ErrKey or store.ErrNewer.
func Verify(ctx context.Context, r io.Reader, codec store.Codec) (Counts, error) {
	return read(ctx, r, codec, visitor{
		component:  func(store.Component) error { return nil },
		account:    func(store.Account) error { return nil },
		authorizer: func(store.Authorizer) error { return nil },
		push:       func(store.Push) error { return nil },
		delivery:   func(store.Delivery) error { return nil },
	})
}

func read(ctx context.Context, r io.Reader, codec store.Codec, v visitor) (Counts, error) {
	var counts Counts
	chunks, err := newChunkReader(r, codec)
	if err != nil {
		return counts, err
	}
	lines := bufio.NewReader(chunks)
	for {
		if err := ctx.Err(); err != nil {
			return counts, err
		}
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return counts, fmt.Errorf("it has no end: %w", ErrDamaged)
		}
		if err != nil {
			return counts, err
		}
		kind, record, _ := bytes.Cut(line[:len(line)-1], []byte(" "))
		switch string(kind) {
		case kindComponent:
			err = visit(record, &counts.Components, store.DecodeComponent, v.component)
		case kindAccount:
			err = visit(record, &counts.Accounts, store.DecodeAccount, v.account)
		case kindAuthorizer:
			err = visit(record, &counts.Authorizers, store.DecodeAuthorizer, v.authorizer)
		case kindPush:
			err = visit(record, &counts.Pushes, store.DecodePush, v.push)
		case kindDelivery:
			err = visit(record, &counts.Deliveries, store.DecodeDelivery, v.delivery)
		case kindEnd:
			var want Counts
			if json.Unmarshal(record, &want) != nil || want != counts {
				return counts, fmt.Errorf("the number of records is not that of its last line: %w", ErrDamaged)
			}
			if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
				return counts, errors.Join(ErrDamaged, err)
			}
			return counts, nil
		default:
			// A record that would be lost.
			err = fmt.Errorf("a record of an unknown kind: %w", store.ErrNewer)
		}
		if err != nil {
			return counts, err
		}
	}
}

func visit[R any](record []byte, n *int, decode func([]byte) (R, error), f func(R) error) error {
	rec, err := decode(record)
	if err != nil {
		return err
	}
	*n++
	return f(rec)
}

// Empty reports whether s has no records, as far as ids and a store.Lister tell.
func Empty(ctx context.Context, s store.Store, ids IDs) (bool, error) {
	page, err := s.Authorizers(ctx, "", 1)
	if err != nil || len(page) > 0 {
		return false, err
	}
	pushes, err := s.Pushes(ctx, 0, 1)
	if err != nil || len(pushes) > 0 {
		return false, err
	}
	if d, ok := s.(store.Deliveries); ok {
		counts, err := d.CountDeliveries(ctx)
		if err != nil || counts.Dead > 0 || len(counts.Pending) > 0 {
			return false, err
		}
	}
	if ids, err = ids.Complete(ctx, s); err != nil {
		return false, err
	}
	for _, id := range ids.Components {
		if _, err := s.Component(ctx, id); !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
	}
	for _, id := range ids.Accounts {
		if _, err := s.Account(ctx, id); !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
	}
	return true, nil
}

// Restore writes the records of a backup into s. Without overwrite a record
// that is there already gives ErrNotEmpty. With it, it is replaced, and its
// token's generation goes on growing; records that are not in the backup stay.
// Pushes get a new Seq, in the same order; one that is pending in s already
// stays as it is. So it is with deliveries, dead letters before those that are
// pending.
//
// Restore writes while it reads: Verify the whole backup before. After an
// error some records are written, and Restore may be called again, with
// overwrite. progress, if not nil, is called after each record, from several
// goroutines.
func Restore(ctx context.Context, r io.Reader, codec store.Codec, s store.Store, overwrite bool, progress func()) (Counts, error) {
	if progress == nil {
		progress = func() {}
	}
	group, workers := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	counts, err := read(workers, r, codec, visitor{
		component: func(rec store.Component) error {
			defer progress()
			_, err := s.UpdateComponent(workers, rec.AppID, replace(rec, overwrite, store.Component{AppID: rec.AppID},
				func(c *store.Component) *store.Token { return &c.Token }))
			return err
		},
		account: func(rec store.Account) error {
			defer progress()
			_, err := s.UpdateAccount(workers, rec.AppID, replace(rec, overwrite, store.Account{AppID: rec.AppID},
				func(a *store.Account) *store.Token { return &a.Token }))
			return err
		},
		authorizer: func(rec store.Authorizer) error {
			group.Go(func() error {
				defer progress()
				_, err := s.UpdateAuthorizer(workers, rec.AppID, replace(rec, overwrite, store.Authorizer{AppID: rec.AppID},
					func(a *store.Authorizer) *store.Token { return &a.Token }))
				return err
			})
			return nil
		},
		push: func(p store.Push) error {
			defer progress()
			_, _, err := s.AddPush(workers, p)
			return err
		},
		delivery: func(d store.Delivery) error {
			defer progress()
			return restoreDelivery(workers, s, d)
		},
	})
	// The error of a worker is what ended the others.
	if failed := group.Wait(); failed != nil {
		err = failed
	}
	if err != nil {
		return Counts{}, err
	}
	return counts, nil
}

// replace returns the function that puts rec in the place of fresh, or of any
// record if overwrite is set.
func replace[R any](rec R, overwrite bool, fresh R, token func(*R) *store.Token) func(*R) error {
	return func(old *R) error {
		next := rec
		if !reflect.DeepEqual(*old, fresh) {
			if !overwrite {
				return fmt.Errorf("a record is there already: %w", ErrNotEmpty)
			}
			was, is := *token(old), token(&next)
			if was.Generation >= is.Generation {
				is.Generation = was.Generation
				if *is != was {
					is.Generation++
				}
			}
		}
		*old = next
		return nil
	}
}
