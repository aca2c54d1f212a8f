package redis

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
)

func fill(a *store.Authorizer) error {
	a.State = store.StateActive
	a.RefreshToken = secret.New("refreshtoken@@@" + strings.Repeat("r", 43))
	a.Token = store.Token{Value: secret.New(strings.Repeat("a", 157)), ExpiresAt: time.Now(), RefreshedAt: time.Now(), Generation: a.Token.Generation + 1}
	a.AuthorizedAt = time.Now()
	a.Scopes = []int{1, 15, 4, 7, 2, 3, 11, 6, 5, 8}
	return nil
}

func benchID(n int) string { return fmt.Sprintf("wx%016x", uint64(n)*0x9e3779b97f4a7c15) }

const benchRecords = 2000

func filled(b *testing.B) *Store {
	srv, prefix := commonServer(b)
	s := openStore(b, srv.URL(), prefix)
	each(b, 64, benchRecords, func(n int) error {
		_, err := s.UpdateAuthorizer(b.Context(), benchID(n), fill)
		return err
	})
	return s
}

// each calls fn(0) to fn(n-1), workers at a time.
func each(b *testing.B, workers, n int, fn func(n int) error) {
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkAuthorizer(b *testing.B) {
	s := filled(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authorizer(b.Context(), benchID(rand.IntN(benchRecords))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthorizer64AtOnce(b *testing.B) {
	s := filled(b)
	for b.Loop() {
		each(b, 64, 64, func(int) error {
			_, err := s.Authorizer(b.Context(), benchID(rand.IntN(benchRecords)))
			return err
		})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/read")
}

func BenchmarkUpdate(b *testing.B) {
	s := filled(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.UpdateAuthorizer(b.Context(), benchID(rand.IntN(benchRecords)), fill); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate64AtOnce(b *testing.B) {
	s := filled(b)
	for b.Loop() {
		each(b, 64, 64, func(int) error {
			_, err := s.UpdateAuthorizer(b.Context(), benchID(rand.IntN(benchRecords)), fill)
			return err
		})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/update")
}

// With fsync: the figure of a server that is set up as it should be.
func BenchmarkUpdateFsync(b *testing.B) {
	srv := redistest.Start(b, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(b, srv.URL(), "")
	for b.Loop() {
		if _, err := s.UpdateAuthorizer(b.Context(), benchID(rand.IntN(benchRecords)), fill); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeaseAndRelease(b *testing.B) {
	srv, prefix := commonServer(b)
	s := openStore(b, srv.URL(), prefix)
	for b.Loop() {
		release, err := s.Lease(b.Context(), "component", time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		if err := release.Release(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPageOf100(b *testing.B) {
	s := filled(b)
	b.ReportAllocs()
	after := ""
	for b.Loop() {
		page, err := s.Authorizers(b.Context(), after, 100)
		if err != nil {
			b.Fatal(err)
		}
		if after = ""; len(page) == 100 {
			after = page[99].AppID
		}
	}
}
