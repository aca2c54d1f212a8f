package forward

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"lingpai/tokens/store"
)

// runner delivers to one target during one Run. One goroutine, that of run, has
// all but wake; workers make attempts and tell it what came of them.
type runner struct {
	f       *Forwarder
	name    string
	wake    chan struct{}
	results chan result
	taken   atomic.Int64 // Unix ns when the target last took something

	lanes   lanes
	workers int
	lastSeq uint64 // of what was read
	unread  bool   // there may be more in the store
	full    bool   // more than the window holds

	// candidates are the oldest messages, for when there are too many.
	candidates []candidate
	given      int // how many were given up
	tooMany    throttle
	unreadable throttle
	dying      throttle
}

// result is what a worker has done with the first delivery of a lane.
type result struct {
	lane *lane
	// settled: it is pending no more.
	settled bool
	// delivered: the target has taken it, but the store does not know.
	delivered bool
	// again is when to go on, if it is not settled.
	again time.Time
	fault error // of the store
	// dead is the delivery, if it was given up, and why.
	dead *store.Delivery
	why  string
}

func newRunner(f *Forwarder, name string) *runner {
	return &runner{
		f: f, name: name, wake: make(chan struct{}, 1), results: make(chan result),
		lanes: lanes{of: map[string]*lane{}}, unread: true,
	}
}

