package tokens

import (
	"context"
	"slices"
	"sync"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// maxWorkers is how many authorizers' events are worked on at a time.
	maxWorkers = 32
	// eventPage is how many stored pushes are read at a time.
	eventPage = 200
)

// events hands stored pushes to workers: one authorizer's in their order,
// different authorizers' side by side. It holds only their numbers.
type events struct {
	mu      sync.Mutex
	queues  map[string]*eventQueue // by authorizer
	ready   []string               // authorizers with work and no worker
	wake    chan struct{}
	lastSeq uint64 // of the pushes queued so far
}

// eventQueue is what waits for one authorizer.
type eventQueue struct {
	pending  []pending // in the order of arrival
	failures int       // of the first
	retry    *time.Timer
}

// pending is a stored push that waits for its turn.
type pending struct {
	seq uint64
	at  time.Time
	// decides: it settles what the account's authorization is, whatever came
	// before it.
	decides bool
}

func newEvents() *events {
	return &events{queues: map[string]*eventQueue{}, wake: make(chan struct{}, 1)}
}

// overtaken reports whether a newer event decides, so that the first need not be
// tried again.
func (q *eventQueue) overtaken() bool {
	newer := func(p pending) bool { return p.decides && !p.at.Before(q.pending[0].at) }
	return len(q.pending) > 1 && slices.ContainsFunc(q.pending[1:], newer)
}

// ReceiveEvent persists an authentic push that is to be worked on; once it
// returns nil WeChat may be answered. added is false if the same push is
// already waiting.
func (s *Service) ReceiveEvent(ctx context.Context, push store.Push) (added bool, err error) {
	if err := s.mayWrite(); err != nil {
		return false, err
	}
	_, added, err = s.store.AddPush(ctx, push)
	if err != nil {
		return false, err
	}
	s.events.signal()
	return added, nil
}

// reset forgets what is queued: it is read from the store again.
func (e *events) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, q := range e.queues {
		if q.retry != nil {
			q.retry.Stop()
		}
	}
	clear(e.queues)
	e.ready, e.lastSeq = nil, 0
}

func (e *events) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// runEvents works on stored pushes, those of a former run first, until ctx ends.
func (s *Service) runEvents(ctx context.Context) {
	s.events.reset()
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, maxWorkers)
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		if err := s.queueEvents(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("stored pushes cannot be read, trying again", "error", err)
			retry.Reset(firstBackoff)
		}
		for {
			authorizer, ok := s.events.take()
			if !ok {
				break
			}
			select {
			case slots <- struct{}{}: // a worker that waits to try again holds none
			case <-ctx.Done():
				return
			}
			workers.Go(func() {
				defer func() { <-slots }()
				s.workOn(ctx, authorizer)
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-s.events.wake:
		case <-retry.C:
		}
	}
}

// queueEvents reads the pushes stored since the last call into the queues.
func (s *Service) queueEvents(ctx context.Context) error {
	for {
		s.events.mu.Lock()
		after := s.events.lastSeq
		s.events.mu.Unlock()
		page, err := s.store.Pushes(ctx, after, eventPage)
		if err != nil {
			return err
		}
		for _, push := range page {
			event, err := wechat.ParseEvent([]byte(push.Message.Reveal()))
			if err != nil { // it was checked before it was stored
				s.log.Error("a stored push cannot be read and is dropped", "seq", push.Seq)
				s.events.skip(push.Seq)
				s.forget(ctx, push.Seq)
				continue
			}
			s.events.add(event.AuthorizerID, pending{push.Seq, eventTime(push, event), decides(event)})
		}
		if len(page) < eventPage {
			return nil
		}
	}
}

// skip notes that a push is not queued.
func (e *events) skip(seq uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastSeq = max(e.lastSeq, seq)
}

func (e *events) add(authorizer string, p pending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastSeq = max(e.lastSeq, p.seq)
	q := e.queues[authorizer]
	if q == nil {
		q = &eventQueue{}
		e.queues[authorizer] = q
		e.ready = append(e.ready, authorizer)
	}
	q.pending = append(q.pending, p)
	if q.retry != nil && q.overtaken() && q.retry.Stop() {
		q.retry = nil
		e.ready = append(e.ready, authorizer)
	}
}

// take returns an authorizer that has work and no worker.
func (e *events) take() (authorizer string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ready) == 0 {
		return "", false
	}
	authorizer = e.ready[0]
	e.ready = e.ready[1:]
	return authorizer, true
}

// first returns the oldest pending push of an authorizer and how often it was
// tried; ok is false, and the queue gone, if there is none. overtaken is true if
// it was tried and a newer one decides.
func (e *events) first(authorizer string) (seq uint64, failures int, overtaken, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queues[authorizer]
	if q == nil || len(q.pending) == 0 {
		delete(e.queues, authorizer)
		return 0, 0, false, false
	}
	return q.pending[0].seq, q.failures, q.failures > 0 && q.overtaken(), true
}

// done takes the first push of an authorizer off its queue.
func (e *events) done(authorizer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queues[authorizer]
	q.pending, q.failures = q.pending[1:], 0
}

// later puts an authorizer off for wait, or until a newer event of it decides.
func (e *events) later(authorizer string, wait time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.queues[authorizer]
	q.failures++
	if q.overtaken() {
		wait = 0
	}
	q.retry = time.AfterFunc(wait, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.queues[authorizer] != q {
			return // reset meanwhile
		}
		q.retry = nil
		e.ready = append(e.ready, authorizer)
		e.signal()
	})
}

// workOn works on an authorizer's pushes until none is left or one has to wait.
func (s *Service) workOn(ctx context.Context, authorizer string) {
	for {
		seq, failures, overtaken, ok := s.events.first(authorizer)
		if !ok {
			return
		}
		again, err := s.workOnPush(ctx, seq, failures, overtaken)
		if err != nil {
			if ctx.Err() != nil {
				return // it is stored, and worked on after the restart
			}
			s.log.Error("a push is not worked on yet, trying again", "app_id", authorizer, "error", err)
			again = backoff(err, failures+1, time.Now(), jitter())
		}
		if again > 0 {
			s.events.later(authorizer, again)
			return
		}
		s.forget(ctx, seq)
		s.events.done(authorizer)
	}
}

// workOnPush works on one stored push. again above 0 is when to try it again.
// An error means that the store failed.
func (s *Service) workOnPush(ctx context.Context, seq uint64, failures int, overtaken bool) (again time.Duration, err error) {
	page, err := s.store.Pushes(ctx, seq-1, 1)
	if err != nil {
		return 0, err
	}
	if len(page) == 0 || page[0].Seq != seq {
		return 0, nil
	}
	push := page[0]
	event, err := wechat.ParseEvent([]byte(push.Message.Reveal()))
	if err != nil {
		return 0, nil
	}
	result := "superseded"
	if !overtaken {
		result, again, err = s.apply(ctx, push, event, failures)
	}
	if err != nil || again > 0 {
		return again, err
	}
	if decides(event) && (result == "ok" || result == "repeat") {
		s.noteLink(event.PreAuthCode, event.AuthorizerID)
	}
	if s.hooks.Worked != nil {
		if err := s.hooks.Worked(ctx, push, event); err != nil {
			return 0, err
		}
	}
	s.metrics.Push(event.InfoType, result)
	return 0, nil
}

// forget drops a push that has been worked on. If that fails, it is worked on
// again after a restart, where it is found to be a repeat.
func (s *Service) forget(ctx context.Context, seq uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := s.store.DeletePush(ctx, seq); err != nil {
		s.log.Error("a push that was worked on cannot be dropped", "seq", seq, "error", err)
	}
}
