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
}

// schedule plans the renewals of tokens that have been used since they were
// obtained. Idle ones cost nothing.
type schedule struct {
	mu     sync.Mutex
	heap   dueHeap
	sooner chan struct{} // the first entry has changed
}

func newSchedule() *schedule { return &schedule{sooner: make(chan struct{}, 1)} }

// add plans the renewal of t.
func (s *schedule) add(t *Token) {
	s.mu.Lock()
	if len(s.heap) >= maxScheduled {
		s.mu.Unlock()
		return
	}
	entry := scheduled{at: t.DueAt.UnixNano(), key: t.Key, generation: t.Generation}
	first := len(s.heap) == 0 || entry.at < s.heap[0].at
	heap.Push(&s.heap, entry)
	s.mu.Unlock()
	if first {
		select {
		case s.sooner <- struct{}{}:
		default:
		}
	}
}

// next takes the entries due at now off the schedule and says when the one
// after them is due; ok is false if there is none.
func (s *schedule) next(now time.Time) (due []scheduled, wait time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.heap) > 0 && s.heap[0].at <= now.UnixNano() {
		due = append(due, heap.Pop(&s.heap).(scheduled))
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
		for _, entry := range due {
			// Only the token that was planned for: a newer one has its own entry.
			if t := s.memory.get(entry.key); t != nil && t.Generation == entry.generation {
				s.renewAhead(t, time.Now())
			}
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

type dueHeap []scheduled

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(scheduled)) }
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = scheduled{}
	*h = (*h)[:len(*h)-1]
	return last
}

func jitter() float64 { return rand.Float64() }
