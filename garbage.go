package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// garbage is how much of it, in per cent of what is alive, may lie about before it
// is collected. A call with a known token makes none; 1000 refreshes a second
// with 92,000 tokens in memory take a twentieth of a processor for it. Go's own
// 100 would nearly double the memory of tokens.
const garbage = 30

// collectGarbage sets that, unless the environment does.
func collectGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}

const (
	// lookEvery is how often giveBackWhenQuiet looks.
	lookEvery = 2 * time.Second
	// afterwards is how many looks later memory is given back once more: by then
	// idle connections have been closed, and a start has read the list of
	// authorizers.
	afterwards = 9
)

// Of what has been allocated, in bytes.
const (
	muchGarbage = 4 << 20 // at least, to be worth a collection
	busy        = 1 << 20 // since the last look: there is more to come
)

// giveBackWhenQuiet gives memory back to the system that nothing needs any more:
// what the start took, and what a burst of refreshes leaves behind, which would
// lie about until the next burst. It collects seldom: after a sixteenth of what is
// alive, so that a million tokens cost no more than a few, and once more.
func giveBackWhenQuiet(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var given, last int64               // what had been allocated then
	for look, again := 1, 1; ; look++ { // the start is worth it in any case
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		allocated, live := heapFigures()
		worth := worthGivingBack(allocated-given, allocated-last, live)
		if worth || look == again {
			giveBack()
			if worth || look == 1 {
				again = look + afterwards
			}
			allocated, _ = heapFigures()
			given = allocated
		}
		last = allocated
	}
}

// worthGivingBack decides by what has been allocated since memory was given back
// and since the last look, and by what is alive, in bytes.
func worthGivingBack(since, lately, live int64) bool {
	return lately < busy && since >= max(muchGarbage, live/16)
}

// heapFigures returns how many bytes have ever been allocated, and how many were
// alive at the last collection.
func heapFigures() (allocated, live int64) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64())
}
