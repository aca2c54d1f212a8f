package bolt

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"lingpai/tokens/store"
)

var accessToken = strings.Repeat("a", 157)

func appID(n int) string { return fmt.Sprintf("wx%016x", uint64(n)*0x9e3779b97f4a7c15) }

// filled is a store of n authorizers, made in few transactions. They come in
// order: thousands at random in one transaction would leave a list of free
// pages such as no platform has, and the benchmarks would measure that.
func filled(b *testing.B, n int) (*Store, string) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "lingpai.db")
	s := openAt(b, path)
	b.Cleanup(func() { s.Close() })
	ids := make([]string, n)
	for i := range ids {
		ids[i] = appID(i)
	}
	slices.Sort(ids)
	for from := 0; from < n; from += 10_000 {
		err := s.db.Update(func(tx *bbolt.Tx) error {
			for _, id := range ids[from:min(n, from+10_000)] {
				a := store.Authorizer{AppID: id}
				fill(a.AppID, accessToken)(&a)
				data, err := store.EncodeAuthorizer(a)
				if err != nil {
					return err
				}
				if err := tx.Bucket(authorizersBucket).Put([]byte(a.AppID), data); err != nil {
					return err
				}
			}
			return putCounts(tx, store.Counts{Active: n})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return s, path
}

func BenchmarkAuthorizer(b *testing.B) {
	const n = 100_000
	s, _ := filled(b, n)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authorizer(b.Context(), appID(rand.IntN(n))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate(b *testing.B) {
	const n = 100_000
	s, _ := filled(b, n)
	for b.Loop() {
		id := appID(rand.IntN(n))
		if _, err := s.UpdateAuthorizer(b.Context(), id, fill(id, accessToken)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdate64AtOnce(b *testing.B) {
	const n, workers = 100_000, 64
	s, _ := filled(b, n)
	for b.Loop() {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				id := appID(rand.IntN(n))
				if _, err := s.UpdateAuthorizer(b.Context(), id, fill(id, accessToken)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*workers), "ns/update")
}

// The page cache is warm here; on a cold disk a few pages are read first, but
// never all.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, path := filled(b, n)
			s.Close()
			for b.Loop() {
				s := openAt(b, path)
				if _, err := s.Authorizer(b.Context(), appID(0)); err != nil && n > 0 {
					b.Fatal(err)
				}
				s.Close()
			}
		})
	}
}

func BenchmarkPageOf100(b *testing.B) {
	s, _ := filled(b, 100_000)
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
