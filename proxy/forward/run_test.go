package forward

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// What fails is tried again: after a time that doubles, with the same id and a
// new timestamp, while what comes behind it about the same authorizer waits and
// others do not.
func TestRetryKeepsTheOrder(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.running()
		var healthy atomic.Bool
		w.answer(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Lingpai-Appid") == alice && !healthy.Load() {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})
		w.accept(alice, text(1))
		w.accept(alice, text(2))
		w.accept(bob, text(3))
		w.accept(alice, text(4))
		w.settle(time.Hour)
		attempts := w.take()
		var last time.Time
		var waits []time.Duration
		early := 0 // of waits: begun while the target had just taken bob's
		ids := map[string]bool{}
		for _, g := range attempts {
			if g.header.Get("X-Lingpai-Appid") == bob {
				if g.at != w.began {
					t.Error("another authorizer had to wait")
				}
				continue
			}
			ids[g.header.Get("X-Lingpai-Delivery")] = true
			if g.body != text(1) {
				t.Errorf("%s overtook what failed", g.body)
			}
			if g.header.Get("X-Lingpai-Timestamp") != fmt.Sprint(g.at.Unix()) {
				t.Error("the timestamp is of another attempt")
			}
			if !last.IsZero() {
				waits = append(waits, g.at.Sub(last))
				if last.Sub(w.began) < takingFor {
					early = len(waits)
				}
			}
			last = g.at
		}
		if len(ids) != 1 || len(waits) < 15 || len(waits) > 40 {
			t.Errorf("%d ids, %d attempts in an hour", len(ids), len(waits)+1)
		}
		for n, wait := range waits {
			least, most := min(time.Second<<n, 225*time.Second), min(2*time.Second<<n, 5*time.Minute)
			if n < early {
				least, most = min(least, maxWhileTaking*3/4), min(most, maxWhileTaking)
			}
			if wait < least || wait > most {
				t.Errorf("wait %d is %s", n+1, wait)
			}
		}
		w.counts(3, 0)
		healthy.Store(true)
		w.settle(5 * time.Minute)
		w.bodies(text(1), text(2), text(4))
		w.counts(0, 0)
		w.counted("a", "retried", float64(len(waits)+1))
		w.counted("a", "delivered", 4)
	})
}

func TestBackoff(t *testing.T) {
	f := func(attempts int, jitter float64, want time.Duration) {
		t.Helper()
		if got := backoff(attempts, jitter); got != want {
			t.Errorf("backoff(%d, %v) = %s, want %s", attempts, jitter, got, want)
		}
	}
	f(0, 0, time.Second)
	f(1, 0, time.Second)
	f(1, 0.5, 1500*time.Millisecond)
	f(2, 0, 2*time.Second)
	f(5, 0.25, 20*time.Second)
	f(9, 0, 256*time.Second)
	f(10, 0, 5*time.Minute)
	f(10, 0.5, 5*time.Minute-37500*time.Millisecond)
	f(1000, 0, 5*time.Minute)
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := func(value string, want time.Duration) {
		t.Helper()
		if got := retryAfter(value, now); got != want {
			t.Errorf("Retry-After: %s: %s, want %s", value, got, want)
		}
	}
	f("", 0)
	f("120", 2*time.Minute)
	f(" 7 ", 7*time.Second)
	f("-1", 0)
	f("1.5", 0)
	f("99999999999999999999", 0)
	f("86400", time.Hour)
	f("Sun, 01 Mar 2026 12:10:00 GMT", 10*time.Minute)
	f("Sun, 01 Mar 2026 11:00:00 GMT", 0)
	f("Mon, 02 Mar 2026 12:00:00 GMT", time.Hour)
	f("soon", 0)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.running()
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "600")
			rw.WriteHeader(http.StatusTooManyRequests)
		})
		w.accept(alice, text(1))
		w.settle(599 * time.Second)
		if n := len(w.take()); n != 1 {
			t.Errorf("%d attempts before", n)
		}
		w.settle(time.Second)
		if n := len(w.take()); n != 1 {
			t.Errorf("%d attempts then", n)
		}
	})
}

// What an attempt came to is shown to operators, without URL or content.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		app  http.HandlerFunc
		want string
	}{
		"an error status": {func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "hush-text", http.StatusBadGateway) }, "status 502"},
		"a redirect": {func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://elsewhere/", http.StatusTemporaryRedirect)
		}, "status 307"},
		"a cut connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "connection closed"},
		"no answer":        {func(http.ResponseWriter, *http.Request) { time.Sleep(time.Minute) }, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			target := all("a")
			target.URL = "http://user:hush-code@a/push?key=hush-code"
			inWorld(t, []Target{target}, func(t *testing.T, w *world) {
				w.answer(test.app)
				stop := w.run()
				w.accept(alice, text(1))
				w.settle(10500 * time.Millisecond)
				stop()
				page, err := w.disk.Deliveries(t.Context(), "a", 0, 10)
				if err != nil || len(page) != 1 || page[0].LastError != test.want || page[0].Attempts == 0 {
					t.Errorf("%+v, %v", page, err)
				}
				for _, g := range w.take() {
					if g.host != "a" {
						t.Errorf("went to %s", g.host)
					}
				}
				time.Sleep(time.Minute)
				synctest.Wait()
			})
		})
	}
}

