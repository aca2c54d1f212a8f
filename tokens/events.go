package tokens

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// maxWorkers is how many authorizers' events are worked on at a time.
	maxWorkers = 32
	// eventPage is how many stored pushes are read at a time.
	eventPage = 200
	// codeLifetime is taken for that of an authorization code whose push does
	// not tell it.
	codeLifetime = time.Hour
	// maxCodeLifetime bounds what a push may tell.
	maxCodeLifetime = 24 * time.Hour
	// maxEventAhead bounds how far a CreateTime may lie ahead of our clock, so
	// that a wrong one does not shut out later events for long.
	maxEventAhead = 5 * time.Minute
)

// events hands stored pushes to workers: one authorizer's in their order,
// different authorizers' side by side. It holds only their numbers.
type events struct {
	mu      sync.Mutex
	queues  map[string][]pending // by authorizer, in the order of arrival
	ready   []string             // authorizers with work and no worker
	newer   map[string]chan struct{}
	wake    chan struct{}
	lastSeq uint64 // of the pushes queued so far
}

// pending is a stored push that waits for its turn.
type pending struct {
	seq uint64
	at  time.Time // its CreateTime
}

func newEvents() *events {
	return &events{
		queues: map[string][]pending{},
		newer:  map[string]chan struct{}{},
		wake:   make(chan struct{}, 1),
	}
}

// ReceiveEvent persists an authentic push that is to be worked on; once it
// returns nil WeChat may be answered. added is false if the same push is
// already waiting.
func (s *Service) ReceiveEvent(ctx context.Context, push store.Push) (added bool, err error) {
	_, added, err = s.store.AddPush(ctx, push)
	if err != nil {
		return false, err
	}
	select {
	case s.events.wake <- struct{}{}:
	default:
	}
	return added, nil
}

// runEvents works on stored pushes, those of a former run first, until ctx ends.
func (s *Service) runEvents(ctx context.Context) {
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
			case slots <- struct{}{}:
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
				s.forget(ctx, push.Seq)
				continue
			}
			s.events.add(event.AuthorizerID, pending{push.Seq, event.CreateTime})
		}
		if len(page) < eventPage {
			return nil
		}
	}
}

