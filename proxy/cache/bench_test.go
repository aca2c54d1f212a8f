package cache

import (
	"strconv"
	"testing"
	"time"
)

var (
	keyText  string
	bypass   bool
	body     []byte
	found    *Answer
	lifetime time.Duration
)

const ticketPath = "/cgi-bin/ticket/getticket"

var ticketBody = []byte(`{"errcode":0,"errmsg":"ok","ticket":"bxLdikRXVbTPdHSM05e5u5sUoXNKd8-41ZO3MhKoyN5OfkWITDGgnr2fwJ0m9E8NYzWKVZvdVtaUgWvsdshFKA","expires_in":7200}`)

// answers are a Cache with n kept tickets and their keys.
func answers(t testing.TB, n int, now time.Time) (*Cache, []string) {
	c, err := New(16 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = Key("authorizer/wx"+strconv.Itoa(i), ticketPath, "type=jsapi")
		c.Put(&Answer{Key: keys[i], Body: ticketBody, StoredAt: now, ExpiresAt: now.Add(time.Hour)})
		if c.Get(keys[i], now, time.Time{}) == nil {
			t.Fatal("not kept")
		}
	}
	return c, keys
}

func operations(t testing.TB) []operation {
	now := time.Now()
	c, keys := answers(t, 1000, now)
	a := c.Get(keys[0], now, time.Time{})
	next := 0
	get := func(key string) {
		if found = c.Get(key, now, time.Time{}); found == nil {
			t.Fatal("not kept")
		}
	}
	return []operation{
		{name: "Key", allocs: 2, do: func() { keyText = Key("authorizer/wxaaaaaaaaaaaaaaaa", ticketPath, "type=jsapi") }},
		{name: "Get/one", do: func() { get(keys[7]) }},
		{name: "Get/1000", do: func() { get(keys[next]); next = (next + 1) % len(keys) }},
		{name: "Get/miss", do: func() { found = c.Get("authorizer/wxnone", now, time.Time{}) }},
		{name: "BodyAt", allocs: 2, bytes: len(ticketBody), do: func() { body = a.BodyAt(now.Add(time.Minute)) }},
		{name: "Status", allocs: 2, do: func() { keyText = a.Status(now) }},
		{name: "Bypass/none", do: func() { bypass = Bypass("") }},
		{name: "Bypass/no-cache", do: func() { bypass = Bypass("max-age=0, no-cache") }},
		{name: "Lifetime", allocs: 6, bytes: len(ticketBody), do: func() { lifetime = Lifetime(ticketPath, 200, ticketBody) }},
	}
}

func BenchmarkCache(b *testing.B) { bench(b, operations) }

func BenchmarkGetAtOnce(b *testing.B) {
	now := time.Now()
	c, keys := answers(b, 1, now)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Get(keys[0], now, time.Time{})
		}
	})
}
