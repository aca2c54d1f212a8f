package memory

import (
	"cmp"
	"slices"
)

// index keeps the keys of a map in order, for reading them in pages. Sorting is
// put off until a page is read, and then only what came since is sorted and
// merged in: of n keys, k of them new, a page costs O(k log k + n) if k > 0 and
// O(log n) otherwise, and adding or removing one is O(1) over time. So neither a
// million creations nor a walk between them sorts everything again and again.
//
// A removed key stays behind, skipped, until a quarter of the keys are such.
type index[K cmp.Ordered] struct {
	// live says whether a key is in the map.
	live   func(K) bool
	sorted []K
	added  []K
	dead   int
}

// add is called with a key that was not live.
func (x *index[K]) add(key K) {
	if len(x.added) == 0 && (len(x.sorted) == 0 || key > x.sorted[len(x.sorted)-1]) {
		x.sorted = append(x.sorted, key)
		return
	}
	x.added = append(x.added, key)
}

// removed is called when a key has ceased to be live.
func (x *index[K]) removed() {
	x.dead++
	if x.dead > 16+(len(x.sorted)+len(x.added))/4 {
		x.merge()
	}
}

// page returns up to limit live keys greater than after, in order.
func (x *index[K]) page(after K, limit int) []K {
	if len(x.added) > 0 {
		x.merge()
	}
	start, found := slices.BinarySearch(x.sorted, after)
	if found {
		start++
	}
	var keys []K
	for _, key := range x.sorted[start:] {
		if len(keys) >= limit {
			break
		}
		if x.live(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// merge leaves every live key once. A key that was removed and added again is
// there twice before.
func (x *index[K]) merge() {
	slices.Sort(x.added)
	merged := make([]K, 0, len(x.sorted)+len(x.added))
	i, j := 0, 0
	for i < len(x.sorted) || j < len(x.added) {
		var key K
		if j == len(x.added) || i < len(x.sorted) && x.sorted[i] <= x.added[j] {
			key = x.sorted[i]
			i++
		} else {
			key = x.added[j]
			j++
		}
		if x.live(key) && (len(merged) == 0 || merged[len(merged)-1] != key) {
			merged = append(merged, key)
		}
	}
	x.sorted, x.added, x.dead = merged, nil, 0
}
