package forward

import (
	"context"
	"errors"
	"sync"
	"time"

	"lingpai/tokens/store"
)

const (
	// storeTimeout bounds what is written when nobody's context does.
	storeTimeout = 5 * time.Second
	// pollInterval is how often the store is looked at without a Wake, and the
	// gauges are set.
	pollInterval = 10 * time.Second
	// sweepInterval is between two looks at what targets that are no more have
	// left.
	sweepInterval = 10 * time.Minute
	// pageSize is how many deliveries are read at a time: each may have a
	// megabyte.
	pageSize = 32
)

// Run delivers what is queued, from the beginning of what the store has, until
// ctx ends; all attempts have ended when it returns. One process at a time should
// run it: where two do, an app gets more twice than it needs to, in no certain
// order.
func (f *Forwarder) Run(ctx context.Context) {
	defer f.metrics.PushDeliveriesUnknown()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { f.keepBounds(ctx) })
	stops := map[string]func(){}
	for ctx.Err() == nil {
		f.mu.Lock()
		wanted, changed := f.targets.Load(), f.changed
		f.mu.Unlock()
		for name, stop := range stops {
			if wanted.byName[name] == nil {
				stop()
				delete(stops, name)
			}
		}
		for name := range wanted.byName {
			if stops[name] == nil {
				stops[name] = f.start(ctx, &running, name)
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	for _, stop := range stops {
		stop()
	}
}

// start begins to deliver to a target; stop returns when that has ended.
func (f *Forwarder) start(ctx context.Context, running *sync.WaitGroup, name string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r := newRunner(f, name)
	f.mu.Lock()
	f.runners[name] = r
	f.mu.Unlock()
	ended := make(chan struct{})
	running.Go(func() {
		defer close(ended)
		r.run(ctx)
	})
	return func() {
		cancel()
		<-ended
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.runners, name)
		f.metrics.PushDeliveriesPending(name, 0, time.Time{})
	}
}

// keepBounds forgets dead letters beyond what is kept, and has what targets that
// are no more have left die in time.
func (f *Forwarder) keepBounds(ctx context.Context) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	var swept time.Time
	for {
		counts, err := f.store.CountDeliveries(ctx)
		if err == nil {
			counts.Dead, err = f.trimDead(ctx, counts.Dead)
			f.metrics.PushDeadLetters(counts.Dead)
		}
		if err == nil && time.Since(swept) >= sweepInterval {
			swept = time.Now()
			err = f.sweep(ctx, counts)
		}
		if err != nil && ctx.Err() == nil {
			f.log.Error("dead letters cannot be looked after, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-f.trim:
		case <-poll.C:
		}
	}
}

// trimDead forgets the oldest dead letters beyond the bound and returns how many
// there are then.
func (f *Forwarder) trimDead(ctx context.Context, have int) (int, error) {
	forgotten := 0
	defer func() {
		if forgotten > 0 {
			f.log.Warn("there are too many dead letters: the oldest are forgotten", "forgotten", forgotten, "kept", f.limits.dead)
		}
	}()
	for have > f.limits.dead {
		page, err := f.store.DeadDeliveries(ctx, 0, min(have-f.limits.dead, pageSize))
		if err != nil || len(page) == 0 {
			return have, err
		}
		for _, d := range page {
			if err := f.store.DeleteDelivery(ctx, d.Seq); err != nil {
				return have, err
			}
			have--
			forgotten++
			f.metrics.PushDelivery(f.label(d.Target), resultDropped)
		}
	}
	return have, nil
}

// label is target as metrics may have it: names of targets that are no more are
// in the store for as long as their dead letters.
func (f *Forwarder) label(target string) string {
	if f.targets.Load().byName[target] == nil {
		return "other"
	}
	return target
}

// errOrphan is the LastError of what a target that is no more has left.
const errOrphan = "no target of this name"

// sweep makes dead letters of what waits for no target and is too old.
func (f *Forwarder) sweep(ctx context.Context, counts store.DeliveryCounts) error {
	for target := range counts.Pending {
		if f.targets.Load().byName[target] != nil {
			continue
		}
		for after := uint64(0); ; {
			page, err := f.store.Deliveries(ctx, target, after, pageSize)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			if after == 0 {
				f.log.Warn("pushes wait for a target that is not configured", "target", target, "pending", counts.Pending[target])
			}
			for _, d := range page {
				if after = d.Seq; d.GiveUpAt.After(time.Now()) {
					continue
				}
				if err := f.bury(ctx, d.Seq, errOrphan); err != nil {
					return err
				}
				f.metrics.PushDelivery(f.label(target), resultDead)
			}
		}
	}
	return nil
}

// bury makes a pending delivery a dead letter; it may be gone.
func (f *Forwarder) bury(ctx context.Context, seq uint64, why string) error {
	_, err := f.store.UpdateDelivery(ctx, seq, func(d *store.Delivery) error {
		if d.Dead {
			return store.ErrUnchanged
		}
		d.Dead, d.LastError = true, why
		return nil
	})
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrUnchanged) {
		return nil
	}
	if err == nil {
		f.trimSoon()
	}
	return err
}

func (f *Forwarder) trimSoon() {
	select {
	case f.trim <- struct{}{}:
	default:
	}
}
