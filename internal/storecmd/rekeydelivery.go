package storecmd

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"lingpai/tokens/store"
)

// rewriteDeliveries calls done, from several goroutines, with what became of each
// delivery. One that dies, or is sent again, while this goes on is written then,
// with the same first key.
func rewriteDeliveries(ctx context.Context, s store.Deliveries, done func(error) error) error {
	counts, err := s.CountDeliveries(ctx)
	if err != nil {
		return err
	}
	for target := range counts.Pending {
		err := rewritePages(ctx, s, done, func(after uint64) ([]store.Delivery, error) { return s.Deliveries(ctx, target, after, 50) })
		if err != nil {
			return err
		}
	}
	return rewritePages(ctx, s, done, func(after uint64) ([]store.Delivery, error) { return s.DeadDeliveries(ctx, after, 50) })
}

func rewritePages(ctx context.Context, s store.Deliveries, done func(error) error, read func(after uint64) ([]store.Delivery, error)) error {
	for after := uint64(0); ; {
		page, err := read(after)
		if err != nil || len(page) == 0 {
			return err
		}
		group, working := errgroup.WithContext(ctx)
		group.SetLimit(writers)
		for _, d := range page {
			group.Go(func() error {
				_, err := s.UpdateDelivery(working, d.Seq, func(*store.Delivery) error { return nil })
				if errors.Is(err, store.ErrNotFound) {
					return nil // delivered meanwhile
				}
				return done(err)
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		after = page[len(page)-1].Seq
	}
}
