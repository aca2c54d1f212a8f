package memory

import (
	"context"

	"lingpai/tokens/store"
)

// AddDeliveries implements store.Deliveries.
func (p *Peer) AddDeliveries(ctx context.Context, ds []store.Delivery) (int, error) {
	added := 0
	_, err := write(ctx, p, store.Change{Kind: store.ChangedPushes}, func(s *Store) (_ struct{}, err error) {
		if added, err = s.AddDeliveries(ctx, ds); err == nil && added == 0 {
			err = errSame
		}
		return struct{}{}, err
	})
	return added, err
}

// Delivery implements store.Deliveries.
func (p *Peer) Delivery(ctx context.Context, seq uint64) (store.Delivery, error) {
	return read(ctx, p, func(s *Store) (store.Delivery, error) { return s.Delivery(ctx, seq) })
}

// FindDelivery implements store.Deliveries.
func (p *Peer) FindDelivery(ctx context.Context, id string) (store.Delivery, error) {
	return read(ctx, p, func(s *Store) (store.Delivery, error) { return s.FindDelivery(ctx, id) })
}

// Deliveries implements store.Deliveries.
func (p *Peer) Deliveries(ctx context.Context, target string, after uint64, limit int) ([]store.Delivery, error) {
	return read(ctx, p, func(s *Store) ([]store.Delivery, error) { return s.Deliveries(ctx, target, after, limit) })
}

// DeadDeliveries implements store.Deliveries.
func (p *Peer) DeadDeliveries(ctx context.Context, after uint64, limit int) ([]store.Delivery, error) {
	return read(ctx, p, func(s *Store) ([]store.Delivery, error) { return s.DeadDeliveries(ctx, after, limit) })
}

// UpdateDelivery implements store.Deliveries. Others are told of a dead letter
// that is pending again, and of nothing else.
func (p *Peer) UpdateDelivery(ctx context.Context, seq uint64, fn func(*store.Delivery) error) (store.Delivery, error) {
	return read(ctx, p, func(s *Store) (store.Delivery, error) {
		rec, err := s.UpdateDelivery(ctx, seq, fn)
		if err == nil && rec.Seq != seq {
			p.group.tell(p, store.Change{Kind: store.ChangedPushes})
		}
		return rec, err
	})
}

// DeleteDelivery implements store.Deliveries.
func (p *Peer) DeleteDelivery(ctx context.Context, seq uint64) error {
	_, err := read(ctx, p, func(s *Store) (struct{}, error) { return struct{}{}, s.DeleteDelivery(ctx, seq) })
	return err
}

// CountDeliveries implements store.Deliveries.
func (p *Peer) CountDeliveries(ctx context.Context) (store.DeliveryCounts, error) {
	return read(ctx, p, func(s *Store) (store.DeliveryCounts, error) { return s.CountDeliveries(ctx) })
}
