package forward

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

func TestTooManyPending(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.f.limits.pending = 50
		w.answerStatus(http.StatusServiceUnavailable)
		w.running()
		const event = "<xml><InfoType>authorized</InfoType><N>%d</N></xml>"
		for n := range 30 {
			w.accept(alice, fmt.Sprintf(event, n))
		}
		for n := range 40 {
			w.accept(bob, text(n))
			w.settle(0)
		}
		w.counts(50, 20)
		w.counted("a", "dead", 20)
		w.logged("too many pushes wait")
		letters, err := w.f.DeadLetters(t.Context(), "", 0, 100)
		for _, l := range letters {
			if l.Type != "text" || l.LastError != errTooMany {
				t.Errorf("%+v", l)
			}
		}
		if err != nil || len(letters) != 20 {
			t.Errorf("%d letters, %v", len(letters), err)
		}
		// Events stay, also without any message to give up. Two are under way or
		// next to be tried and may be either.
		for n := range 40 {
			w.accept(alice, fmt.Sprintf(event, 100+n))
		}
		w.settle(time.Minute)
		c, err := w.f.Counts(t.Context())
		if err != nil || c.Pending["a"] != 70 || c.Dead != 40 {
			t.Errorf("%+v, %v", c, err)
		}
		w.answerStatus(http.StatusOK)
		w.take()
		w.settle(5 * time.Minute)
		if n := len(w.take()); n != 70 {
			t.Errorf("%d were delivered", n)
		}
	})
}

func TestTooManyDead(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.f.limits.dead = 40
		w.answerStatus(http.StatusGone)
		w.running()
		for n := range 100 {
			w.accept(alice, text(n))
		}
		w.settle(time.Minute)
		w.counts(0, 40)
		w.counted("a", "dead", 100)
		w.counted("a", "dropped", 60)
		w.logged("too many dead letters")
		_, content, err := w.f.DeadLetter(t.Context(), 61)
		if err != nil || string(content.Body) != text(60) {
			t.Errorf("the oldest that is kept: %s, %v", content.Body, err)
		}
	})
}

// More than the window holds is delivered all the same.
func TestWindow(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.f.limits.window = 64
		want := map[string][]string{}
		for n := range 1000 {
			appID := fmt.Sprintf("wx%d", n%7)
			w.accept(appID, text(n))
			want[appID] = append(want[appID], text(n))
		}
		w.answer(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Millisecond) })
		stop := w.run()
		w.settle(10 * time.Second)
		stop()
		checkOrder(t, w.take(), want)
		w.counts(0, 0)
	})
}

// Ten thousand pushes of 200 authorizers to a target that fails half of the time,
// and a process that dies twice.
func TestLoad(t *testing.T) {
	const pushes, authorizers = 10_000, 200
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.f.log = quiet()
		w.f.limits.window = 1000
		var mu sync.Mutex
		attempts := 0
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			attempts++
			fails := attempts*2654435761>>7&1 == 0
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			if fails {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		want := map[string][]string{}
		stop := w.run()
		for n := range pushes {
			appID := fmt.Sprintf("wx%03d", n%authorizers)
			body := text(n)
			want[appID] = append(want[appID], body)
			w.accept(appID, body)
			switch n {
			case pushes / 3, 2 * pushes / 3: // killed in the middle of attempts
				time.Sleep(7 * time.Millisecond)
				stop()
				stop = w.run()
			}
			if n%100 == 0 {
				w.settle(10 * time.Millisecond)
				if held := heldBy(w.f, "a"); held > 1000+pageSize {
					t.Fatalf("%d are held", held)
				}
			}
		}
		for range 5000 {
			if c, err := w.f.Counts(t.Context()); err != nil || c.Pending["a"] == 0 {
				break
			}
			w.settle(10 * time.Second)
		}
		stop()
		all := w.take()
		checkOrder(t, all, want)
		w.counts(0, 0)
		w.counted("a", "dead", 0)
		t.Logf("%d attempts for %d pushes in %s of simulated time", len(all), pushes, time.Since(w.began).Round(time.Second))
		synctest.Wait()
	})
}

// What 100,000 pending deliveries take in memory while they wait.
func TestMemoryOfManyPending(t *testing.T) {
	const n, most = 100_000, 64 // bytes each
	ls := lanes{of: map[string]*lane{}}
	before := heapBytes()
	for i := range n {
		ls.add(fmt.Sprintf("wx%d", i%1000), entry{uint64(i + 1), false}, time.Time{})
	}
	per := float64(heapBytes()-before) / n
	t.Logf("%.1f bytes for each", per)
	if per > most || ls.held != n {
		t.Errorf("%.1f bytes for each of %d, want at most %d", per, ls.held, most)
	}
	runtime.KeepAlive(ls)
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The lanes keep their order whatever is added, removed and delivered.
func TestLanes(t *testing.T) {
	ls := lanes{of: map[string]*lane{}}
	now := time.Now()
	for _, seq := range []uint64{1, 2, 5, 3, 3, 4} {
		ls.add("a", entry{seq, seq == 2}, now)
	}
	ls.add("b", entry{6, false}, now.Add(time.Minute))
	if ls.held != 6 {
		t.Errorf("%d held", ls.held)
	}
	if l := ls.take(); l != nil {
		t.Error("one is ready before its time")
	}
	next, ok := ls.due(now)
	if !ok || !next.Equal(now.Add(time.Minute)) {
		t.Errorf("next at %s, %t", next, ok)
	}
	l := ls.take()
	if l == nil || l.appID != "a" || l.entries[0].seq != 1 || ls.take() != nil {
		t.Fatalf("%+v", l)
	}
	if ls.remove(l, 1) || !ls.remove(l, 4) || ls.remove(l, 4) {
		t.Error("removed what a worker has, or not what waits")
	}
	oldest := ls.oldest(2)
	if len(oldest) != 2 || oldest[0].seq != 3 || oldest[1].seq != 5 {
		t.Errorf("oldest %v", oldest)
	}
	ls.add("a", entry{1, false}, now) // read again
	ls.done(l)
	var order []uint64
	for l := ls.take(); l != nil; l = ls.take() {
		order = append(order, l.entries[0].seq)
		ls.done(l)
	}
	if fmt.Sprint(order) != "[2 3 5]" {
		t.Errorf("order %v", order)
	}
	// A lane that is emptied while it waits is used again, once.
	b := ls.of["b"]
	if !ls.remove(b, 6) {
		t.Error("not removed")
	}
	ls.add("b", entry{7, false}, now)
	ls.due(now.Add(time.Hour))
	if l := ls.take(); l == nil || l.entries[0].seq != 7 {
		t.Fatalf("%+v", l)
	} else if ls.take() != nil {
		t.Error("twice")
	} else {
		ls.done(l)
	}
	if ls.held != 0 || len(ls.of) != 0 {
		t.Errorf("%d held in %d lanes", ls.held, len(ls.of))
	}
}

// A delivery whose Seq is behind what was read is found.
func TestRescan(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		d := store.Delivery{ID: "x", Target: "a", AppID: alice, Message: secret.New(text(1))}
		if _, err := w.disk.AddDeliveries(t.Context(), []store.Delivery{d}); err != nil {
			t.Fatal(err)
		}
		r := newRunner(w.f, "a")
		r.lastSeq = 100
		r.gauge(t.Context())
		if r.lanes.held != 1 || r.lastSeq != 1 {
			t.Errorf("%d held, read up to %d", r.lanes.held, r.lastSeq)
		}
	})
}
