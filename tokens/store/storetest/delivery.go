package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

var deliveryTests = map[string]func(*testing.T, Open){
	"deliveries come in the order of arrival, by target": deliveryOrder,
	"an ID that is kept is not stored twice":             deliveryID,
	"deliveries are added all or none":                   deliveryAtomic,
	"an update keeps what names a delivery":              deliveryUpdate,
	"a dead letter can arrive anew":                      deliveryDead,
	"counts follow every change":                         deliveryCounts,
	"deliveries outlive the store, with every byte":      deliveryBytes,
	"updates of one delivery at a time lose none":        deliveryConcurrency,
	"methods for deliveries heed the store's end":        deliveryEnd,
}

// RunDeliveries checks the stores that open gives, each of them a
// store.Deliveries.
func RunDeliveries(t *testing.T, open Open) {
	for name, test := range deliveryTests {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

func deliveriesOf(t *testing.T, s store.Store) store.Deliveries {
	t.Helper()
	d, ok := s.(store.Deliveries)
	if !ok {
		t.Fatalf("%T keeps no deliveries", s)
	}
	return d
}

// delivery is a record with all fields set but Seq and Dead.
func delivery(id, target string) store.Delivery {
	return store.Delivery{
		ID: id, Target: target, AppID: "wx-" + id, Type: "event/subscribe", Lasting: true,
		ReceivedAt: instant, Message: secret.New("<xml>" + id + "</xml>"),
		Attempts: 3, NextAt: instant.Add(1), GiveUpAt: instant.Add(2), LastError: "status 503",
	}
}

func addDeliveries(t *testing.T, d store.Deliveries, want int, ds ...store.Delivery) {
	t.Helper()
	added, err := d.AddDeliveries(t.Context(), ds)
	must(t, err)
	if added != want {
		t.Errorf("%d were added, want %d", added, want)
	}
}

// seqOf finds the Seq of the delivery of id, dead or alive, and checks the rest
// of the page.
func seqOf(t *testing.T, d store.Deliveries, target, id string) uint64 {
	t.Helper()
	page, err := d.Deliveries(t.Context(), target, 0, 1000)
	must(t, err)
	dead, err := d.DeadDeliveries(t.Context(), 0, 1000)
	must(t, err)
	for _, rec := range append(page, dead...) {
		if rec.ID == id {
			return rec.Seq
		}
	}
	t.Fatalf("no delivery %s to %s", id, target)
	return 0
}

// wantIDs checks one page.
func wantIDs(t *testing.T, page []store.Delivery, err error, after uint64, dead bool, want ...string) {
	t.Helper()
	must(t, err)
	var got []string
	for _, rec := range page {
		if rec.Seq <= after || rec.Dead != dead {
			t.Errorf("delivery %d, dead %t, in the page after %d", rec.Seq, rec.Dead, after)
		}
		after = rec.Seq
		got = append(got, rec.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("page %q, want %q", got, want)
	}
}

func wantPending(t *testing.T, d store.Deliveries, target string, want ...string) {
	t.Helper()
	page, err := d.Deliveries(t.Context(), target, 0, 1000)
	wantIDs(t, page, err, 0, false, want...)
}

func wantDead(t *testing.T, d store.Deliveries, want ...string) {
	t.Helper()
	page, err := d.DeadDeliveries(t.Context(), 0, 1000)
	wantIDs(t, page, err, 0, true, want...)
}

func wantCounts(t *testing.T, d store.Deliveries, dead int, pending map[string]int) {
	t.Helper()
	c, err := d.CountDeliveries(t.Context())
	must(t, err)
	if c.Dead != dead || !maps.Equal(c.Pending, pending) {
		t.Errorf("counts %+v, want %d dead and pending %v", c, dead, pending)
	}
}

func deliveryOrder(t *testing.T, open Open) {
	d := deliveriesOf(t, start(t, open))
	ctx := t.Context()
	f := func(target string, after uint64, limit int, want ...string) {
		t.Helper()
		page, err := d.Deliveries(ctx, target, after, limit)
		wantIDs(t, page, err, after, false, want...)
	}
	f("a", 0, 10)
	// One target's name is the beginning of another's.
	addDeliveries(t, d, 5, delivery("z", "a"), delivery("y", "a"), delivery("x", "ab"), delivery("w", "a"), delivery("v", "a!"))
	addDeliveries(t, d, 2, delivery("u", "a"), delivery("t", "目标"))
	f("a", 0, 10, "z", "y", "w", "u")
	f("ab", 0, 10, "x")
	f("a!", 0, 10, "v")
	f("目标", 0, 10, "t")
	f("b", 0, 10)
	f("", 0, 10)
	f("a", 0, 2, "z", "y")
	f("a", seqOf(t, d, "a", "y"), 1, "w")
	f("a", seqOf(t, d, "a", "u"), 10)
	f("a", math.MaxUint64, 10)
	f("a", 0, 0)
	f("a", 0, -1)
	z := seqOf(t, d, "a", "z")
	must(t, d.DeleteDelivery(ctx, z))
	must(t, d.DeleteDelivery(ctx, z))
	f("a", 0, 10, "y", "w", "u")
	_, err := d.Delivery(ctx, z)
	wantErr(t, "a deleted one", err, store.ErrNotFound)
	var many []store.Delivery
	for n := range 300 { // more than a page of the engine
		many = append(many, delivery(fmt.Sprint("many", n), "c"))
	}
	addDeliveries(t, d, 300, many...)
	page, err := d.Deliveries(ctx, "c", 0, 1000)
	must(t, err)
	for i, rec := range page {
		want := many[i]
		want.Seq = rec.Seq
		wantSame(t, "delivery in a page", rec, want)
	}
	if len(page) != 300 {
		t.Errorf("%d deliveries, want 300", len(page))
	}
}

func deliveryID(t *testing.T, open Open) {
	d := deliveriesOf(t, start(t, open))
	ctx := t.Context()
	addDeliveries(t, d, 1, delivery("a", "t"))
	first := seqOf(t, d, "t", "a")
	addDeliveries(t, d, 1, delivery("a", "t"), delivery("b", "t"))
	addDeliveries(t, d, 0, delivery("a", "other"))
	addDeliveries(t, d, 0)
	wantPending(t, d, "t", "a", "b")
	want := delivery("a", "t")
	want.Seq = first
	found, err := d.FindDelivery(ctx, "a")
	must(t, err)
	wantSame(t, "FindDelivery", found, want)
	_, err = d.FindDelivery(ctx, "none")
	wantErr(t, "an ID that is not there", err, store.ErrNotFound)
	_, err = d.UpdateDelivery(ctx, first, func(rec *store.Delivery) error { rec.Dead = true; return nil })
	must(t, err)
	addDeliveries(t, d, 0, delivery("a", "t"))
	found, err = d.FindDelivery(ctx, "a")
	must(t, err)
	if !found.Dead || found.Seq != first {
		t.Errorf("dead %t, Seq %d", found.Dead, found.Seq)
	}
	must(t, d.DeleteDelivery(ctx, first))
	_, err = d.FindDelivery(ctx, "a")
	wantErr(t, "the ID of one that was deleted", err, store.ErrNotFound)
	addDeliveries(t, d, 1, delivery("a", "t"))
	wantPending(t, d, "t", "b", "a")
	if again := seqOf(t, d, "t", "a"); again <= first {
		t.Errorf("Seq %d after %d", again, first)
	}
	// The deletion of the first one must not touch the ID of the second.
	must(t, d.DeleteDelivery(ctx, first))
	addDeliveries(t, d, 0, delivery("a", "t"))
	wantDead(t, d)
}

func deliveryAtomic(t *testing.T, open Open) {
	d := deliveriesOf(t, start(t, open))
	for name, bad := range map[string]store.Delivery{
		"no ID":            delivery("", "t"),
		"no target":        delivery("bad", ""),
		"a long ID":        delivery(strings.Repeat("x", 257), "t"),
		"a zero in target": delivery("bad", "t\x00u"),
		"no UTF-8":         delivery("bad", "t\xff"),
	} {
		_, err := d.AddDeliveries(t.Context(), []store.Delivery{delivery("good", "t"), bad})
		wantErr(t, name, err, store.ErrInvalid)
	}
	wantPending(t, d, "t")
	wantCounts(t, d, 0, nil)
}

func deliveryUpdate(t *testing.T, open Open) {
	d := deliveriesOf(t, start(t, open))
	ctx := t.Context()
	addDeliveries(t, d, 2, delivery("a", "t"), delivery("b", "t"))
	seq := seqOf(t, d, "t", "a")
	change := func(rec *store.Delivery) error {
		*rec = store.Delivery{Seq: 7777, ID: "other", Target: "other", Attempts: 9, LastError: "timeout"}
		return nil
	}
	got, err := d.UpdateDelivery(ctx, seq, change)
	must(t, err)
	want := store.Delivery{Seq: seq, ID: "a", Target: "t", Attempts: 9, LastError: "timeout"}
	wantSame(t, "UpdateDelivery", got, want)
	got, err = d.Delivery(ctx, seq)
	must(t, err)
	wantSame(t, "Delivery after it", got, want)
	wantPending(t, d, "t", "a", "b")
	wantPending(t, d, "other")

	got, err = d.UpdateDelivery(ctx, seq, func(rec *store.Delivery) error { rec.Attempts = 99; return store.ErrUnchanged })
	wantErr(t, "nothing to write", err, store.ErrUnchanged)
	wantSame(t, "what it returns", got, want)
	own := errors.New("own")
	_, err = d.UpdateDelivery(ctx, seq, func(rec *store.Delivery) error { rec.Attempts = 99; return own })
	wantErr(t, "fn's error", err, own)
	_, err = d.UpdateDelivery(ctx, seq, func(rec *store.Delivery) error { rec.LastError = "\xff"; return nil })
	wantErr(t, "no UTF-8", err, store.ErrInvalid)
	got, err = d.Delivery(ctx, seq)
	must(t, err)
	wantSame(t, "Delivery after refused updates", got, want)
	_, err = d.UpdateDelivery(ctx, seq+1000, func(*store.Delivery) error { t.Error("fn was called"); return nil })
	wantErr(t, "one that is not there", err, store.ErrNotFound)
	_, err = d.Delivery(ctx, 0)
	wantErr(t, "Seq 0", err, store.ErrNotFound)
}

func setDead(dead bool) func(*store.Delivery) error {
	return func(rec *store.Delivery) error {
		rec.Dead = dead
		return nil
	}
}

func deliveryDead(t *testing.T, open Open) {
	d := deliveriesOf(t, start(t, open))
	ctx := t.Context()
	dead := delivery("born-dead", "t")
	dead.Dead = true
	addDeliveries(t, d, 4, delivery("a", "t"), delivery("b", "t"), delivery("c", "u"), dead)
	wantPending(t, d, "t", "a", "b", "born-dead")
	for id, target := range map[string]string{"c": "u", "a": "t"} {
		seq := seqOf(t, d, target, id)
		rec, err := d.UpdateDelivery(ctx, seq, setDead(true))
		must(t, err)
		if !rec.Dead || rec.Seq != seq {
			t.Errorf("%s: dead %t, Seq %d after %d", id, rec.Dead, rec.Seq, seq)
		}
	}
	wantPending(t, d, "t", "b", "born-dead")
	wantPending(t, d, "u")
	wantDead(t, d, "a", "c")
	a := seqOf(t, d, "t", "a")
	page, err := d.DeadDeliveries(ctx, a, 10)
	wantIDs(t, page, err, a, true, "c")
	page, err = d.DeadDeliveries(ctx, 0, 1)
	wantIDs(t, page, err, 0, true, "a")
	page, err = d.DeadDeliveries(ctx, math.MaxUint64, 1)
	wantIDs(t, page, err, math.MaxUint64, true)

	rec, err := d.UpdateDelivery(ctx, a, setDead(false))
	must(t, err)
	want := delivery("a", "t")
	want.Seq = rec.Seq
	wantSame(t, "one that arrives anew", rec, want)
	wantPending(t, d, "t", "b", "born-dead", "a")
	wantDead(t, d, "c")
	_, err = d.Delivery(ctx, a)
	wantErr(t, "its former Seq", err, store.ErrNotFound)
	found, err := d.FindDelivery(ctx, "a")
	must(t, err)
	wantSame(t, "FindDelivery", found, want)
	addDeliveries(t, d, 1, delivery("e", "t"), delivery("a", "t"))
	wantPending(t, d, "t", "b", "born-dead", "a", "e")
}

func deliveryCounts(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	d := deliveriesOf(t, s)
	ctx := t.Context()
	wantCounts(t, d, 0, nil)
	addDeliveries(t, d, 3, delivery("a", "t"), delivery("b", "t"), delivery("c", "u"))
	addDeliveries(t, d, 0, delivery("c", "u"))
	wantCounts(t, d, 0, map[string]int{"t": 2, "u": 1})
	a, c := seqOf(t, d, "t", "a"), seqOf(t, d, "u", "c")
	_, err := d.UpdateDelivery(ctx, a, func(rec *store.Delivery) error { rec.Attempts++; return nil })
	must(t, err)
	wantCounts(t, d, 0, map[string]int{"t": 2, "u": 1})
	for _, seq := range []uint64{a, c} {
		_, err := d.UpdateDelivery(ctx, seq, setDead(true))
		must(t, err)
	}
	wantCounts(t, d, 2, map[string]int{"t": 1})
	_, err = d.UpdateDelivery(ctx, a, func(rec *store.Delivery) error { rec.Attempts++; return nil })
	must(t, err)
	wantCounts(t, d, 2, map[string]int{"t": 1})
	must(t, d.DeleteDelivery(ctx, c))
	must(t, d.DeleteDelivery(ctx, c))
	wantCounts(t, d, 1, map[string]int{"t": 1})
	_, err = d.UpdateDelivery(ctx, a, setDead(false))
	must(t, err)
	wantCounts(t, d, 0, map[string]int{"t": 2})
	must(t, d.DeleteDelivery(ctx, seqOf(t, d, "t", "b")))
	wantCounts(t, d, 0, map[string]int{"t": 1})
	d = deliveriesOf(t, reopen())
	wantCounts(t, d, 0, map[string]int{"t": 1})
	must(t, d.DeleteDelivery(ctx, seqOf(t, d, "t", "a")))
	wantCounts(t, d, 0, nil)
}

func deliveryBytes(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	d := deliveriesOf(t, s)
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(i * 7)
	}
	want := []store.Delivery{
		{ID: "big", Target: "t", ReceivedAt: instant, Message: secret.New(string(big))},
		{ID: "标识", Target: "t", Message: secret.New("<xml>\x00\xff</xml>")},
		{ID: "empty", Target: "t"},
	}
	addDeliveries(t, d, 3, want...)
	last := uint64(0)
	for i := range want {
		want[i].Seq = seqOf(t, d, "t", want[i].ID)
		last = want[i].Seq
	}
	d = deliveriesOf(t, reopen())
	got, err := d.Deliveries(t.Context(), "t", 0, 10)
	must(t, err)
	wantSame(t, "Deliveries after reopening", got, want)
	addDeliveries(t, d, 1, append(want, delivery("new", "t"))...)
	if seq := seqOf(t, d, "t", "new"); seq <= last {
		t.Errorf("Seq %d after %d", seq, last)
	}
}

func deliveryConcurrency(t *testing.T, open Open) {
	d := deliveriesOf(t, start(t, open))
	addDeliveries(t, d, 1, store.Delivery{ID: "a", Target: "t"})
	seq := seqOf(t, d, "t", "a")
	const workers, each = 8, 10
	var wg sync.WaitGroup
	for n := range workers {
		wg.Go(func() {
			for i := range each {
				_, err := d.UpdateDelivery(t.Context(), seq, func(rec *store.Delivery) error { rec.Attempts++; return nil })
				if err != nil {
					t.Error(err)
				}
				// The same ID from all: one of them adds it.
				if _, err := d.AddDeliveries(t.Context(), []store.Delivery{{ID: fmt.Sprint("i", i), Target: "u", Attempts: n}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	rec, err := d.Delivery(t.Context(), seq)
	must(t, err)
	if rec.Attempts != workers*each {
		t.Errorf("%d updates are left of %d", rec.Attempts, workers*each)
	}
	wantCounts(t, d, 0, map[string]int{"t": 1, "u": each})
}

func deliveryEnd(t *testing.T, open Open) {
	s := start(t, open)
	d := deliveriesOf(t, s)
	addDeliveries(t, d, 1, delivery("a", "t"))
	all := func(ctx context.Context, want error) {
		t.Helper()
		f := func(method string, err error) { wantErr(t, method, err, want) }
		_, err := d.AddDeliveries(ctx, []store.Delivery{delivery("b", "t")})
		f("AddDeliveries", err)
		_, err = d.Delivery(ctx, 1)
		f("Delivery", err)
		_, err = d.FindDelivery(ctx, "a")
		f("FindDelivery", err)
		_, err = d.Deliveries(ctx, "t", 0, 10)
		f("Deliveries", err)
		_, err = d.DeadDeliveries(ctx, 0, 10)
		f("DeadDeliveries", err)
		_, err = d.UpdateDelivery(ctx, 1, setDead(true))
		f("UpdateDelivery", err)
		f("DeleteDelivery", d.DeleteDelivery(ctx, 1))
		_, err = d.CountDeliveries(ctx)
		f("CountDeliveries", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	all(ctx, context.Canceled)
	wantPending(t, d, "t", "a")
	must(t, s.Close())
	all(t.Context(), store.ErrClosed)
}
