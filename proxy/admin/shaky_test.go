package admin

import (
	"context"
	"errors"
	"sync/atomic"

	"lingpai/tokens/store"
)

// shakyStore is a store that can be told to fail or to hang.
type shakyStore struct {
	store.Store
	err  atomic.Pointer[error]
	hang atomic.Pointer[chan struct{}] // Ping waits for it, whatever its context says
	// updates of deliveries left until one fails; 0 or less: none will
	updates atomic.Int64
}

func (s *shakyStore) fail(err error) { s.err.Store(&err) }

func (s *shakyStore) failing() error {
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *shakyStore) Component(ctx context.Context, appID string) (store.Component, error) {
	if err := s.failing(); err != nil {
		return store.Component{}, err
	}
	return s.Store.Component(ctx, appID)
}

func (s *shakyStore) UpdateComponent(ctx context.Context, appID string, fn func(*store.Component) error) (store.Component, error) {
	if err := s.failing(); err != nil {
		return store.Component{}, err
	}
	return s.Store.UpdateComponent(ctx, appID, fn)
}

func (s *shakyStore) Authorizer(ctx context.Context, appID string) (store.Authorizer, error) {
	if err := s.failing(); err != nil {
		return store.Authorizer{}, err
	}
	return s.Store.Authorizer(ctx, appID)
}

func (s *shakyStore) UpdateAuthorizer(ctx context.Context, appID string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	if err := s.failing(); err != nil {
		return store.Authorizer{}, err
	}
	return s.Store.UpdateAuthorizer(ctx, appID, fn)
}

func (s *shakyStore) Authorizers(ctx context.Context, after string, limit int) ([]store.Authorizer, error) {
	if err := s.failing(); err != nil {
		return nil, err
	}
	return s.Store.Authorizers(ctx, after, limit)
}

func (s *shakyStore) CountAuthorizers(ctx context.Context) (store.Counts, error) {
	if err := s.failing(); err != nil {
		return store.Counts{}, err
	}
	return s.Store.CountAuthorizers(ctx)
}

func (s *shakyStore) Ping(ctx context.Context) error {
	if hang := s.hang.Load(); hang != nil {
		<-*hang
	}
	if err := s.failing(); err != nil {
		return err
	}
	return s.Store.Ping(ctx)
}

// delivering is store.Deliveries, which cannot be embedded by that name: it has a
// method of that name.
type delivering interface{ store.Deliveries }

// shakyDeliveries fails when the shakyStore does.
type shakyDeliveries struct {
	delivering
	when *shakyStore
}

func (s shakyDeliveries) Delivery(ctx context.Context, seq uint64) (store.Delivery, error) {
	if err := s.when.failing(); err != nil {
		return store.Delivery{}, err
	}
	return s.delivering.Delivery(ctx, seq)
}

func (s shakyDeliveries) DeadDeliveries(ctx context.Context, after uint64, limit int) ([]store.Delivery, error) {
	if err := s.when.failing(); err != nil {
		return nil, err
	}
	return s.delivering.DeadDeliveries(ctx, after, limit)
}

func (s shakyDeliveries) UpdateDelivery(ctx context.Context, seq uint64, fn func(*store.Delivery) error) (store.Delivery, error) {
	if err := s.when.failing(); err != nil {
		return store.Delivery{}, err
	}
	if left := s.when.updates.Add(-1); left == 0 {
		return store.Delivery{}, errors.New("disk full")
	}
	return s.delivering.UpdateDelivery(ctx, seq, fn)
}

func (s shakyDeliveries) CountDeliveries(ctx context.Context) (store.DeliveryCounts, error) {
	if err := s.when.failing(); err != nil {
		return store.DeliveryCounts{}, err
	}
	return s.delivering.CountDeliveries(ctx)
}
