package backup

import (
	"context"
	"errors"
	"maps"
	"slices"

	"lingpai/tokens/store"
)

// deliveryPage is how many are read at a time: each may have a megabyte.
const deliveryPage = 50

// deliveries writes dead letters, then what is pending, by target. The order among
// targets means nothing.
func (e *exporter) deliveries(ctx context.Context, s store.Deliveries) error {
	err := e.eachDelivery(func(after uint64) ([]store.Delivery, error) { return s.DeadDeliveries(ctx, after, deliveryPage) })
	if err != nil {
		return err
	}
	counts, err := s.CountDeliveries(ctx)
	if err != nil {
		return err
	}
	for _, target := range slices.Sorted(maps.Keys(counts.Pending)) {
		err := e.eachDelivery(func(after uint64) ([]store.Delivery, error) {
			return s.Deliveries(ctx, target, after, deliveryPage)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *exporter) eachDelivery(read func(after uint64) ([]store.Delivery, error)) error {
	for after := uint64(0); ; {
		page, err := read(after)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, d := range page {
			if err := put(e, kindDelivery, &e.counts.Deliveries, store.EncodeDelivery, d); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Seq
	}
}

// errNoDeliveries means that records would be lost.
var errNoDeliveries = errors.New("the store cannot keep the deliveries of the backup")

// restoreDelivery adds d to s, unless s has one of this ID. A dead letter is
// pending for a moment: the store is not in use, or delivers what it would have
// delivered.
func restoreDelivery(ctx context.Context, s store.Store, d store.Delivery) error {
	deliveries, ok := s.(store.Deliveries)
	if !ok {
		return errNoDeliveries
	}
	added, err := deliveries.AddDeliveries(ctx, []store.Delivery{d})
	if err != nil || added == 0 || !d.Dead {
		return err
	}
	stored, err := deliveries.FindDelivery(ctx, d.ID)
	if err == nil {
		_, err = deliveries.UpdateDelivery(ctx, stored.Seq, func(d *store.Delivery) error {
			d.Dead = true
			return nil
		})
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil // it was delivered meanwhile
	}
	return err
}
