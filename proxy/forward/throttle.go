package forward

import "time"

// throttle lets one thing a minute be logged.
type throttle struct {
	last   time.Time
	silent int
}

// allow reports whether to log now, and how often it did not before.
func (t *throttle) allow(now time.Time) (silent int, ok bool) {
	if !t.last.IsZero() && now.Sub(t.last) < time.Minute {
		t.silent++
		return 0, false
	}
	silent = t.silent
	t.last, t.silent = now, 0
	return silent, true
}
