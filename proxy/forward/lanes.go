package forward

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// entry is a pending delivery as it is held in memory: 16 bytes.
type entry struct {
	seq     uint64
	lasting bool
}

// lane is what waits for one target about one authorizer.
type lane struct {
	appID   string
	entries []entry // in order
	// queued: it is among those that wait for their time or for a worker.
	queued bool
	// underWay: a worker has the first one.
	underWay bool
	// delivered: the target has taken the first one, which is still in the store.
	delivered bool
	// faults is how often in a row the store failed.
	faults int
	nextAt time.Time
}

func (l *lane) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(l.entries, seq, func(e entry, seq uint64) int { return cmp.Compare(e.seq, seq) })
}

// lanes hold the numbers of pending deliveries, but no content of any.
type lanes struct {
	of      map[string]*lane
	ready   []*lane
	waiting waiting
	held    int
}

// add puts a delivery into its lane, if it is not there. It waits until nextAt if
// it is the first.
func (ls *lanes) add(appID string, e entry, nextAt time.Time) {
	l := ls.of[appID]
	if l == nil {
		l = &lane{appID: appID}
		ls.of[appID] = l
	}
	i, found := l.find(e.seq)
	if found || i == 0 && l.underWay {
		return // the second should not be, since what is older was read before
	}
	l.entries = slices.Insert(l.entries, i, e)
	ls.held++
	if !l.queued && !l.underWay {
		ls.later(l, nextAt)
	}
}

// later has a lane that is not queued wait until at.
func (ls *lanes) later(l *lane, at time.Time) {
	l.queued, l.underWay, l.nextAt = true, false, at
	heap.Push(&ls.waiting, l)
}

// due makes those lanes ready that have waited long enough, and returns when the
// next one will have; ok is false if none waits.
func (ls *lanes) due(now time.Time) (next time.Time, ok bool) {
	for len(ls.waiting) > 0 {
		if first := ls.waiting[0]; first.nextAt.After(now) {
			return first.nextAt, true
		}
		ls.ready = append(ls.ready, heap.Pop(&ls.waiting).(*lane))
	}
	return time.Time{}, false
}

// take gives the lane that has been ready the longest to a worker.
func (ls *lanes) take() *lane {
	for len(ls.ready) > 0 {
		l := ls.ready[0]
		ls.ready[0] = nil
		ls.ready = ls.ready[1:]
		l.queued = false
		if len(l.entries) > 0 {
			l.underWay = true
			return l
		}
		ls.drop(l)
	}
	return nil
}

// done takes the first delivery off a lane that was under way.
func (ls *lanes) done(l *lane) {
	l.underWay, l.delivered, l.faults = false, false, 0
	l.entries = l.entries[1:]
	ls.held--
	if len(l.entries) == 0 {
		ls.drop(l)
		return
	}
	// At the end: other authorizers have their turn first.
	l.queued = true
	ls.ready = append(ls.ready, l)
}

func (ls *lanes) drop(l *lane) {
	if ls.of[l.appID] == l {
		delete(ls.of, l.appID)
	}
}

// remove takes out a delivery that no worker has. A lane that it leaves empty goes
// when its turn comes, unless something is added before.
func (ls *lanes) remove(l *lane, seq uint64) bool {
	i, found := l.find(seq)
	if !found || i == 0 && l.underWay {
		return false
	}
	l.entries = slices.Delete(l.entries, i, i+1)
	ls.held--
	return true
}

// candidate is a message that may be given up for want of room.
type candidate struct {
	lane *lane
	seq  uint64
}

// oldest returns the n oldest messages that no worker has.
func (ls *lanes) oldest(n int) []candidate {
	var all []candidate
	for _, l := range ls.of {
		found := 0
		for i, e := range l.entries {
			if e.lasting || i == 0 && l.underWay {
				continue
			}
			all = append(all, candidate{l, e.seq})
			if found++; found == n {
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.seq, b.seq) })
	return slices.Clone(all[:min(n, len(all))])
}

// waiting is a heap of lanes, the one that is due first on top.
type waiting []*lane

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return w[i].nextAt.Before(w[j].nextAt) }
func (w waiting) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
}

func (w *waiting) Push(x any) { *w = append(*w, x.(*lane)) }

func (w *waiting) Pop() any {
	old := *w
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	return l
}
