package main

import (
	"math/bits"
	"time"
)

// subBits sets a histogram's precision: 1/256 of a value, for the differences of
// small ones to mean something.
const subBits = 8

// topBits is the size of the largest value that has a bucket of its own, about a
// minute in nanoseconds. What is longer is counted in the last one.
const topBits = 36

// histogram counts durations in buckets whose width grows with the value, as an
// HDR histogram does. The zero value is empty.
type histogram struct {
	counts [(topBits - subBits + 1) << subBits]uint32
	total  uint64
	max    time.Duration
}

func bucket(d time.Duration) int {
	n := min(uint64(max(d, 0)), 1<<topBits-1)
	if n < 1<<subBits {
		return int(n)
	}
	shift := bits.Len64(n) - subBits - 1
	return shift<<subBits + int(n>>shift)
}

// upper is the largest duration of a bucket.
func upper(bucket int) time.Duration {
	if bucket < 2<<subBits {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	return time.Duration((bucket&(1<<subBits-1)+1<<subBits+1)<<shift - 1)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns the duration that a share q of all do not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(h.total)+0.999999), uint64(0)
	for i, n := range h.counts {
		if seen += uint64(n); n > 0 && seen >= rank {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