func (e *events) add(authorizer string, p pending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lastSeq = max(e.lastSeq, p.seq)
	queue, worked := e.queues[authorizer]
	e.queues[authorizer] = append(queue, p)
	if !worked {
		e.ready = append(e.ready, authorizer)
	}
	if newer := e.newer[authorizer]; newer != nil && !p.at.Before(queue[0].at) {
		close(newer)
		delete(e.newer, authorizer)
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

// first returns the oldest pending push of an authorizer, and a channel that is
// closed when a newer one comes; ok is false, and the queue gone, if there is
// none.
func (e *events) first(authorizer string) (seq uint64, newer <-chan struct{}, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	queue := e.queues[authorizer]
	if len(queue) == 0 {
		delete(e.queues, authorizer)
		delete(e.newer, authorizer)
		return 0, nil, false
	}
	waiting := make(chan struct{})
	overtaken := func(p pending) bool { return !p.at.Before(queue[0].at) }
	if slices.ContainsFunc(queue[1:], overtaken) {
		close(waiting)
	} else {
		e.newer[authorizer] = waiting
	}
	return queue[0].seq, waiting, true
}

func (e *events) done(authorizer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queues[authorizer] = e.queues[authorizer][1:]
}

// workOn works on an authorizer's pushes until none is left.
func (s *Service) workOn(ctx context.Context, authorizer string) {
	for failures := 0; ; {
		seq, newer, ok := s.events.first(authorizer)
		if !ok {
			return
		}
		err := s.workOnPush(ctx, seq, newer)
		if ctx.Err() != nil {
			return // it is stored, and worked on after the restart
		}
		if err != nil {
			failures++
			s.log.Error("a push is not worked on yet, trying again", "app_id", authorizer, "error", err)
			sleep(ctx, backoff(err, failures, time.Now(), jitter()), nil)
			continue
		}
		failures = 0
		s.forget(ctx, seq)
		s.events.done(authorizer)
	}
}

// workOnPush works on one stored push. An error means that the store failed.
func (s *Service) workOnPush(ctx context.Context, seq uint64, newer <-chan struct{}) error {
	page, err := s.store.Pushes(ctx, seq-1, 1)
	if err != nil {
		return err
	}
	if len(page) == 0 || page[0].Seq != seq {
		return nil
	}
	push := page[0]
	event, err := wechat.ParseEvent([]byte(push.Message.Reveal()))
	if err != nil {
		return nil
	}
	result, err := s.apply(ctx, push, event, newer)
	if err != nil {
		return err
	}
	if ctx.Err() == nil {
		s.metrics.Push(event.InfoType, result)
	}
	return nil
}

// forget drops a push that has been worked on. If that fails, it is worked on
// again after a restart, where it is found to be a repeat.
func (s *Service) forget(ctx context.Context, seq uint64) {
	if err := s.store.DeletePush(ctx, seq); err != nil && ctx.Err() == nil {
		s.log.Error("a push that was worked on cannot be dropped", "seq", seq, "error", err)
	}
}

// apply does what an event asks for.
func (s *Service) apply(ctx context.Context, push store.Push, event wechat.Event, newer <-chan struct{}) (result string, err error) {
	at := event.CreateTime
	if latest := push.ReceivedAt.Add(maxEventAhead); at.After(latest) {
		at = latest
	}
	switch event.InfoType {
	case wechat.InfoTypeUnauthorized:
		return s.applyUnauthorized(ctx, push, event, at)
	case wechat.InfoTypeAuthorized, wechat.InfoTypeUpdateAuthorized, wechat.InfoTypeFastRegister:
		record, err := s.store.Authorizer(ctx, event.AuthorizerID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return "", err
		}
		if result := stale(record, at, push.Digest); result != "" {
			return result, nil
		}
		return s.applyAuthorized(ctx, push, event, at, newer)
	}
	return "ok", nil
}

// stale says whether an event of that time and digest changes nothing any more:
// "" if it does, "repeat" or "superseded" if not.
func stale(record store.Authorizer, at time.Time, digest string) string {
	switch {
	case record.EventDigest == digest:
		return "repeat"
	case at.Before(record.EventAt):
		return "superseded"
	}
	return ""
}

func (s *Service) applyUnauthorized(ctx context.Context, push store.Push, event wechat.Event, at time.Time) (result string, err error) {
	_, err = s.store.UpdateAuthorizer(ctx, event.AuthorizerID, func(a *store.Authorizer) error {
		if result = stale(*a, at, push.Digest); result != "" {
			return store.ErrUnchanged
		}
		// An account never heard of is noted too: its authorization may be a
		// push that comes late.
		a.State = store.StateUnauthorized
		a.RefreshToken = store.Authorizer{}.RefreshToken
		a.Token = store.Token{Generation: a.Token.Generation + 1}
		a.EventAt, a.EventDigest = at, push.Digest
		return nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		return result, nil
	}
	if err != nil {
		return "", err
	}
	s.dropFromMemory(ctx, event.AuthorizerID)
	s.log.Info("authorizer ended its authorization", "app_id", event.AuthorizerID)
	return "ok", nil
}

// applyAuthorized exchanges the code, until that succeeds, the code is spent or
// expired, or a newer event of the authorizer has come.
func (s *Service) applyAuthorized(ctx context.Context, push store.Push, event wechat.Event, at time.Time, newer <-chan struct{}) (result string, err error) {
	if event.Code.Empty() {
		return "ok", nil // notify_third_fasteregister of a failed registration
	}
	deadline := codeDeadline(event.CodeExpires, push.ReceivedAt)
	for failures := 1; ; failures++ {
		began := time.Now()
		brought, err := s.exchange(ctx, event)
		if err == nil {
			return s.saveAuthorization(ctx, push, at, began, brought)
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		class := wechat.ClassOther
		if e, ok := errors.AsType[*wechat.Error](err); ok {
			class = e.Class()
		}
		wait := min(backoff(err, failures, time.Now(), jitter()), time.Minute)
		if class == wechat.ClassCode || time.Now().Add(wait).After(deadline) {
			s.log.Error("an authorization code could not be exchanged and is spent or expired: "+
				"unless the account works, its administrator must authorize again", "app_id", event.AuthorizerID,
				"info_type", event.InfoType, "error", err)
			return "error", nil
		}
		s.log.Warn("an authorization code is not exchanged yet, trying again", "app_id", event.AuthorizerID,
			"error", err, "retry_after", wait.Round(time.Millisecond).String(), "until", deadline.UTC())
		if sleep(ctx, wait, newer) {
			return "superseded", nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
	}
}

// exchange spends the code of an event.
func (s *Service) exchange(ctx context.Context, event wechat.Event) (wechat.Grant, error) {
	var brought wechat.Grant
	began := time.Now()
	err := s.asComponent(ctx, func(component *Token) error {
		var err error
		began = time.Now()
		brought, err = s.config.Load().Client.QueryAuth(ctx, component.Value, component.AppID, event.Code)
		return err
	})
	if !notAsked(err) {
		s.metrics.Refresh(metrics.Authorizer, string(reasonEvent), time.Since(began), err)
	}
	return brought, err
}

// saveAuthorization replaces all of an authorizer's tokens in one write.
func (s *Service) saveAuthorization(ctx context.Context, push store.Push, at, began time.Time, brought wechat.Grant) (result string, err error) {
	// The code is spent: what it brought is persisted even while stopping, and
	// tried again as long as the store fails.
	for failures := 1; ; failures++ {
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		_, err = s.store.UpdateAuthorizer(saving, brought.AppID, func(a *store.Authorizer) error {
			if result = stale(*a, at, push.Digest); result == "superseded" {
				return store.ErrUnchanged
			}
			generation := a.Token.Generation + 1
			refreshToken := brought.RefreshToken
			if refreshToken.Empty() {
				refreshToken = a.RefreshToken // an empty one never replaces one
			}
			*a = store.Authorizer{
				AppID:        brought.AppID,
				State:        store.StateActive,
				RefreshToken: refreshToken,
				AuthorizedAt: at,
				EventAt:      at,
				EventDigest:  push.Digest,
				Scopes:       brought.Scopes,
				Token:        store.Token{Generation: generation},
			}
			if !brought.AccessToken.Value.Empty() {
				a.Token = store.Token{
					Value:       brought.AccessToken.Value,
					RefreshedAt: began,
					ExpiresAt:   began.Add(brought.AccessToken.ExpiresIn),
					Generation:  generation,
				}
			}
			return nil
		})
		cancel()
		if err == nil || errors.Is(err, store.ErrUnchanged) || ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			break
		}
		s.log.Error("the tokens of an authorization are not stored yet, trying again", "app_id", brought.AppID, "error", err)
		sleep(ctx, backoff(err, failures, time.Now(), 0), nil)
	}
	if errors.Is(err, store.ErrUnchanged) {
		return result, nil
	}
	if err != nil {
		return "", err
	}
	key := Key{Authorizer, brought.AppID}
	s.troubles.mended(key)
	s.dropFromMemory(ctx, brought.AppID)
	s.log.Info("authorizer authorized", "app_id", brought.AppID)
	return "ok", nil
}

// dropFromMemory makes memory hold what the store now has of an authorizer.
func (s *Service) dropFromMemory(ctx context.Context, appID string) {
	key := Key{Authorizer, appID}
	if _, err := s.publish(context.WithoutCancel(ctx), key); err != nil && !errors.Is(err, ErrReauthorize) && !errors.Is(err, ErrUnknown) {
		// The store fails: what memory has is known to be old.
		lock := s.memory.lock(key)
		lock.Lock()
		s.memory.put(key, nil)
		lock.Unlock()
	}
}

// codeDeadline is when an authorization code ends.
func codeDeadline(told, receivedAt time.Time) time.Time {
	if told.Before(receivedAt) {
		return receivedAt.Add(codeLifetime)
	}
	if latest := receivedAt.Add(maxCodeLifetime); told.After(latest) {
		return latest
	}
	return told
}

// sleep waits for d, for the end of ctx, or for stop, and reports whether it
// was stop.
func sleep(ctx context.Context, d time.Duration, stop <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-stop:
		return true
	}
	return false
}
