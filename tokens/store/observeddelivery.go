package store

import (
	"context"
	"time"
)

// observedDeliveries is observed for a Deliveries.
type observedDeliveries struct {
	of         observed
	deliveries Deliveries
}

// withDeliveries returns s, an observed Store, with the methods of d. There is a
// case for each of the interfaces that s may have beside, since embedding it as a
// Store would hide them.
func withDeliveries(s Store, d observedDeliveries) Store {
	lister, listed := s.(Lister)
	shared, isShared := s.(Shared)
	switch {
	case isShared && listed:
		return struct {
			Shared
			Lister
			observedDeliveries
		}{shared, lister, d}
	case isShared:
		return struct {
			Shared
			observedDeliveries
		}{shared, d}
	case listed:
		return struct {
			Store
			Lister
			observedDeliveries
		}{s, lister, d}
	}
	return struct {
		Store
		observedDeliveries
	}{s, d}
}

func (o observedDeliveries) AddDeliveries(ctx context.Context, ds []Delivery) (added int, err error) {
	defer func(began time.Time) { o.of.done("add_deliveries", began, err, nil) }(time.Now())
	return o.deliveries.AddDeliveries(ctx, ds)
}

func (o observedDeliveries) Delivery(ctx context.Context, seq uint64) (d Delivery, err error) {
	defer func(began time.Time) { o.of.done("delivery", began, err, nil) }(time.Now())
	return o.deliveries.Delivery(ctx, seq)
}

func (o observedDeliveries) FindDelivery(ctx context.Context, id string) (d Delivery, err error) {
	defer func(began time.Time) { o.of.done("find_delivery", began, err, nil) }(time.Now())
	return o.deliveries.FindDelivery(ctx, id)
}

func (o observedDeliveries) Deliveries(ctx context.Context, target string, after uint64, limit int) (page []Delivery, err error) {
	defer func(began time.Time) { o.of.done("deliveries", began, err, nil) }(time.Now())
	return o.deliveries.Deliveries(ctx, target, after, limit)
}

func (o observedDeliveries) DeadDeliveries(ctx context.Context, after uint64, limit int) (page []Delivery, err error) {
	defer func(began time.Time) { o.of.done("dead_deliveries", began, err, nil) }(time.Now())
	return o.deliveries.DeadDeliveries(ctx, after, limit)
}

func (o observedDeliveries) UpdateDelivery(ctx context.Context, seq uint64, fn func(*Delivery) error) (d Delivery, err error) {
	var fnErr error
	defer func(began time.Time) { o.of.done("update_delivery", began, err, fnErr) }(time.Now())
	d, err = o.deliveries.UpdateDelivery(ctx, seq, func(d *Delivery) error {
		fnErr = fn(d)
		return fnErr
	})
	return d, err
}

func (o observedDeliveries) DeleteDelivery(ctx context.Context, seq uint64) (err error) {
	defer func(began time.Time) { o.of.done("delete_delivery", began, err, nil) }(time.Now())
	return o.deliveries.DeleteDelivery(ctx, seq)
}

func (o observedDeliveries) CountDeliveries(ctx context.Context) (c DeliveryCounts, err error) {
	defer func(began time.Time) { o.of.done("count_deliveries", began, err, nil) }(time.Now())
	return o.deliveries.CountDeliveries(ctx)
}
