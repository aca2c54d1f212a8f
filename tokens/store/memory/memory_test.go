package memory

import (
	"math/rand/v2"
	"slices"
	"testing"

	"lingpai/tokens/store"
	"lingpai/tokens/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) (store.Store, func() store.Store) { return New(), nil })
}

func TestEncryptedStore(t *testing.T) {
	codec, err := store.NewCodec(store.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(*testing.T) (store.Store, func() store.Store) { return Open(Options{Codec: codec}), nil })
}

func TestGroup(t *testing.T) {
	storetest.Run(t, func(*testing.T) (store.Store, func() store.Store) {
		g := NewGroup(Options{})
		return g.Open(), func() store.Store { return g.Open() }
	})
	storetest.RunShared(t, func(*testing.T) (a, b store.Shared) {
		g := NewGroup(Options{})
		return g.Open(), g.Open()
	})
}

// The index must give what sorting the live keys gives, whatever came before.
func TestIndexIsLikeSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	live := map[int]bool{}
	x := index[int]{live: func(k int) bool { return live[k] }}
	for step := range 20_000 {
		k := 1 + rng.IntN(300)
		if live[k] {
			delete(live, k)
			x.removed()
		} else {
			live[k] = true
			x.add(k)
		}
		if step%7 != 0 {
			continue
		}
		after, limit := rng.IntN(310), rng.IntN(20)
		var want []int
		for k := range live {
			if k > after {
				want = append(want, k)
			}
		}
		slices.Sort(want)
		want = want[:min(limit, len(want))]
		if got := x.page(after, limit); !slices.Equal(got, want) {
			t.Fatalf("step %d: page(%d, %d) = %v, want %v", step, after, limit, got, want)
		}
	}
	if len(x.sorted)+len(x.added) > 16+2*300 {
		t.Errorf("%d removed keys were left behind", len(x.sorted)+len(x.added)-len(live))
	}
}
