package tokens

import (
	"io"
	"log/slog"
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
			a.Token = store.Token{Value: secret.New("a-token-of-some-length"), RefreshedAt: now, ExpiresAt: now.Add(2 * time.Hour), Generation: 1}
			return nil
		})
		if _, err := s.Token(tb.Context(), of(appID(i))); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

func TestFindAllocatesNothing(t *testing.T) {
	s := inMemory(t, 10)
	id, now := appID(3), time.Now()
	if s.Find(id, now) == nil {
		t.Fatal("not found")
	}
	if n := testing.AllocsPerRun(1000, func() { s.Find(id, now) }); n != 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFind(b *testing.B) {
	s := inMemory(b, 1000)
	ids := make([]string, 1000)
	for i := range ids {
		ids[i] = appID(i)
	}
	now := time.Now()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Find(ids[7], now)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				s.Find(ids[i%len(ids)], now)
			}
		})
	})
}
