package tokens

import (
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	storemem "lingpai/tokens/store/memory"
)

// inMemory is a Service with n authorizers whose tokens are in memory.
func inMemory(tb testing.TB, n int) *Service {
	tb.Helper()
	st := storemem.New()
	s, err := NewService(Config{RefreshAhead: 10 * time.Minute, WaitTimeout: time.Second}, st, 64<<20,
		metrics.New("", "", ""), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.memory.close)
	now := time.Now()
	for i := range n {
		st.UpdateAuthorizer(tb.Context(), appID(i), func(a *store.Authorizer) error {
			a.State = store.StateActive
			a.Token = store.Token{Value: secret.New(strings.Repeat("t", 157)), RefreshedAt: now, ExpiresAt: now.Add(2 * time.Hour), Generation: 1}
			return nil
		})
		if _, err := s.Token(tb.Context(), of(appID(i))); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

var (
	foundToken *Token
	queryText  []byte
)

// finds are look-ups of tokens that memory has: always the same one, and each of
// 10,000 in turn, and of one it does not have.
func finds(t testing.TB) []operation {
	const n = 10_000
	s, now := inMemory(t, n), time.Now()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = appID(i)
	}
	find := func(appID string) {
		if foundToken = s.Find(appID, now); foundToken == nil {
			t.Fatal("not found")
		}
	}
	giveComponent(s, now)
	next, stranger := 0, appID(n)
	return []operation{
		{name: "one", do: func() { find(ids[7]) }},
		{name: "10000", do: func() { find(ids[next]); next = (next + 1) % n }},
		{name: "miss", do: func() { foundToken = s.Find(stranger, now) }},
		{name: "component", do: func() {
			if foundToken = s.FindComponent(now); foundToken == nil {
				t.Fatal("not found")
			}
		}},
		{name: "query", do: func() { queryText = foundToken.AppendQuery(queryText[:0]) }},
	}
}

// giveComponent puts a component_access_token into memory.
func giveComponent(s *Service, now time.Time) {
	key := Key{Component, platform}
	stored := store.Token{Value: secret.New(strings.Repeat("c", 157)), RefreshedAt: now, ExpiresAt: now.Add(2 * time.Hour), Generation: 1}
	s.memory.put(key, newToken(key, stored, now.Add(110*time.Minute)))
}

func BenchmarkFind(b *testing.B) { bench(b, finds) }

// BenchmarkFindAtOnce is Find from all cores: of the same token, and of 10,000.
func BenchmarkFindAtOnce(b *testing.B) {
	const n = 10_000
	s, now := inMemory(b, n), time.Now()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = appID(i)
	}
	giveComponent(s, now)
	atOnce := func(name string, find func(i int) *Token) {
		b.Run(name, func(b *testing.B) {
			var began atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				i := int(began.Add(1)) * 997 // each begins elsewhere
				for ; pb.Next(); i++ {
					if find(i) == nil {
						b.Error("not found")
						return
					}
				}
			})
		})
	}
	atOnce("one", func(int) *Token { return s.Find(ids[7], now) })
	atOnce("10000", func(i int) *Token { return s.Find(ids[i%n], now) })
	atOnce("component", func(int) *Token { return s.FindComponent(now) })
}
