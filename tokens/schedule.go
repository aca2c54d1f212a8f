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

// maxScheduled bounds the schedule. A token that finds no place is renewed by
// the first call that finds it due.
const maxScheduled = 1 << 18

// scheduled is one planned renewal. It holds no Token: an evicted one must go.
type scheduled struct {
	at         int64 // Unix ns
	key        Key
	generation uint64
	index      int // in the heap
}

// schedule plans the renewals of tokens that have been used since they were
// obtained, one for each key. Idle ones cost nothing.
type schedule struct {
	mu     sync.Mutex
	heap   dueHeap
	plans  map[Key]*scheduled // what is in the heap
	sooner chan struct{}      // the first entry has changed
}

func newSchedule() *schedule {
	return &schedule{plans: map[Key]*scheduled{}, sooner: make(chan struct{}, 1)}
}

// add plans the renewal of t at a time, in place of what was planned for its
// key: a token that memory dropped and reads again is not planned twice.
func (s *schedule) add(t *Token, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	plan := s.plans[t.Key]
	switch {
	case plan == nil && len(s.heap) >= maxScheduled, plan != nil && plan.generation > t.Generation:
		return
	case plan == nil:
		plan = &scheduled{at: at.UnixNano(), key: t.Key, generation: t.Generation}
		s.plans[t.Key] = plan
		heap.Push(&s.heap, plan)
	default:
		plan.at, plan.generation = at.UnixNano(), t.Generation
		heap.Fix(&s.heap, plan.index)
	}
	if plan.index == 0 {
		select {
		case s.sooner <- struct{}{}:
		default:
		}
	}
}

// next takes the entries due at now off the schedule and says when the one
// after them is due; ok is false if there is none.
func (s *schedule) next(now time.Time) (due []*scheduled, wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.heap) > 0 && s.heap[0].at <= now.UnixNano() {
		plan := heap.Pop(&s.heap).(*scheduled)
		delete(s.plans, plan.key)
		due = append(due, plan)
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
		due, wait, ok := s.schedule.next(time.Now())
		for _, plan := range due {
			s.renewPlanned(ctx, plan)
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

// renewPlanned begins the renewal of the token that was planned for, in memory
// or not; a newer one has its own plan.
func (s *Service) renewPlanned(ctx context.Context, plan *scheduled) {
	t := s.memory.get(plan.key)
	if t == nil {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		if t, _ = s.publish(ctx, plan.key); t == nil {
			return // gone, or the store fails: then the next call begins the renewal
		}
	}
	if t.Generation == plan.generation {
		s.renewAhead(t, time.Now())
	}
}

type dueHeap []*scheduled

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *dueHeap) Push(x any) {
	plan := x.(*scheduled)
	plan.index = len(*h)
	*h = append(*h, plan)
}
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = nil
	*h = (*h)[:len(*h)-1]
	return last
}

func jitter() float64 { return rand.Float64() }