func TestGoneIsDead(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.running()
		w.answerStatus(http.StatusGone)
		w.accept(alice, text(1))
		w.settle(0)
		w.answerStatus(http.StatusOK)
		w.accept(alice, text(2))
		w.settle(0)
		w.bodies(text(1), text(2))
		w.counts(0, 1)
		w.counted("a", "dead", 1)
		w.logged("dead letter")
	})
}

func TestAfterADayItIsDead(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.running()
		w.answerStatus(http.StatusInternalServerError)
		w.accept(alice, text(1))
		w.settle(24*time.Hour - time.Second)
		w.counts(1, 0)
		w.accept(alice, text(2))
		w.settle(5 * time.Minute)
		w.counts(1, 1)
		if all := w.take(); all[len(all)-1].body != text(2) {
			t.Error("the next one is not tried")
		}
		w.settle(24 * time.Hour)
		w.counts(0, 2)
	})
}

// One that waited for longer than a day because nobody delivered is tried once.
func TestLateIsTriedOnce(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.accept(alice, text(1))
		w.accept(alice, text(2))
		w.settle(25 * time.Hour)
		var n atomic.Int32
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			if n.Add(1) == 1 {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})
		w.running()
		w.bodies(text(1), text(2))
		w.counts(0, 1)
	})
}

// However Run ends, nothing is lost and nothing is overtaken.
func TestRestart(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.answer(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(300 * time.Millisecond)
			if time.Now().UnixMilli()/100%3 == 0 {
				rw.WriteHeader(http.StatusBadGateway)
			}
		})
		var want []string
		for n := range 40 {
			w.accept(alice, text(n))
			want = append(want, text(n))
		}
		for n := range 60 {
			stop := w.run()
			w.settle(time.Duration(n*37%900) * time.Millisecond)
			stop()
		}
		stop := w.run()
		w.settle(time.Hour)
		stop()
		checkOrder(t, w.take(), map[string][]string{alice: want})
		w.counts(0, 0)
		synctest.Wait()
	})
}

// checkOrder checks that each authorizer's pushes came at least once, each for
// the first time after all before it.
func checkOrder(t *testing.T, all []got, want map[string][]string) {
	t.Helper()
	first := map[string][]string{}
	seen := map[string]bool{}
	for _, g := range all {
		id := g.header.Get("X-Lingpai-Delivery")
		appID := g.header.Get("X-Lingpai-Appid")
		if !seen[id] {
			seen[id] = true
			first[appID] = append(first[appID], g.body)
		} else if bodies := first[appID]; bodies[len(bodies)-1] != g.body {
			t.Fatalf("%s came again behind a later one", g.body)
		}
	}
	for appID, bodies := range want {
		if !slices.Equal(first[appID], bodies) {
			t.Fatalf("%s got %d in another order or not all of %d", appID, len(first[appID]), len(bodies))
		}
	}
}

// A Run that ends during an attempt leaves no trace of it: the next one tries at
// once, and the end of a Run is no failure of the target.
func TestEndDuringAnAttempt(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.answer(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) })
		w.accept(alice, text(1))
		stop := w.run()
		w.settle(time.Second / 2)
		stop()
		page, err := w.disk.Deliveries(t.Context(), "a", 0, 1)
		if err != nil || len(page) != 1 || page[0].Attempts != 0 || page[0].LastError != "" || !page[0].NextAt.IsZero() {
			t.Errorf("%+v, %v", page, err)
		}
		w.counted("a", "retried", 0)
		w.running()
		if n := len(w.take()); n != 2 {
			t.Errorf("%d attempts", n)
		}
		w.settle(time.Second)
		w.counts(0, 0)
	})
}

// ending ends a Run as soon as an answer has come.
type ending struct {
	http.RoundTripper
	end func()
}

func (e ending) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := e.RoundTripper.RoundTrip(r)
	e.end()
	return answer, err
}

// What an app has taken is taken off the queue, also when Run ends that moment. A
// failure then may be our own: it is tried again.
func TestEndAfterAnAnswer(t *testing.T) {
	for status, pending := range map[int]int{http.StatusOK: 0, http.StatusGone: 1} {
		inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
			ctx, cancel := context.WithCancel(t.Context())
			w.f.client.Transport = ending{w.f.client.Transport, cancel}
			w.answerStatus(status)
			w.accept(alice, text(1))
			w.f.Run(ctx)
			w.counts(pending, 0)
		})
	}
}

