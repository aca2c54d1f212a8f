package metrics

import (
	"testing"
	"time"
)

func TestForwarding(t *testing.T) {
	m := New("test", "", "")
	f := func(name string, want float64, there bool, labels ...string) {
		t.Helper()
		match := map[string]string{}
		for i := 0; i < len(labels); i += 2 {
			match[labels[i]] = labels[i+1]
		}
		if got, ok := m.Gather(name, match); got != want || ok != there {
			t.Errorf("%s %q: got %v, %t, want %v, %t", name, labels, got, ok, want, there)
		}
	}
	m.PushTargets("crm")
	f("lingpai_push_deliveries_total", 0, true, "target", "crm", "result", "dropped")
	f("lingpai_push_delivery_duration_seconds", 0, true)
	f("lingpai_push_deliveries_pending", 0, false)
	f("lingpai_push_dead_letters", 0, false)

	m.PushDelivery("crm", "delivered")
	m.PushDelivery("crm", "delivered")
	m.PushDelivery("crm", "retried")
	m.PushDeliveryTook(time.Second)
	m.PushDeliveriesPending("crm", 7, time.Unix(1_700_000_000, 0))
	m.PushDeadLetters(3)
	f("lingpai_push_deliveries_total", 2, true, "target", "crm", "result", "delivered")
	f("lingpai_push_deliveries_total", 1, true, "target", "crm", "result", "retried")
	f("lingpai_push_delivery_duration_seconds", 1, true)
	f("lingpai_push_deliveries_pending", 7, true, "target", "crm")
	f("lingpai_push_deliveries_oldest_timestamp_seconds", 1_700_000_000, true, "target", "crm")
	f("lingpai_push_dead_letters", 3, true)
	m.PushDeliveriesPending("crm", 0, time.Time{})
	f("lingpai_push_deliveries_oldest_timestamp_seconds", 0, true, "target", "crm")

	m.PushDeliveriesUnknown()
	f("lingpai_push_deliveries_pending", 0, false)
	f("lingpai_push_deliveries_oldest_timestamp_seconds", 0, false)
	f("lingpai_push_dead_letters", 0, false)
	f("lingpai_push_deliveries_total", 2, true, "target", "crm", "result", "delivered")
}
