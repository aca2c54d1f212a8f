package memory

import (
	"context"
	"errors"
	"fmt"

	"lingpai/tokens/store"
)

var (
	_ store.Deliveries = (*Store)(nil)
	_ store.Deliveries = (*Peer)(nil)
)

// deliveries is what is to be delivered, and what could not be.
type deliveries struct {
	records map[uint64]store.Delivery
	ids     map[string]uint64
	pending map[string]*seqs // by target
	dead    *seqs
	lastSeq uint64
}

// seqs are some of the deliveries, in order.
type seqs struct {
	live  map[uint64]bool
	order index[uint64]
}

func newSeqs() *seqs {
	s := &seqs{live: map[uint64]bool{}}
	s.order.live = func(seq uint64) bool { return s.live[seq] }
	return s
}

func (s *seqs) add(seq uint64) {
	s.live[seq] = true
	s.order.add(seq)
}

func (s *seqs) remove(seq uint64) {
	delete(s.live, seq)
	s.order.removed()
}

func (d *deliveries) init() {
	if d.records == nil {
		d.records, d.ids = map[uint64]store.Delivery{}, map[string]uint64{}
		d.pending, d.dead = map[string]*seqs{}, newSeqs()
	}
}

// put stores rec under its Seq.
func (d *deliveries) put(rec store.Delivery) {
	d.records[rec.Seq] = rec
	d.ids[rec.ID] = rec.Seq
	d.list(rec).add(rec.Seq)
}

// list is where rec stands in order.
func (d *deliveries) list(rec store.Delivery) *seqs {
	if rec.Dead {
		return d.dead
	}
	if d.pending[rec.Target] == nil {
		d.pending[rec.Target] = newSeqs()
	}
	return d.pending[rec.Target]
}

func (d *deliveries) remove(rec store.Delivery) {
	delete(d.records, rec.Seq)
	delete(d.ids, rec.ID)
	d.list(rec).remove(rec.Seq)
	if p := d.pending[rec.Target]; p != nil && len(p.live) == 0 {
		delete(d.pending, rec.Target)
	}
}

func (d *deliveries) page(s *seqs, after uint64, limit int) []store.Delivery {
	if s == nil {
		return nil
	}
	var page []store.Delivery
	for _, seq := range s.order.page(after, limit) {
		page = append(page, d.records[seq])
	}
	return page
}

// recoded is rec as a store on disk would give it back.
func (s *Store) recoded(rec store.Delivery) (store.Delivery, error) {
	data, err := s.codec.EncodeDelivery(rec)
	if err != nil {
		return store.Delivery{}, err
	}
	return s.codec.DecodeDelivery(data)
}

// withDeliveries runs fn under the lock.
func withDeliveries[R any](ctx context.Context, s *Store, op string, fn func(*deliveries) (R, error)) (R, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none R
	if err := s.usable(ctx); err != nil {
		return none, err
	}
	s.deliveries.init()
	r, err := fn(&s.deliveries)
	if err != nil {
		return none, fmt.Errorf("memory: %s: %w", op, err)
	}
	return r, nil
}

// AddDeliveries implements store.Deliveries.
func (s *Store) AddDeliveries(ctx context.Context, ds []store.Delivery) (int, error) {
	return withDeliveries(ctx, s, "add deliveries", func(d *deliveries) (int, error) {
		var next []store.Delivery
		for _, rec := range ds {
			if _, kept := d.ids[rec.ID]; kept {
				continue
			}
			rec.Dead = false
			rec.Seq = d.lastSeq + 1 + uint64(len(next))
			rec, err := s.recoded(rec)
			if err != nil {
				return 0, err
			}
			next = append(next, rec)
		}
		for _, rec := range next {
			d.put(rec)
			d.lastSeq = rec.Seq
		}
		return len(next), nil
	})
}

// Delivery implements store.Deliveries.
func (s *Store) Delivery(ctx context.Context, seq uint64) (store.Delivery, error) {
	return withDeliveries(ctx, s, "delivery", func(d *deliveries) (store.Delivery, error) {
		rec, ok := d.records[seq]
		if !ok {
			return rec, store.ErrNotFound
		}
		return rec, nil
	})
}

// FindDelivery implements store.Deliveries.
func (s *Store) FindDelivery(ctx context.Context, id string) (store.Delivery, error) {
	return withDeliveries(ctx, s, "find delivery", func(d *deliveries) (store.Delivery, error) {
		rec, ok := d.records[d.ids[id]]
		if !ok {
			return rec, store.ErrNotFound
		}
		return rec, nil
	})
}

// Deliveries implements store.Deliveries.
func (s *Store) Deliveries(ctx context.Context, target string, after uint64, limit int) ([]store.Delivery, error) {
	return withDeliveries(ctx, s, "deliveries", func(d *deliveries) ([]store.Delivery, error) {
		return d.page(d.pending[target], after, limit), nil
	})
}

// DeadDeliveries implements store.Deliveries.
func (s *Store) DeadDeliveries(ctx context.Context, after uint64, limit int) ([]store.Delivery, error) {
	return withDeliveries(ctx, s, "dead deliveries", func(d *deliveries) ([]store.Delivery, error) {
		return d.page(d.dead, after, limit), nil
	})
}

// UpdateDelivery implements store.Deliveries. fn runs under the lock of the
// store.
func (s *Store) UpdateDelivery(ctx context.Context, seq uint64, fn func(*store.Delivery) error) (store.Delivery, error) {
	var fnErr error
	rec, err := withDeliveries(ctx, s, "update delivery", func(d *deliveries) (store.Delivery, error) {
		old, ok := d.records[seq]
		if !ok {
			return old, store.ErrNotFound
		}
		next := old
		if fnErr = fn(&next); fnErr != nil {
			if errors.Is(fnErr, store.ErrUnchanged) {
				return old, nil
			}
			return store.Delivery{}, nil
		}
		next.Seq, next.ID, next.Target = old.Seq, old.ID, old.Target
		if old.Dead && !next.Dead {
			next.Seq = d.lastSeq + 1
		}
		rec, err := s.recoded(next)
		if err != nil {
			return rec, err
		}
		if rec.Seq == old.Seq && rec.Dead == old.Dead {
			d.records[seq] = rec // it stands where it stood
			return rec, nil
		}
		d.remove(old)
		d.put(rec)
		d.lastSeq = max(d.lastSeq, rec.Seq)
		return rec, nil
	})
	if err == nil {
		err = fnErr
	}
	return rec, err
}

// DeleteDelivery implements store.Deliveries.
func (s *Store) DeleteDelivery(ctx context.Context, seq uint64) error {
	_, err := withDeliveries(ctx, s, "delete delivery", func(d *deliveries) (struct{}, error) {
		if rec, ok := d.records[seq]; ok {
			d.remove(rec)
		}
		return struct{}{}, nil
	})
	return err
}

// CountDeliveries implements store.Deliveries.
func (s *Store) CountDeliveries(ctx context.Context) (store.DeliveryCounts, error) {
	return withDeliveries(ctx, s, "count deliveries", func(d *deliveries) (store.DeliveryCounts, error) {
		c := store.DeliveryCounts{Pending: map[string]int{}, Dead: len(d.dead.live)}
		for target, p := range d.pending {
			c.Pending[target] = len(p.live)
		}
		return c, nil
	})
}
