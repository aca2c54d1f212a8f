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

const manyRecords = 100_000

// A platform of 100,000 authorizers, on a server that is set up as it should be.
func BenchmarkMany(b *testing.B) {
	srv := redistest.Start(b, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(b, srv.URL(), "")
	perRecord := func(b *testing.B, n int) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
	}
	b.Run("write 64 at once", func(b *testing.B) {
		for b.Loop() {
			each(b, 64, manyRecords, func(n int) error {
				_, err := s.UpdateAuthorizer(b.Context(), benchID(n), fill)
				return err
			})
		}
		perRecord(b, manyRecords)
		b.ReportMetric(float64(usedMemory(b, srv))/manyRecords, "server-B/record")
	})
	if counts, err := s.CountAuthorizers(b.Context()); err != nil || counts.Active != manyRecords {
		b.Fatalf("%d authorizers, %v", counts.Active, err)
	}
	b.Run("page through by 1000", func(b *testing.B) {
		for b.Loop() {
			n := 0
			for after := ""; ; {
				page, err := s.Authorizers(b.Context(), after, 1000)
				if err != nil {
					b.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				n += len(page)
				after = page[len(page)-1].AppID
			}
			if n != manyRecords {
				b.Fatalf("%d of %d authorizers", n, manyRecords)
			}
		}
		perRecord(b, manyRecords)
	})
	b.Run("read at random", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Authorizer(b.Context(), benchID(rand.IntN(manyRecords))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read at random 64 at once", func(b *testing.B) {
		for b.Loop() {
			each(b, 64, 6400, func(int) error {
				_, err := s.Authorizer(b.Context(), benchID(rand.IntN(manyRecords)))
				return err
			})
		}
		perRecord(b, 6400)
	})
	b.Run("update at random", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.UpdateAuthorizer(b.Context(), benchID(rand.IntN(manyRecords)), fill); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// usedMemory is that of a server, in bytes.
func usedMemory(b *testing.B, srv *redistest.Server) (n int) {
	_, text, _ := strings.Cut(srv.Must("INFO memory"), "used_memory:")
	if _, err := fmt.Sscan(text, &n); err != nil {
		b.Fatal(err)
	}
	return n
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