// One authorizer, or one target, that does not answer holds up no other.
func TestSlowTargetsStarveNobody(t *testing.T) {
	inWorld(t, []Target{all("slow"), all("quick")}, func(t *testing.T, w *world) {
		var mu sync.Mutex
		now, most := 0, 0
		w.answer(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Host != "slow" {
				return
			}
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(9 * time.Second)
			mu.Lock()
			now--
			mu.Unlock()
		})
		for n := range 100 {
			w.accept(fmt.Sprintf("wx%d", n), text(n))
		}
		w.running()
		quick := 0
		for _, g := range w.take() {
			if g.host == "quick" {
				quick++
			}
		}
		w.settle(time.Minute)
		if quick != 100 || most != 32 {
			t.Errorf("%d to the quick one at once, %d at a time to the slow one", quick, most)
		}
		w.counts(0, 0)
	})
}

// A store that fails delays; it loses nothing, and what an app has taken it does
// not get again.
func TestStoreFaults(t *testing.T) {
	for _, op := range []string{"deliveries", "delivery", "update", "delete", "count"} {
		t.Run(op, func(t *testing.T) {
			inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
				w.running()
				if op == "update" {
					w.answerStatus(http.StatusInternalServerError)
				}
				w.disk.failing(op)
				w.accept(alice, text(1))
				w.accept(alice, text(2))
				w.settle(30 * time.Second)
				w.logged(errDisk.Error())
				if op == "count" { // which keeps nothing from its way
					w.disk.AddDeliveries(t.Context(), []store.Delivery{{ID: "x", Target: "a", Message: secret.New(text(3))}})
					w.settle(pollInterval)
					w.counted("a", "delivered", 3)
					w.mu.Lock()
					w.got = w.got[:2]
					w.mu.Unlock()
				}
				w.disk.failing()
				w.answerStatus(http.StatusOK)
				w.settle(5 * time.Minute)
				checkOrder(t, w.got, map[string][]string{alice: {text(1), text(2)}})
				if n := len(w.take()); n != 2 && op != "update" {
					t.Errorf("%d attempts", n)
				}
				w.counts(0, 0)
			})
		})
	}
}

// What another process has queued is found without a Wake.
func TestPoll(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.running()
		d := store.Delivery{ID: "x", Target: "a", AppID: alice, Message: secret.New(text(1))}
		if _, err := w.disk.AddDeliveries(t.Context(), []store.Delivery{d}); err != nil {
			t.Fatal(err)
		}
		w.settle(pollInterval)
		w.bodies(text(1))
	})
}

func TestGauges(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		f := func(name string, want float64, there bool) {
			t.Helper()
			if n, ok := w.m.Gather(name, nil); n != want || ok != there {
				t.Errorf("%s: %v, %t, want %v, %t", name, n, ok, want, there)
			}
		}
		stop := w.run()
		w.answerStatus(http.StatusInternalServerError)
		w.settle(time.Second)
		f("lingpai_push_deliveries_pending", 0, true)
		w.accept(alice, text(1))
		at := float64(time.Now().Unix())
		w.settle(time.Minute)
		f("lingpai_push_deliveries_pending", 1, true)
		f("lingpai_push_deliveries_oldest_timestamp_seconds", at, true)
		w.answerStatus(http.StatusGone)
		w.settle(5 * time.Minute)
		f("lingpai_push_deliveries_pending", 0, true)
		f("lingpai_push_deliveries_oldest_timestamp_seconds", 0, true)
		f("lingpai_push_dead_letters", 1, true)
		stop()
		f("lingpai_push_deliveries_pending", 0, false)
		f("lingpai_push_dead_letters", 0, false)
	})
}

var _ Metrics = (*metrics.Metrics)(nil)

// The URL of a target that cannot be used ends in no panic and no log.
func TestOddURL(t *testing.T) {
	target := all("a")
	target.URL = "http://hush-code\x7f/"
	inWorld(t, []Target{target}, func(t *testing.T, w *world) {
		w.running()
		w.accept(alice, text(1))
		w.settle(0)
		page, _ := w.disk.Deliveries(t.Context(), "a", 0, 1)
		if len(page) != 1 || page[0].LastError != "url is malformed" || strings.Contains(w.log.String(), "hush") {
			t.Errorf("%+v", page)
		}
	})
}

// What a target refuses by chance, while it takes others, does not wait for
// minutes.
func TestBackoffWhileTaking(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.running()
		var refused atomic.Int32
		w.answer(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Lingpai-Appid") == alice {
				refused.Add(1)
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})
		w.accept(alice, text(1000))
		for i := range 60 { // ten minutes, in which others are taken
			w.accept(bob, text(i))
			time.Sleep(10 * time.Second)
		}
		if n := refused.Load(); n < 110 || n > 180 {
			t.Errorf("tried %d times in ten minutes, want once in five seconds", n)
		}
		before := refused.Load()
		time.Sleep(time.Hour) // nothing is taken any more
		if n := refused.Load() - before; n > 30 {
			t.Errorf("tried %d times in an hour", n)
		}
	})
}
