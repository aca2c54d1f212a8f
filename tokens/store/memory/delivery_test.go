package memory

import (
	"context"
	"testing"
	"testing/synctest"

	"lingpai/tokens/store"
	"lingpai/tokens/store/storetest"
)

func TestDeliveries(t *testing.T) {
	codec, err := store.NewCodec(store.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]storetest.Open{
		"plain":     func(*testing.T) (store.Store, func() store.Store) { return New(), nil },
		"encrypted": func(*testing.T) (store.Store, func() store.Store) { return Open(Options{Codec: codec}), nil },
		"group": func(*testing.T) (store.Store, func() store.Store) {
			g := NewGroup(Options{})
			return g.Open(), func() store.Store { return g.Open() }
		},
	} {
		t.Run(name, func(t *testing.T) { storetest.RunDeliveries(t, open) })
	}
}

// Other processes hear of what is to be delivered, and not of each attempt.
func TestDeliveriesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(Options{})
		a, b := g.Open(), g.Open()
		ctx, cancel := context.WithCancel(t.Context())
		told := 0
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.Watch(ctx, func(c store.Change) {
				if c.Kind != store.ChangedPushes {
					t.Errorf("told of %q", c.Kind)
				}
				told++
			}, func() {})
		}()
		f := func(what string, want int, err error) {
			t.Helper()
			synctest.Wait()
			if told != want || err != nil {
				t.Errorf("%s: told %d times, want %d, %v", what, told, want, err)
			}
		}
		synctest.Wait()
		ds := []store.Delivery{{ID: "a", Target: "t"}}
		_, err := a.AddDeliveries(ctx, ds)
		f("added", 1, err)
		_, err = a.AddDeliveries(ctx, ds)
		f("added again", 1, err)
		_, err = a.UpdateDelivery(ctx, 1, func(d *store.Delivery) error { d.Dead = true; return nil })
		f("dead", 1, err)
		_, err = a.UpdateDelivery(ctx, 1, func(d *store.Delivery) error { d.Dead = false; return nil })
		f("sent again", 2, err)
		f("deleted", 2, a.DeleteDelivery(ctx, 2))
		cancel()
		<-ended
	})
}
