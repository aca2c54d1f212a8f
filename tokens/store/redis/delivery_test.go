package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/store/storetest"
)

func TestDeliveries(t *testing.T) {
	codec, err := store.NewCodec(store.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"plain":     func(*Options) {},
		"encrypted": func(o *Options) { o.Codec = codec },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.RunDeliveries(t, func(t *testing.T) (store.Store, func() store.Store) {
				srv, prefix := commonServer(t)
				again := func() store.Store { return openStore(t, srv.URL(), prefix, change) }
				return again(), again
			})
		})
	}
}

func TestDeliveriesOutliveTheServer(t *testing.T) {
	storetest.RunDeliveries(t, func(t *testing.T) (store.Store, func() store.Store) {
		srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
		return openStore(t, srv.URL(), "p:"), func() store.Store {
			srv.Kill()
			srv.Start()
			return openStore(t, srv.URL(), "p:")
		}
	})
}

// Two processes change the same deliveries: one of them adds each, no update is
// lost, and the counts are right.
func TestDeliveriesOfTwoProcesses(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	const each = 50
	ctx := t.Context()
	var mu sync.Mutex
	added := 0
	var wg sync.WaitGroup
	for _, s := range []*Store{a, b} {
		for range 4 {
			wg.Go(func() {
				for n := range each {
					got, err := s.AddDeliveries(ctx, []store.Delivery{{ID: fmt.Sprint(n), Target: "t"}, {ID: fmt.Sprint(n, "u"), Target: "u"}})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					added += got
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	if added != 2*each {
		t.Errorf("%d were added, want %d", added, 2*each)
	}
	page, err := a.Deliveries(ctx, "t", 0, 1000)
	if err != nil || len(page) != each {
		t.Fatalf("%d, %v", len(page), err)
	}
	for _, s := range []*Store{a, b} {
		for range 2 {
			wg.Go(func() {
				for _, d := range page[:10] {
					if _, err := s.UpdateDelivery(ctx, d.Seq, func(d *store.Delivery) error { d.Attempts++; return nil }); err != nil {
						t.Error(err)
					}
				}
				for _, d := range page[10:20] { // one of them finds it alive
					_, err := s.UpdateDelivery(ctx, d.Seq, func(d *store.Delivery) error {
						if d.Dead {
							return store.ErrUnchanged
						}
						d.Dead = true
						return nil
					})
					if err != nil && !errors.Is(err, store.ErrUnchanged) {
						t.Error(err)
					}
				}
				for _, d := range page[20:30] {
					if err := s.DeleteDelivery(ctx, d.Seq); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, d := range page[:10] {
		if got, err := b.Delivery(ctx, d.Seq); err != nil || got.Attempts != 4 {
			t.Errorf("%d updates are left of 4, %v", got.Attempts, err)
		}
	}
	c, err := b.CountDeliveries(ctx)
	if err != nil || c.Pending["t"] != each-20 || c.Pending["u"] != each || c.Dead != 10 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Other processes hear of what is to be delivered.
func TestDeliveriesAreTold(t *testing.T) {
	srv, prefix := commonServer(t)
	a, b := openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	ctx := t.Context()
	told := watch(t, b)
	pushes := func() int {
		n := 0
		for _, c := range told.all() {
			if c.Kind == store.ChangedPushes {
				n++
			}
		}
		return n
	}
	if _, err := a.AddDeliveries(ctx, []store.Delivery{{ID: "a", Target: "t"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was added is told", func() bool { return pushes() == 1 })
	page, err := a.Deliveries(ctx, "t", 0, 1)
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	for _, dead := range []bool{true, false} {
		if _, err := a.UpdateDelivery(ctx, page[0].Seq, func(d *store.Delivery) error { d.Dead = dead; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "what arrives anew is told", func() bool { return pushes() == 2 })
}

// Keys of deliveries are under the prefix, are no other ones, and do not expire;
// what is emptied leaves only the last Seq.
func TestDeliveryKeys(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	ctx := t.Context()
	if _, err := s.AddDeliveries(ctx, []store.Delivery{{ID: "a", Target: "t"}, {ID: "b", Target: "t"}}); err != nil {
		t.Fatal(err)
	}
	page, err := s.Deliveries(ctx, "t", 0, 10)
	if err != nil || len(page) != 2 {
		t.Fatal(page, err)
	}
	if _, err := s.UpdateDelivery(ctx, page[0].Seq, func(d *store.Delivery) error { d.Dead = true; return nil }); err != nil {
		t.Fatal(err)
	}
	k := s.keys
	check := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		m, err := s.client.Do(ctx, s.client.B().Keys().Pattern(prefix+"*").Build()).AsStrSlice()
		slices.Sort(m)
		if err != nil || !slices.Equal(m, want) {
			t.Errorf("keys %q\nwant %q, %v", m, want, err)
		}
		for _, key := range m {
			if ttl, err := s.client.Do(ctx, s.client.B().Pttl().Key(key).Build()).AsInt64(); err != nil || ttl != -1 {
				t.Errorf("%s lives %d ms, %v", key, ttl, err)
			}
		}
	}
	check(k.schema, k.deliveries, k.deliveryIDs, k.deliveryPending, k.deliveryDead, k.deliveryCounts, k.deliveryTargets, k.lastDelivery)
	for _, d := range page {
		if err := s.DeleteDelivery(ctx, d.Seq); err != nil {
			t.Fatal(err)
		}
	}
	check(k.schema, k.lastDelivery)
}

// A store that is open for reading only changes nothing, and reads them.
func TestDeliveriesReadOnly(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	follower := openStore(t, srv.URL(), prefix, func(o *Options) { o.ReadOnly = true })
	ctx := t.Context()
	if _, err := s.AddDeliveries(ctx, []store.Delivery{{ID: "a", Target: "t"}}); err != nil {
		t.Fatal(err)
	}
	if page, err := follower.Deliveries(ctx, "t", 0, 10); err != nil || len(page) != 1 {
		t.Errorf("%v, %v", page, err)
	}
	for name, err := range map[string]error{
		"AddDeliveries":  errOf(follower.AddDeliveries(ctx, []store.Delivery{{ID: "b", Target: "t"}})),
		"UpdateDelivery": errOf(follower.UpdateDelivery(ctx, 1, nil)),
		"DeleteDelivery": follower.DeleteDelivery(ctx, 1),
	} {
		if !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the package comment says is enough for one that writes.
func TestDeliveriesNeedNoOtherRights(t *testing.T) {
	srv := redistest.Start(t)
	srv.Must("ACL SETUSER lingpai on >pa55w0rd " + rightsOf(t, "lingpai"))
	s := openStore(t, "unix://lingpai:pa55w0rd@"+srv.Socket(), "lingpai:")
	ctx := t.Context()
	added, err := s.AddDeliveries(ctx, []store.Delivery{{ID: "a", Target: "t", Message: secret.New("m")}})
	page, err1 := s.Deliveries(ctx, "t", 0, 10)
	if err != nil || err1 != nil || added != 1 || len(page) != 1 {
		t.Fatal(added, err, err1)
	}
	seq := page[0].Seq
	_, err2 := s.UpdateDelivery(ctx, seq, func(d *store.Delivery) error { d.Dead = true; return nil })
	_, err3 := s.DeadDeliveries(ctx, 0, 10)
	again, err4 := s.UpdateDelivery(ctx, seq, func(d *store.Delivery) error { d.Dead = false; return nil })
	_, err5 := s.Delivery(ctx, again.Seq)
	_, err6 := s.CountDeliveries(ctx)
	if err := errors.Join(err2, err3, err4, err5, err6, s.DeleteDelivery(ctx, again.Seq)); err != nil {
		t.Error(err)
	}
}

// Seqs go on growing when a server has lost the last one.
func TestDeliverySeqsGrow(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	ctx := t.Context()
	last := uint64(0)
	for n := range 3 {
		before := uint64(time.Now().UnixMilli())
		if _, err := s.AddDeliveries(ctx, []store.Delivery{{ID: fmt.Sprint(n), Target: "t"}}); err != nil {
			t.Fatal(err)
		}
		page, err := s.Deliveries(ctx, "t", last, 10)
		if err != nil || len(page) != 1 || page[0].Seq < before || page[0].Seq <= last {
			t.Fatalf("%+v after %d, %v", page, last, err)
		}
		last = page[0].Seq
		if err := s.client.Do(ctx, s.client.B().Del().Key(s.keys.lastDelivery).Build()).Error(); err != nil {
			t.Fatal(err)
		}
		// Until the clock shows more than the last one.
		eventually(t, "the clock goes on", func() bool { return uint64(time.Now().UnixMilli()) > last })
	}
}

// An error of a record that cannot be read names it and does not show it.
func TestCorruptDelivery(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	ctx := context.Background()
	if _, err := s.AddDeliveries(ctx, []store.Delivery{{ID: "a", Target: "t"}}); err != nil {
		t.Fatal(err)
	}
	page, err := s.Deliveries(ctx, "t", 0, 10)
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	seq := fmt.Sprint(page[0].Seq)
	if err := s.client.Do(ctx, s.client.B().Hset().Key(s.keys.deliveries).FieldValue().FieldValue(seq, "hush").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Deliveries":     errOf(s.Deliveries(ctx, "t", 0, 10)),
		"Delivery":       errOf(s.Delivery(ctx, page[0].Seq)),
		"UpdateDelivery": errOf(s.UpdateDelivery(ctx, page[0].Seq, func(*store.Delivery) error { return nil })),
		"DeleteDelivery": s.DeleteDelivery(ctx, page[0].Seq),
	} {
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), seq) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
