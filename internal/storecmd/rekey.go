package storecmd

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"golang.org/x/sync/errgroup"

	"lingpai/internal/config"
	"lingpai/tokens/store"
	"lingpai/tokens/store/backup"
	"lingpai/tokens/store/bolt"
)

func (c *command) rekey(ctx context.Context) error {
	conf, codec, err := c.load()
	if err != nil {
		return err
	}
	if !codec.Encrypts() {
		return usagef("store.encryption_keys is empty: there is nothing to encrypt with")
	}
	if err := mayWrite(conf); err != nil {
		return err
	}
	if err := exists(conf); err != nil {
		return err
	}
	p := &progress{w: c.stderr, what: "rewritten"}
	var records int
	if conf.Store.Kind == "bolt" {
		records, err = bolt.Rekey(ctx, conf.Store.Path, bolt.Options{Codec: codec}, p.reached)
		err = explain(err)
	} else {
		records, err = rekeyOpen(ctx, conf, p)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stderr, "%d records are encrypted with key %s; no other key is needed for them\n", records, codec.KeyID())
	return nil
}

func rekeyOpen(ctx context.Context, conf config.Config, p *progress) (int, error) {
	s, err := openStore(conf)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return rewrite(ctx, s, idsOf(conf), p.one)
}

// errPending means that there are pushes which may be encrypted with a former
// key. They cannot be rewritten in their place.
var errPending = errors.New("pushes from before this rekey are still being worked on: run it again when they are done, and keep the former keys until then")

// rewrite writes all records of s as they are, which encrypts them with the
// first key of its codec. Others may use s meanwhile, if they write with the
// same key.
func rewrite(ctx context.Context, s store.Store, ids backup.IDs, progress func()) (int, error) {
	last, err := lastPush(ctx, s, 0)
	if err != nil {
		return 0, err
	}
	if ids, err = ids.Complete(ctx, s); err != nil {
		return 0, err
	}
	records := 0
	var mu sync.Mutex
	done := func(err error) error {
		if errors.Is(err, store.ErrUnchanged) {
			return nil // not there, or not any more
		}
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			records++
			progress()
		}
		return err
	}
	for _, id := range ids.Components {
		_, err := s.UpdateComponent(ctx, id, keep(store.Component{AppID: id}))
		if err := done(err); err != nil {
			return records, err
		}
	}
	for _, id := range ids.Accounts {
		_, err := s.UpdateAccount(ctx, id, keep(store.Account{AppID: id}))
		if err := done(err); err != nil {
			return records, err
		}
	}
	if err := rewriteAuthorizers(ctx, s, done); err != nil {
		return records, err
	}
	if d, ok := s.(store.Deliveries); ok {
		if err := rewriteDeliveries(ctx, d, done); err != nil {
			return records, err
		}
	}
	left, err := s.Pushes(ctx, 0, 1)
	if err != nil {
		return records, err
	}
	if len(left) > 0 && left[0].Seq <= last {
		return records, errPending
	}
	// What the store has noted of former keys is out of date.
	if f, ok := s.(interface{ ForgetKeys(context.Context) error }); ok {
		return records, f.ForgetKeys(ctx)
	}
	return records, nil
}

// writers is how many authorizers are written at a time: a store that serves
// others shares a round trip, or an fsync, among writes of the same moment.
const writers = 64

// rewriteAuthorizers calls done, from several goroutines, with what became of each
// authorizer.
func rewriteAuthorizers(ctx context.Context, s store.Store, done func(error) error) error {
	for after := ""; ; {
		page, err := s.Authorizers(ctx, after, 1000)
		if err != nil || len(page) == 0 {
			return err
		}
		group, working := errgroup.WithContext(ctx)
		group.SetLimit(writers)
		for _, a := range page {
			group.Go(func() error {
				_, err := s.UpdateAuthorizer(working, a.AppID, keep(store.Authorizer{AppID: a.AppID}))
				return done(err)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		after = page[len(page)-1].AppID
	}
}

// keep returns a function that writes a record as it is, and none where there
// is only fresh.
func keep[R any](fresh R) func(*R) error {
	return func(r *R) error {
		if reflect.DeepEqual(*r, fresh) {
			return store.ErrUnchanged
		}
		return nil
	}
}

// lastPush is the Seq of the newest push.
func lastPush(ctx context.Context, s store.Store, after uint64) (uint64, error) {
	for {
		page, err := s.Pushes(ctx, after, 100)
		if err != nil || len(page) == 0 {
			return after, err
		}
		after = page[len(page)-1].Seq
	}
}
