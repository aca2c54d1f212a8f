package tokens

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// shelf is a Mirror that keeps what it is told.
type shelf struct {
	mu    sync.Mutex
	books map[string]book
}

type book struct {
	value     secret.String
	expiresAt time.Time
}

func newShelf() *shelf { return &shelf{books: map[string]book{}} }

func (s *shelf) Publish(kind, appID string, value secret.String, expiresAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.books[kind+"/"+appID] = book{value, expiresAt}
}

func (s *shelf) Remove(kind, appID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.books, kind+"/"+appID)
}

func (s *shelf) Pending() int { return 0 }

func (s *shelf) get(key Key) (book, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.books[key.String()]
	return b, ok
}

func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.books)
}

// Services that share the tokens always find one that WeChat accepts, with as much
// time left as their SDK wants, though nobody calls for the accounts through
// lingpai.
func TestMirrorAlwaysHasAGoodToken(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		const authorizers = 30
		w.ticket()
		keys := []Key{{Component, platform}}
		for i := range authorizers {
			w.add(fmt.Sprintf("wx%016x", 0xd000+i))
			keys = append(keys, of(fmt.Sprintf("wx%016x", 0xd000+i)))
		}
		shelf := newShelf()
		w.SetMirror(shelf)
		time.Sleep(time.Second)
		const wxJavaMargin = 200 * time.Second
		for minute := range 12 * 60 {
			if minute%10 == 0 {
				w.ticket()
			}
			for _, key := range keys {
				b, ok := shelf.get(key)
				if !ok || time.Until(b.expiresAt) < wxJavaMargin {
					t.Fatalf("minute %d: %s is there %t, and lives %s", minute, key, ok, time.Until(b.expiresAt))
				}
				w.live(newToken(key, store.Token{Value: b.value}, time.Time{}))
			}
			if minute == 100 {
				shelf.clear() // comes back with the next sweep
				time.Sleep(sweepEvery + time.Second)
			}
			time.Sleep(time.Minute)
		}
		if n := w.sim.Count(pathAuthorizer); n > authorizers*8 {
			t.Errorf("%d refreshes in twelve hours", n)
		}
		// An account that ends is there no more, and strangers are left alone.
		shelf.Publish("authorizer", "wxstranger", secret.New("x"), time.Now().Add(time.Hour))
		if _, err := w.DeleteAuthorizer(t.Context(), keys[1].AppID); err != nil {
			t.Fatal(err)
		}
		w.refused(of("wxstranger"))
		if _, ok := shelf.get(keys[1]); ok {
			t.Error("the token of an account that was deleted is still there")
		}
		if _, ok := shelf.get(of("wxstranger")); !ok {
			t.Error("the token of a stranger is gone")
		}
		w.SetMirror(nil)
		shelf.clear()
		time.Sleep(3 * time.Hour)
		if _, ok := shelf.get(keys[2]); ok {
			t.Error("published to a mirror that is no more")
		}
	})
}

func TestMirrorIsSweptByOne(t *testing.T) {
	inFleet(t, 3, nil, func(t *testing.T, f *fleet) {
		f.members[0].ready()
		shelves := []*shelf{newShelf(), newShelf(), newShelf()}
		for i, w := range f.members {
			w.SetMirror(shelves[i])
		}
		time.Sleep(2 * leadTime)
		leaders := 0
		for _, s := range shelves {
			s.clear()
		}
		time.Sleep(sweepEvery + time.Second)
		for _, s := range shelves {
			if _, ok := s.get(of(alice)); ok {
				leaders++
			}
		}
		if leaders != 1 {
			t.Errorf("%d sidecars published what had not changed", leaders)
		}
		f.members[0].count(pathAuthorizer, 1)
	})
}

// A token that a service has put there by itself is noticed and replaced.
func TestForeignToken(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world) {
		w.ready()
		mine := w.token(of(alice))
		time.Sleep(time.Hour)
		w.ForeignToken(t.Context(), of(alice), mine.Value()) // it is ours
		synctest.Wait()
		w.count(pathAuthorizer, 1)
		w.ForeignToken(t.Context(), of(alice), secret.New("somebody else's"))
		synctest.Wait()
		w.count(pathAuthorizer, 2)
		w.live(w.token(of(alice)))
		if n := w.metric("foreign_refreshes_total", "kind", "authorizer"); n != 1 {
			t.Errorf("%v foreign refreshes counted", n)
		}
	})
}
