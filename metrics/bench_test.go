package metrics

import (
	"testing"
	"time"
)

var methodPOST = []byte("POST")

// observeCall is all that a call with a known token counts.
func observeCall(m *Metrics) {
	m.InFlight(1)
	m.Lookup(Authorizer, FromMemory)
	m.Upstream(3 * time.Millisecond)
	m.Errcode(0)
	m.Request(TokenAuthorizer, methodPOST, 200, 3*time.Millisecond)
	m.InFlight(-1)
}

func operations(testing.TB) []operation {
	m := New("", "", "")
	return []operation{
		{name: "Call", do: func() { observeCall(m) }},
		{name: "Request", do: func() { m.Request(TokenAuthorizer, methodPOST, 200, 3*time.Millisecond) }},
		{name: "Upstream", do: func() { m.Upstream(3 * time.Millisecond) }},
		{name: "Lookup", do: func() { m.Lookup(Authorizer, FromMemory) }},
		{name: "InFlight", do: func() { m.InFlight(1) }},
		{name: "Errcode/none", do: func() { m.Errcode(0) }},
		{name: "Errcode/known", do: func() { m.Errcode(40001) }},
		{name: "Errcode/other", do: func() { m.Errcode(123456789) }},
		{name: "Replay", do: func() { m.Replay("ok") }},
		{name: "ResponseCache", do: func() { m.ResponseCache(CacheHit) }},
		{name: "Push", do: func() { m.Push("message", "ok") }},
		{name: "StoreOperation", do: func() { m.StoreOperation("authorizer", time.Millisecond, nil) }},
	}
}

func BenchmarkObserve(b *testing.B) { bench(b, operations) }

func BenchmarkObserveAtOnce(b *testing.B) {
	m := New("", "", "")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			observeCall(m)
		}
	})
}
