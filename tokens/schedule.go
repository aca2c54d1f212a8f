package tokens

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// accountAhead bounds how long before its end a direct account's token is
// renewed: stable_token gives out the same token until 5 min before its end.
const accountAhead = 280 * time.Second

// dueAt is when a token is to be renewed: ahead of its end, but in the last
// third of its life. jitter in [0, 1) moves that by up to a quarter of the time
// that is left then, so that tokens obtained together are not renewed together.
func dueAt(kind Kind, refreshedAt, expiresAt time.Time, ahead time.Duration, jitter float64) time.Time {
	lifetime := expiresAt.Sub(refreshedAt)
	ahead = min(ahead, lifetime/3)
	if kind == Account {
		ahead = min(ahead, accountAhead)
	}
	ahead = max(ahead, 0)
	return expiresAt.Add(-ahead + time.Duration(jitter*float64(ahead)/4))
}

// schedule plans the renewals of tokens that have been used since they were
// obtained. Idle ones cost nothing. It plans only for tokens that memory holds, at
// most one renewal for each, so that memory's bound is its bound too: a token that
// memory drops is renewed by the first call that finds it due.
type schedule struct {
	mu     sync.Mutex
	heap   dueHeap
	sooner chan struct{} // the first entry has changed
}

// What Token.place is unless it is a place in the heap, counted from one.
const (
	notHeld   = 0 // by memory: there can be no plan
	unplanned = -1
)

func newSchedule() *schedule {
	return &schedule{sooner: make(chan struct{}, 1)}
}

// add plans the renewal of t for when it is due now, in place of what was planned
// for it.
func (s *schedule) add(t *Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch t.place {
	case notHeld:
		return
	case unplanned:
		heap.Push(&s.heap, t)
	default:
		s.heap[t.place-1].at = t.renewAt.Load()
		heap.Fix(&s.heap, int(t.place)-1)
	}
	if t.place == 1 {
		select {
		case s.sooner <- struct{}{}:
		default:
		}
	}
}

// drop forgets t, which memory does not hold any more; it may be nil.
func (s *schedule) drop(t *Token) {
	if t == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.place > 0 {
		heap.Remove(&s.heap, int(t.place)-1)
	}
	t.place = notHeld
}

// next takes the tokens due at now off the schedule and says when the one after
// them is due; ok is false if there is none.
func (s *schedule) next(now time.Time) (due []*Token, wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.heap) > 0 && s.heap[0].at <= now.UnixNano() {
		due = append(due, heap.Pop(&s.heap).(*Token))
	}
	if len(s.heap) == 0 {
		return due, 0, false
	}
	return due, time.Duration(s.heap[0].at - now.UnixNano()), true
}

// renewScheduled begins the renewals of the schedule until ctx ends.
func (s *Service) renewScheduled(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		due, wait, ok := s.schedule.next(now)
		for _, t := range due {
			s.renewAhead(t, now)
		}
		timer.Stop()
		if ok {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.schedule.sooner:
		}
	}
}

// plan is one renewal to come.
type plan struct {
	at    int64 // Unix ns
	token *Token
}

// dueHeap has the plan first that comes first. The tokens know their places.
type dueHeap []plan

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].token.place, h[j].token.place = int32(i)+1, int32(j)+1
}
func (h *dueHeap) Push(x any) {
	t := x.(*Token)
	*h = append(*h, plan{t.renewAt.Load(), t})
	t.place = int32(len(*h))
}
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	t := (*h)[last].token
	(*h)[last] = plan{}
	*h = (*h)[:last]
	t.place = unplanned
	return t
}

func jitter() float64 { return rand.Float64() }
