package tokens

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// plans is how many renewals are planned; it fails the test unless each token
// planned for knows its place.
func (s *schedule) plans(t *testing.T) int {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.heap {
		if int(p.token.place) != i+1 || i > 0 && p.at < s.heap[(i-1)/2].at {
			t.Fatalf("%s is at %d, its token says %d", p.token.Key(), i+1, p.token.place)
		}
	}
	return len(s.heap)
}

// planned is the number of plans of a Service.
func (w *world) planned(want int) {
	w.t.Helper()
	if got := w.schedule.plans(w.t); got != want {
		w.t.Errorf("%d renewals are planned, want %d", got, want)
	}
}

// held is a token as memory holds it.
func held(i int) *Token {
	t := newToken(of(appID(i)), store.Token{Value: secret.New("v"), Generation: 1}, time.Unix(1e9, 0))
	t.place = unplanned
	return t
}

// addAt plans a renewal of t at a time.
func (s *schedule) addAt(t *Token, at time.Time) {
	t.renewAt.Store(at.UnixNano())
	s.add(t)
}

func TestScheduleHoldsOnePlanForEachToken(t *testing.T) {
	s, now := newSchedule(), time.Unix(1e9, 0)
	tokens := make([]*Token, 10)
	for i := range tokens {
		tokens[i] = held(i)
	}
	for range 3 {
		for i, token := range tokens {
			s.addAt(token, now.Add(time.Duration(i)*time.Second))
		}
	}
	if n := s.plans(t); n != len(tokens) {
		t.Fatalf("%d plans", n)
	}
	due, wait, ok := s.next(now.Add(4 * time.Second))
	if len(due) != 5 || wait != time.Second || !ok || s.plans(t) != 5 {
		t.Errorf("%d due, next in %s %v, %d left", len(due), wait, ok, s.plans(t))
	}
	for i, token := range due {
		if token != tokens[i] || token.place != unplanned {
			t.Errorf("token %d is %s at %d", i, token.Key(), token.place)
		}
	}
	s.addAt(due[0], now.Add(time.Hour)) // it was not renewed
	for _, token := range tokens {
		s.drop(token)
		s.drop(token)
		s.addAt(token, now) // used by a call that found it before
	}
	s.drop(nil)
	if n := s.plans(t); n != 0 {
		t.Errorf("%d plans for tokens that memory does not hold", n)
	}
	if _, _, ok := s.next(now.Add(2 * time.Hour)); ok {
		t.Error("something is due")
	}
}

// Removing from the middle keeps the order.
func TestScheduleKeepsItsOrder(t *testing.T) {
	s, now := newSchedule(), time.Unix(1e9, 0)
	tokens := make([]*Token, 500)
	for i := range tokens {
		tokens[i] = held(i)
		s.addAt(tokens[i], now.Add(time.Duration(i*7919%500)*time.Second))
	}
	for i := 0; i < len(tokens); i += 3 {
		s.drop(tokens[i])
		s.plans(t)
	}
	for i := 1; i < len(tokens); i += 3 {
		s.addAt(tokens[i], now.Add(time.Duration(i*104729%500)*time.Second))
		s.plans(t)
	}
	if n := s.plans(t); n != 333 {
		t.Errorf("%d plans", n)
	}
}

// A token that is replaced often has one plan all the same, and none of an old
// generation is carried out.
func TestReplacedTokensDoNotPileUp(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		for range 50 {
			if _, err := w.Refresh(t.Context(), of(alice)); err != nil {
				t.Fatal(err)
			}
			w.token(of(alice))
		}
		w.planned(2) // the platform's too
		calls := w.sim.Count(pathAuthorizer)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		w.count(pathAuthorizer, calls+1)
	})
}

// Plans go with what they are for: when authorizations end, when the
// configuration changes and when the Service is closed.
func TestPlansGoWithTheirTokens(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		w.token(of(alice))
		w.token(Key{Account, direct})
		w.planned(3)
		if _, err := w.DeleteAuthorizer(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		w.planned(2)
		w.Reconfigure(w.conf)
		w.planned(0)
		w.token(Key{Account, direct})
		w.planned(1)
		w.stop()
		w.planned(0)
	})
}

// A cache that holds next to nothing costs time, not correctness: the store is
// read, WeChat is not asked, only what memory holds is planned, and a call that
// finds another token due begins its renewal and does not wait for it.
func TestTinyMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil, 2000)
		w.begin()
		defer w.sim.Close()
		defer func() { w.stop() }()
		w.ticket()
		const n = 50
		for i := range n {
			w.add(appID(i))
		}
		useAll := func() {
			for i := range n {
				w.live(w.token(of(appID(i))))
			}
		}
		for range 5 {
			useAll()
		}
		w.count(pathAuthorizer, n)
		if plans := w.schedule.plans(t); plans > 2000/entryCost+1 {
			t.Errorf("%d plans", plans)
		}
		time.Sleep(2*time.Hour - 5*time.Minute)
		began := time.Now()
		for i := range n { // each may be replaced as soon as it was given out
			w.token(of(appID(i)))
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("calls waited %s", waited)
		}
		synctest.Wait()
		w.count(pathAuthorizer, 2*n)
		useAll()
		synctest.Wait()
		w.count(pathAuthorizer, 2*n)
	})
}

// What does not fit goes, and its plan with it: memory's bound holds for both.
func TestEvictedTokensHaveNoPlan(t *testing.T) {
	const fit = 100
	s := newSchedule()
	m, err := newMemory(fit*cost(200+18), s)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for i := range 20 * fit {
		key := of(fmt.Sprintf("wx%016x", i))
		token := newToken(key, store.Token{Value: secret.New(string(make([]byte, 200))), Generation: 1}, time.Now())
		m.put(key, token)
		s.add(token)
		if i%3 == 0 { // another one in its place
			token = newToken(key, store.Token{Value: token.Value(), Generation: 2}, time.Now())
			m.put(key, token)
			s.add(token)
		}
	}
	if n := s.plans(t); n == 0 || n > fit {
		t.Errorf("%d plans, %d tokens fit", n, fit)
	}
	for _, p := range s.heap {
		if m.find(p.token.AppID()) != p.token {
			t.Errorf("%s is planned for but not in memory", p.token.Key())
		}
	}
	m.clear()
	if n := s.plans(t); n != 0 {
		t.Errorf("%d plans in an empty memory", n)
	}
}
