package store_test

import (
	"sync"
	"testing"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
	"lingpai/tokens/store/storetest"
)

func TestObservedStoreKeepsDeliveries(t *testing.T) {
	seen := map[string]int{}
	var mu sync.Mutex
	storetest.RunDeliveries(t, func(*testing.T) (store.Store, func() store.Store) {
		return store.Observe(memory.New(), func(op string, _ time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				op += " failed"
			}
			seen[op]++
		}), nil
	})
	for _, op := range []string{"add_deliveries", "delivery", "find_delivery", "deliveries", "dead_deliveries",
		"update_delivery", "delete_delivery", "count_deliveries"} {
		if seen[op] == 0 || seen[op+" failed"] == 0 {
			t.Errorf("%s was not observed, or not its failure", op)
		}
	}
}

// justStore and justShared hide what a store can beside.
type (
	justStore  struct{ store.Store }
	justShared struct{ store.Shared }
	queued     = store.Deliveries
)

// What a store can is what it can when it is observed.
func TestObserveKeepsEveryInterface(t *testing.T) {
	s, shared := memory.New(), memory.NewGroup(memory.Options{}).Open()
	for name, of := range map[string]store.Store{
		"store": justStore{s},
		"lister": struct {
			store.Store
			store.Lister
		}{s, s},
		"shared": justShared{shared},
		"shared lister": struct {
			store.Shared
			store.Lister
		}{shared, shared},
		"deliveries": struct {
			store.Store
			queued
		}{s, s},
		"lister, deliveries": s,
		"shared, deliveries": struct {
			store.Shared
			queued
		}{shared, shared},
		"shared lister and queue": shared,
	} {
		got := store.Observe(of, func(string, time.Duration, error) {})
		_, lister := of.(store.Lister)
		_, isShared := of.(store.Shared)
		_, deliveries := of.(store.Deliveries)
		_, gotLister := got.(store.Lister)
		_, gotShared := got.(store.Shared)
		_, gotDeliveries := got.(store.Deliveries)
		if gotLister != lister || gotShared != isShared || gotDeliveries != deliveries {
			t.Errorf("%s: lister %t, shared %t, deliveries %t", name, gotLister, gotShared, gotDeliveries)
		}
	}
}
