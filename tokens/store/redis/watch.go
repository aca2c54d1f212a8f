package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"lingpai/tokens/store"
)

const (
	// firstDelay and maxDelay bound the wait before Watch subscribes again.
	firstDelay = 50 * time.Millisecond
	maxDelay   = 5 * time.Second

	// maxPending is how many different changes wait for a slow reader before
	// they become a loss.
	maxPending = 4096
)

// notice is what the channel says of a write. The app id comes last: what it
// may hold is not ours to decide.
func (s *Store) notice(kind store.ChangeKind, appID string) string {
	return s.writer + " " + string(kind) + " " + appID
}

// parseNotice reads what others wrote. ok is false for one's own, and for kinds
// that are not known here.
func (s *Store) parseNotice(text string) (c store.Change, ok bool) {
	parts := strings.SplitN(text, " ", 3)
	if len(parts) != 3 || parts[0] == s.writer {
		return store.Change{}, false
	}
	c = store.Change{Kind: store.ChangeKind(parts[1]), AppID: parts[2]}
	switch c.Kind {
	case store.ChangedComponent, store.ChangedAuthorizer, store.ChangedAccount, store.ChangedPushes, store.ChangedWanted:
		return c, true
	}
	return store.Change{}, false
}

// Watch implements store.Shared. It calls changed and lost one at a time, on the
// caller's goroutine, and lost as soon as it listens again: what is read after
// that is not older than the next change. Changes of the same record may come
// as one. changed and lost may call the store, but not Close; however slow they
// are, the connection is read. Watch returns the error of ctx, or ErrClosed.
func (s *Store) Watch(ctx context.Context, changed func(store.Change), lost func()) error {
	ctx, done, err := s.beginWatch(ctx)
	if err != nil {
		return fmt.Errorf("redis: watch: %w", err)
	}
	defer done()
	box := &inbox{ready: make(chan struct{}, 1)}
	s.under.Go(func() { s.subscribe(ctx, box) })
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("redis: watch: %w", context.Cause(ctx))
		case <-box.ready:
		}
		missed, changes := box.take()
		if missed {
			lost()
		}
		for _, c := range changes {
			if ctx.Err() != nil {
				break
			}
			changed(c)
		}
	}
}

// beginWatch is begin without a time-out; Close ends the context.
func (s *Store) beginWatch(ctx context.Context) (_ context.Context, done func(), err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	s.under.Add(1)
	parent := ctx
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	stopParent := context.AfterFunc(parent, func() { cancel(parent.Err()) })
	stopLife := context.AfterFunc(s.life, func() { cancel(store.ErrClosed) })
	return ctx, func() {
		stopParent()
		stopLife()
		cancel(context.Canceled)
		s.under.Done()
	}, nil
}

// subscribe fills box until ctx ends.
func (s *Store) subscribe(ctx context.Context, box *inbox) {
	delay := firstDelay
	for {
		err := s.receive(ctx, box, func() {
			delay = firstDelay
			box.lose()
		})
		if ctx.Err() != nil {
			return
		}
		s.log.Debug("redis notices interrupted", "error", clean(err, s.mask), "retry_in", delay)
		t := time.NewTimer(delay/2 + rand.N(delay/2))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		delay = min(2*delay, maxDelay)
	}
}

// receive listens on a connection of its own until that breaks or ctx ends.
// listening is called when the server has confirmed.
func (s *Store) receive(ctx context.Context, box *inbox, listening func()) error {
	conn, release := s.client.Dedicate()
	defer release()
	defer conn.Close()
	var once sync.Once
	ctx = rueidis.WithOnSubscriptionHook(ctx, func(sub rueidis.PubSubSubscription) {
		if sub.Kind == "subscribe" {
			once.Do(listening)
		}
	})
	return conn.Receive(ctx, conn.B().Subscribe().Channel(s.keys.changes).Build(), func(m rueidis.PubSubMessage) {
		if c, ok := s.parseNotice(m.Message); ok {
			box.put(c)
		}
	})
}

// inbox holds what the reader of Watch has not been told yet, so that the
// connection never waits for it.
type inbox struct {
	mu      sync.Mutex
	lost    bool
	pending []store.Change
	known   map[store.Change]bool
	ready   chan struct{}
}

func (b *inbox) put(c store.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known[c] {
		return
	}
	if len(b.pending) >= maxPending {
		b.loseLocked()
		return
	}
	if b.known == nil {
		b.known = make(map[store.Change]bool)
	}
	b.known[c] = true
	b.pending = append(b.pending, c)
	b.wake()
}

// lose makes everything pending a loss.
func (b *inbox) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loseLocked()
}

func (b *inbox) loseLocked() {
	b.lost, b.pending, b.known = true, nil, nil
	b.wake()
}

func (b *inbox) wake() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

func (b *inbox) take() (lost bool, changes []store.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost, changes = b.lost, b.pending
	b.lost, b.pending, b.known = false, nil, nil
	return lost, changes
}
