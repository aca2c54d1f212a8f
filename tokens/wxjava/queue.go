package wxjava

import (
	"container/list"
	"sync"
	"time"

	"lingpai/tokens/secret"
)

// key names what one key in Redis holds.
type key struct{ kind, appID string }

// item is what a key is to become.
type item struct {
	key
	value     secret.String
	expiresAt time.Time // of the token, at WeChat
	delete    bool
	forget    bool // what was published is of no interest any more
}

// queue holds at most max items, one for each key, and gives out first those
// that have waited longest.
type queue struct {
	max   int
	ready chan struct{} // gets a token when an item is put

	mu    sync.Mutex
	items map[key]*list.Element // of item
	order *list.List
}

func newQueue(max int) *queue {
	return &queue{max: max, ready: make(chan struct{}, 1), items: map[key]*list.Element{}, order: list.New()}
}

// put adds i in place of an older item of its key, and returns how many others
// had to make room.
func (q *queue) put(i item) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e, ok := q.items[i.key]; ok {
		e.Value = i
	} else {
		for q.order.Len() >= q.max {
			q.removeLocked(q.order.Front())
			dropped++
		}
		q.items[i.key] = q.order.PushBack(i)
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return dropped
}

// putBack returns to the front what take gave, except where a newer item has
// come, and returns how many found no room.
func (q *queue) putBack(items []item) (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := len(items) - 1; n >= 0; n-- {
		i := items[n]
		switch {
		case q.items[i.key] != nil:
		case q.order.Len() >= q.max:
			dropped++
		default:
			q.items[i.key] = q.order.PushFront(i)
		}
	}
	return dropped
}

// take takes out up to n items.
func (q *queue) take(n int) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := make([]item, 0, min(n, q.order.Len()))
	for len(items) < cap(items) {
		items = append(items, q.removeLocked(q.order.Front()))
	}
	return items
}

func (q *queue) removeLocked(e *list.Element) item {
	i := q.order.Remove(e).(item)
	delete(q.items, i.key)
	return i
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.order.Len()
}
