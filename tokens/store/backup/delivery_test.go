package backup

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
)

// fillDeliveries stores a dead letter and three that are pending, for two targets.
func fillDeliveries(t testing.TB, s store.Deliveries) {
	t.Helper()
	var ds []store.Delivery
	for n := range 4 {
		ds = append(ds, store.Delivery{
			ID: fmt.Sprint("id", n), Target: []string{"b", "a", "b", "b"}[n], AppID: "wx000001", Type: "text", Lasting: n == 2,
			ReceivedAt: instant, GiveUpAt: instant, Attempts: n, LastError: "status 500", Message: secret.New("<xml>hush\n\xff</xml>"),
		})
	}
	if _, err := s.AddDeliveries(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	dead, err := s.FindDelivery(t.Context(), "id2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateDelivery(t.Context(), dead.Seq, func(d *store.Delivery) error { d.Dead = true; return nil }); err != nil {
		t.Fatal(err)
	}
}

// deliveries reads all that s has; their Seqs are its own.
func deliveries(t testing.TB, s store.Store) []any {
	t.Helper()
	d := s.(store.Deliveries)
	counts, err := d.CountDeliveries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := []any{counts}
	for _, target := range []string{"a", "b", ""} {
		page, err := d.Deliveries(t.Context(), target, 0, 100)
		if target == "" {
			page, err = d.DeadDeliveries(t.Context(), 0, 100)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range page {
			page[i].Seq = 0
		}
		all = append(all, page)
	}
	return all
}

func TestDeliveriesAreRestoredOnce(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	s := filled(t, 3)
	file := export(t, codec, s)
	next := memory.New()
	for range 2 { // the second time all is there
		if _, err := Restore(t.Context(), bytes.NewReader(file), codec, next, true, nil); err != nil {
			t.Fatal(err)
		}
		if got, want := deliveries(t, next), deliveries(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
	dead, err := s.FindDelivery(t.Context(), "id2")
	if err != nil || !dead.Dead {
		t.Fatal(dead, err)
	}
}

func TestAStoreWithDeliveriesIsNotEmpty(t *testing.T) {
	f := func(want bool, s store.Store) {
		t.Helper()
		if got, err := Empty(t.Context(), s, IDs{}); err != nil || got != want {
			t.Errorf("%t, %v, want %t", got, err, want)
		}
	}
	s := memory.New()
	f(true, s)
	if _, err := s.AddDeliveries(t.Context(), []store.Delivery{{ID: "a", Target: "t"}}); err != nil {
		t.Fatal(err)
	}
	f(false, s)
	if _, err := s.UpdateDelivery(t.Context(), 1, func(d *store.Delivery) error { d.Dead = true; return nil }); err != nil {
		t.Fatal(err)
	}
	f(false, s)
	if err := s.DeleteDelivery(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f(true, s)
}

// A backup from before there were deliveries, or of a store without, is read as
// ever; and what cannot be restored is an error.
func TestStoresWithoutDeliveries(t *testing.T) {
	codec := newCodec(t, store.NewKey())
	var out bytes.Buffer
	counts, err := Write(t.Context(), &out, codec, plainStore{filled(t, 3)}, IDs{}, nil)
	if err != nil || counts.Deliveries != 0 {
		t.Fatalf("%+v, %v", counts, err)
	}
	if got, err := Restore(t.Context(), &out, codec, plainStore{memory.New()}, false, nil); err != nil || got != counts {
		t.Errorf("%+v, %v", got, err)
	}
	file := export(t, codec, filled(t, 3))
	if _, err := Restore(t.Context(), bytes.NewReader(file), codec, plainStore{memory.New()}, false, nil); err == nil {
		t.Error("deliveries were lost without a word")
	}
}