func (r *runner) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends.
func (r *runner) run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	first := true
	for ctx.Err() == nil {
		r.read(ctx)
		r.giveUp(ctx)
		if first {
			r.gauge(ctx)
			first = false
		}
		if next, ok := r.lanes.due(time.Now()); ok {
			timer.Reset(time.Until(next))
		}
		for r.workers < r.f.limits.parallel {
			l := r.lanes.take()
			if l == nil {
				break
			}
			r.workers++
			w := worker{f: r.f, taken: &r.taken, target: r.name, lane: l, seq: l.entries[0].seq, delivered: l.delivered}
			workers.Go(func() {
				done := w.work(ctx)
				select {
				case r.results <- done:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
			r.unread = true
		case <-timer.C:
		case <-poll.C:
			r.unread = true // also if the gauge fails
			r.gauge(ctx)
		case done := <-r.results:
			r.finish(done)
		}
	}
}

// finish takes over what a worker has done.
func (r *runner) finish(done result) {
	r.workers--
	l := done.lane
	if d := done.dead; d != nil {
		if silent, ok := r.dying.allow(time.Now()); ok {
			r.f.log.Warn("a push is given up: it is a dead letter now", "target", r.name, "app_id", d.AppID, "type", d.Type,
				"delivery", d.ID, "error", done.why, "attempts", d.Attempts+1, "unlogged_before", silent)
		}
	}
	if done.settled {
		r.lanes.done(l)
		return
	}
	l.delivered = done.delivered
	again := done.again
	if done.fault == nil {
		l.faults = 0
	} else {
		l.faults++
		again = time.Now().Add(backoff(l.faults, jitter()))
		r.complain("a delivery waits for the store", done.fault)
	}
	r.lanes.later(l, again)
}

func (r *runner) complain(what string, err error) {
	if silent, ok := r.unreadable.allow(time.Now()); ok {
		r.f.log.Error(what+", trying again", "target", r.name, "error", err, "unlogged_before", silent)
	}
}

// read takes over what was queued since the last time, as much as the window
// holds.
func (r *runner) read(ctx context.Context) {
	if r.full && r.lanes.held <= r.f.limits.window/2 {
		r.full, r.unread = false, true
	}
	for r.unread && !r.full && ctx.Err() == nil {
		page, err := r.f.store.Deliveries(ctx, r.name, r.lastSeq, pageSize)
		if err != nil {
			if ctx.Err() == nil {
				r.complain("what is to be delivered cannot be read", err)
			}
			return // until the next poll or wake
		}
		for _, d := range page {
			r.lastSeq = d.Seq
			nextAt := d.NextAt
			if time.Until(nextAt) > maxRetryAfter {
				nextAt = time.Time{} // a clock was wrong
			}
			r.lanes.add(d.AppID, entry{d.Seq, d.Lasting}, nextAt)
		}
		r.unread = len(page) == pageSize
		r.full = r.lanes.held >= r.f.limits.window
		if r.lanes.held > r.f.limits.pending {
			r.giveUp(ctx)
		}
	}
}

// errTooMany is the LastError of what was given up for want of room.
const errTooMany = "too many pending"

// giveUp makes dead letters of the oldest messages beyond the bound.
func (r *runner) giveUp(ctx context.Context) {
	given := 0
	for r.lanes.held > r.f.limits.pending && ctx.Err() == nil {
		if len(r.candidates) == 0 {
			// Some for the next times: finding them looks at all lanes.
			excess := r.lanes.held - r.f.limits.pending
			if r.candidates = r.lanes.oldest(excess + r.f.limits.pending/100 + 1); len(r.candidates) == 0 {
				break // no messages
			}
		}
		c := r.candidates[0]
		r.candidates = r.candidates[1:]
		if !r.lanes.remove(c.lane, c.seq) {
			continue // delivered meanwhile, or on its way
		}
		if err := r.f.bury(ctx, c.seq, errTooMany); err != nil {
			// It is read again with all others, at the latest by the next Run.
			r.complain("a message that there is no room for cannot be put aside", err)
			break
		}
		given++
		r.given++
		r.f.metrics.PushDelivery(r.name, resultDead)
	}
	if given > 0 {
		if silent, ok := r.tooMany.allow(time.Now()); ok {
			r.f.log.Warn("too many pushes wait for a target: the oldest messages become dead letters",
				"target", r.name, "now", given, "pending", r.lanes.held, "unlogged_before", silent)
		}
	}
}

// gauge tells how many wait, and reads all anew if the store has more than are
// held: one that could not be given up, or a Seq that came late.
func (r *runner) gauge(ctx context.Context) {
	counts, err := r.f.store.CountDeliveries(ctx)
	if err != nil {
		return // read complains
	}
	oldest, err := r.f.store.Deliveries(ctx, r.name, 0, 1)
	if err != nil {
		return
	}
	var since time.Time
	if len(oldest) > 0 {
		since = oldest[0].ReceivedAt
	}
	n := counts.Pending[r.name]
	r.f.metrics.PushDeliveriesPending(r.name, n, since)
	// All that was counted and is not behind what was read is held after this, or
	// was given up.
	given := r.given
	r.unread = true
	r.read(ctx)
	if !r.unread && !r.full && r.lanes.held+r.given-given < n {
		r.lastSeq, r.unread = 0, true
		r.read(ctx)
	}
}

// worker makes one attempt.
type worker struct {
	f         *Forwarder
	taken     *atomic.Int64 // of the runner
	target    string
	lane      *lane
	seq       uint64
	delivered bool
}

func (w *worker) work(ctx context.Context) result {
	if w.delivered {
		return w.forget(ctx)
	}
	// Read now: it may have been changed, or be gone.
	d, err := w.f.store.Delivery(ctx, w.seq)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return result{lane: w.lane, settled: true}
	case err != nil:
		return result{lane: w.lane, fault: err}
	case d.Dead:
		return result{lane: w.lane, settled: true}
	case d.NextAt.After(time.Now()) && time.Until(d.NextAt) <= maxRetryAfter: // or a clock was wrong
		return result{lane: w.lane, again: d.NextAt}
	}
	t := w.f.targets.Load().byName[w.target]
	if t == nil {
		return result{lane: w.lane, again: time.Now().Add(pollInterval)} // this Run ends for it
	}
	out := w.f.send(ctx, t, d)
	switch {
	case out.err == "":
		w.f.metrics.PushDelivery(w.target, resultDelivered)
		w.taken.Store(time.Now().UnixNano())
		return w.forget(ctx)
	case ctx.Err() != nil:
		return result{lane: w.lane, again: time.Now()} // our own fault: no attempt
	}
	return w.failed(ctx, d, out)
}

// forget takes what was delivered out of the store, also at the end of a Run.
func (w *worker) forget(ctx context.Context) result {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := w.f.store.DeleteDelivery(ctx, w.seq); err != nil {
		return result{lane: w.lane, delivered: true, fault: err}
	}
	return result{lane: w.lane, settled: true}
}

// failed notes a failed attempt.
func (w *worker) failed(ctx context.Context, d store.Delivery, out outcome) result {
	now := time.Now()
	limit := maxBackoff
	if now.Sub(time.Unix(0, w.taken.Load())) < takingFor {
		limit = maxWhileTaking
	}
	again := now.Add(max(backoffUpTo(limit, d.Attempts+1, jitter()), out.retryAfter))
	dead := out.gone || !d.GiveUpAt.After(now)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_, err := w.f.store.UpdateDelivery(ctx, w.seq, func(d *store.Delivery) error {
		d.Attempts++
		d.NextAt, d.LastError, d.Dead = again, out.err, d.Dead || dead
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return result{lane: w.lane, settled: true}
	case err != nil:
		return result{lane: w.lane, fault: err}
	case !dead:
		w.f.metrics.PushDelivery(w.target, resultRetried)
		w.f.log.Debug("a push is not delivered yet, trying again", "target", w.target, "delivery", d.ID,
			"error", out.err, "attempts", d.Attempts+1, "retry_after", again.Sub(now).Round(time.Millisecond).String())
		return result{lane: w.lane, again: again}
	}
	w.f.metrics.PushDelivery(w.target, resultDead)
	w.f.trimSoon()
	return result{lane: w.lane, settled: true, dead: &d, why: out.err}
}
