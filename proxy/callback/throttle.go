package callback

import (
	"sync"
	"time"
)

// maxLines is how many refusals are logged in a second.
const maxLines = 10

// throttle keeps strangers from filling the log: this listener is open to the
// internet, and each of their requests is refused. The zero value is ready.
// Safe for concurrent use.
type throttle struct {
	mu      sync.Mutex
	began   time.Time
	lines   int
	dropped int
}

// allow reports whether a line may be logged now, and how many were not since
// the last one.
func (t *throttle) allow(now time.Time) (dropped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.began) >= time.Second {
		t.began, t.lines = now, 0
	}
	if t.lines >= maxLines {
		t.dropped++
		return 0, false
	}
	t.lines++
	dropped, t.dropped = t.dropped, 0
	return dropped, true
}
