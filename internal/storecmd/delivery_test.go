package storecmd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
)

// addDeliveries stores four pending deliveries, for two targets, and a dead letter.
func addDeliveries(t *testing.T, s store.Deliveries) {
	t.Helper()
	var ds []store.Delivery
	for n := range 5 {
		ds = append(ds, store.Delivery{ID: fmt.Sprint(n), Target: fmt.Sprint("t", n%2), Message: secret.New("message-hush")})
	}
	if _, err := s.AddDeliveries(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	d, err := s.FindDelivery(t.Context(), "2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdateDelivery(t.Context(), d.Seq, func(d *store.Delivery) error { d.Dead = true; return nil }); err != nil {
		t.Fatal(err)
	}
}

// checkDeliveries checks that all of them are there, in order, and can be read.
func checkDeliveries(t *testing.T, s store.Deliveries) {
	t.Helper()
	var got []string
	for _, target := range []string{"t0", "t1", ""} {
		page, err := s.Deliveries(t.Context(), target, 0, 100)
		if target == "" {
			page, err = s.DeadDeliveries(t.Context(), 0, 100)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page {
			if d.Message.Reveal() != "message-hush" {
				t.Errorf("%s holds another message", d.ID)
			}
			got = append(got, d.ID)
		}
	}
	if !slices.Equal(got, []string{"0", "4", "1", "3", "2"}) {
		t.Errorf("deliveries %q", got)
	}
}

func TestDeliveriesGoFromBoltToRedis(t *testing.T) {
	srv := redistest.Start(t)
	w := newWorld(t)
	one, two := w.key("one"), w.key("two")
	w.config("a.db", one)
	s := w.open("a.db", one)
	addDeliveries(t, s)
	s.Close()
	w.config("a.db", two, one)
	w.ok("rekey")
	w.config("a.db", two)
	if out := w.ok("export", "-o", w.path("backup.enc")); !strings.Contains(out, "5 deliveries") {
		t.Error(out)
	}
	w.redisConfig(srv, "p:", two)
	if out := w.ok("restore", "-i", w.path("backup.enc")); !strings.Contains(out, "5 deliveries") {
		t.Error(out)
	}
	checkDeliveries(t, w.mustOpenRedis(srv, "p:", two))
	w.fails(exitFailed, []string{"not empty"}, "restore", "-i", w.path("backup.enc"))
}

// After a rekey no other key is needed for deliveries in Redis, dead letters
// included.
func TestRekeyOfDeliveriesInRedis(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "no")
	w := newWorld(t)
	one, two := w.key("one"), w.key("two")
	addDeliveries(t, w.mustOpenRedis(srv, "p:", one))
	w.redisConfig(srv, "p:", two, one)
	if out := w.ok("rekey"); !strings.Contains(out, "5 records") {
		t.Error(out)
	}
	checkDeliveries(t, w.mustOpenRedis(srv, "p:", two))
}
