package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

const workers = 100

var concurrencyTests = map[string]func(*testing.T, Open){
	"concurrent updates of one record all count":         oneRecord,
	"concurrent updates of many records":                 manyRecords,
	"failing updates do not fail those beside them":      failuresApart,
	"updates beside a panic happen once":                 besidePanic,
	"concurrent pushes of one digest are one push":       onePush,
	"readers beside writers see whole records":           wholeRecords,
	"concurrent pushes have Seqs of their own, in order": manyPushes,
}

// together runs fn(0) to fn(workers-1) at once and waits for them.
func together(fn func(n int)) {
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() { fn(n) })
	}
	wg.Wait()
}

func oneRecord(t *testing.T, open Open) {
	s := start(t, open)
	var seen [workers + 1]atomic.Bool
	together(func(int) {
		a, err := s.UpdateAuthorizer(t.Context(), "wx1", func(a *store.Authorizer) error {
			a.Token.Generation++
			return nil
		})
		if err != nil || seen[a.Token.Generation].Swap(true) {
			t.Errorf("generation %d, %v: an error, or returned twice", a.Token.Generation, err)
		}
	})
	a, err := s.Authorizer(t.Context(), "wx1")
	must(t, err)
	if a.Token.Generation != workers {
		t.Errorf("generation %d, want %d", a.Token.Generation, workers)
	}
}

func manyRecords(t *testing.T, open Open) {
	s := start(t, open)
	states := []store.State{store.StateActive, store.StateReauthorize, store.StateUnauthorized, store.StateActive}
	together(func(n int) {
		id := fmt.Sprintf("wx%03d", n)
		for _, state := range states {
			_, err := s.UpdateAuthorizer(t.Context(), id, func(a *store.Authorizer) error {
				*a = authorizer(id, state)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		if n%10 == 0 {
			if err := s.DeleteAuthorizer(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	})
	got, err := s.Authorizers(t.Context(), "", 1000)
	must(t, err)
	if len(got) != workers*9/10 {
		t.Errorf("%d authorizers, want %d", len(got), workers*9/10)
	}
	for _, a := range got {
		wantSame(t, "record", a, authorizer(a.AppID, store.StateActive))
	}
	n, err := s.CountAuthorizers(t.Context())
	must(t, err)
	wantSame(t, "counts", n, store.Counts{Active: workers * 9 / 10})
}

func failuresApart(t *testing.T, open Open) {
	s := start(t, open)
	refused := errors.New("refused")
	together(func(n int) {
		var want error
		switch n % 4 {
		case 1:
			want = refused
		case 2:
			want = store.ErrUnchanged
		case 3: // cannot be stored
			want = store.ErrInvalid
		}
		a, err := s.UpdateAuthorizer(t.Context(), "wx1", func(a *store.Authorizer) error {
			a.State = store.StateActive
			a.Token.Generation++
			if n%4 == 3 {
				a.EventDigest = "\xff"
				return nil
			}
			return want
		})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if a.Token.Generation > workers/4 {
			t.Errorf("generation %d was returned, of an update that wrote nothing", a.Token.Generation)
		}
	})
	a, err := s.Authorizer(t.Context(), "wx1")
	must(t, err)
	if a.Token.Generation != workers/4 {
		t.Errorf("generation %d, want %d", a.Token.Generation, workers/4)
	}
	n, err := s.CountAuthorizers(t.Context())
	must(t, err)
	wantSame(t, "counts", n, store.Counts{Active: 1})
}

// A store that undoes a transaction for the sake of one update runs the others
// again, and nothing of the first run may be left.
func besidePanic(t *testing.T, open Open) {
	s := start(t, open)
	together(func(n int) {
		id := fmt.Sprintf("wx%03d", n/2)
		panicked := true
		func() {
			defer func() { panicked = recover() != nil }()
			a, err := s.UpdateAuthorizer(t.Context(), id, func(a *store.Authorizer) error {
				a.State = store.StateActive
				a.Token.Generation++
				a.Scopes = append(a.Scopes, n)
				if n%10 == 0 {
					panic("in fn")
				}
				return nil
			})
			if err != nil || int(a.Token.Generation) != len(a.Scopes) {
				t.Errorf("%d scopes, generation %d, %v", len(a.Scopes), a.Token.Generation, err)
			}
		}()
		if panicked != (n%10 == 0) {
			t.Errorf("update %d: panicked %t", n, panicked)
		}
	})
	all, err := s.Authorizers(t.Context(), "", 1000)
	must(t, err)
	var sum uint64
	for _, a := range all {
		sum += a.Token.Generation
	}
	n, err := s.CountAuthorizers(t.Context())
	must(t, err)
	if sum != workers*9/10 || n.Active != len(all) || len(all) != workers/2 {
		t.Errorf("%d updates of %d authorizers (%d counted), want %d of %d", sum, len(all), n.Active, workers*9/10, workers/2)
	}
}

func wholeRecords(t *testing.T, open Open) {
	s := start(t, open)
	together(func(n int) {
		if n%2 == 0 {
			_, err := s.UpdateAuthorizer(t.Context(), "wx1", func(a *store.Authorizer) error {
				a.Token.Generation++
				a.RefreshToken = secret.New(fmt.Sprint(a.Token.Generation))
				a.Scopes = []int{int(a.Token.Generation)}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			return
		}
		for range 20 {
			a, err := s.Authorizer(t.Context(), "wx1")
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil || a.RefreshToken.Reveal() != fmt.Sprint(a.Token.Generation) || a.Scopes[0] != int(a.Token.Generation) {
				t.Errorf("a record in part: %+v, %v", a, err)
				return
			}
			a.Scopes[0] = -1
		}
	})
}

func onePush(t *testing.T, open Open) {
	s := start(t, open)
	var added atomic.Int64
	var seq atomic.Uint64
	together(func(int) {
		p, fresh, err := s.AddPush(t.Context(), store.Push{Digest: "d", Message: secret.New("m")})
		if err != nil || p.Seq == 0 || p.Message.Reveal() != "m" {
			t.Errorf("Seq %d, %v", p.Seq, err)
		}
		if was := seq.Swap(p.Seq); was != 0 && was != p.Seq {
			t.Errorf("Seq %d and %d", was, p.Seq)
		}
		if fresh {
			added.Add(1)
		}
	})
	if added.Load() != 1 {
		t.Errorf("added %d times", added.Load())
	}
}

func manyPushes(t *testing.T, open Open) {
	s := start(t, open)
	together(func(n int) {
		// The second is added after the first was acknowledged.
		first, _, err := s.AddPush(t.Context(), store.Push{Digest: fmt.Sprintf("a%d", n)})
		second, _, err2 := s.AddPush(t.Context(), store.Push{Digest: fmt.Sprintf("b%d", n)})
		if err != nil || err2 != nil || first.Seq >= second.Seq {
			t.Errorf("Seq %d, then %d; %v, %v", first.Seq, second.Seq, err, err2)
		}
		if n%2 == 0 {
			if err := s.DeletePush(t.Context(), first.Seq); err != nil {
				t.Error(err)
			}
		}
	})
	got, err := s.Pushes(t.Context(), 0, 1000)
	must(t, err)
	if len(got) != workers*3/2 {
		t.Errorf("%d pending, want %d", len(got), workers*3/2)
	}
}
