package tokens

import (
	"context"
	"errors"
	"time"

	"lingpai/tokens/store"
)

// leadTime is how long the process that leads keeps others from it after its
// death. It tells that it is alive three times as often, and others ask as often:
// so another one leads at most a third later.
const leadTime = 6 * time.Second

// leading runs fn while this process leads among those that share the store, from
// the beginning whenever it comes to lead, until ctx ends. A process that is alone
// with its store leads.
func (s *Service) leading(ctx context.Context, name string, fn func(context.Context)) {
	if s.shared == nil {
		fn(ctx)
		return
	}
	for ctx.Err() == nil {
		lease, err := s.shared.Lease(ctx, name, leadTime)
		if err != nil {
			sleep(ctx, leadTime/3)
			continue
		}
		s.lead(ctx, name, lease, fn)
		s.release(lease)
	}
}

// lead runs fn until ctx ends or the lease may have.
func (s *Service) lead(ctx context.Context, name string, lease store.Lease, fn func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	defer func() { <-done }()
	defer cancel()
	extended := time.Now()
	tick := time.NewTicker(leadTime / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began := time.Now()
		trying, stop := context.WithDeadline(ctx, extended.Add(leadTime))
		err := lease.Extend(trying, leadTime)
		stop()
		switch {
		case err == nil:
			extended = began
		case errors.Is(err, store.ErrLeased), time.Since(extended) > leadTime*2/3:
			// In time before another one may lead.
			s.log.Warn("this sidecar leads no more: the store has not heard of it for too long", "in", name, "error", err)
			return
		}
	}
}

// sole takes a lease for its whole time, so that of the processes that share the
// store one does what name stands for. give gives it up, for another try.
func (s *Service) sole(ctx context.Context, name string, ttl time.Duration) (give func(), ok bool) {
	if s.shared == nil {
		return func() {}, true
	}
	lease, err := s.shared.Lease(ctx, name, ttl)
	if err != nil {
		return nil, false
	}
	return func() { s.release(lease) }, true
}
