package metrics

import "testing"

// operation is something that is measured.
type operation struct {
	name   string
	allocs float64 // that it makes, no more and no fewer
	bytes  int     // that it works on, 0 if their number says nothing
	do     func()
}

// bench measures operations, each as a sub-benchmark.
func bench(b *testing.B, operations func(testing.TB) []operation) {
	for _, o := range operations(b) {
		b.Run(o.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(o.bytes))
			for b.Loop() {
				o.do()
			}
		})
	}
}

// checkAllocs fails for each operation that allocates more or less often than
// is written at it.
func checkAllocs(t *testing.T, operations func(testing.TB) []operation) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, o := range operations(t) {
		got := testing.AllocsPerRun(500, o.do)
		for try := 0; got > o.allocs && try < 3; try++ { // what else runs in the process counts too
			got = min(got, testing.AllocsPerRun(500, o.do))
		}
		switch {
		case got > o.allocs:
			t.Errorf("%s: %v allocations, %v are allowed: find the new one with -bench and -memprofile, or say why it has to be", o.name, got, o.allocs)
		case got < o.allocs:
			t.Errorf("%s: %v allocations, %v are allowed: it got better, so write the lower figure", o.name, got, o.allocs)
		}
	}
}

func TestAllocObserve(t *testing.T) { checkAllocs(t, operations) }
