package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memoryUse is what a lingpai has in memory, in bytes.
type memoryUse struct {
	rss, pss int64
	own      int64 // neither shared nor of a file
	store    int64 // of the store's file: the kernel may take it back at any time
	peak     int64 // the most that rss has been
}

// withoutStore is what counts: what of the store's file is in memory is the
// kernel's cache of it.
func (m memoryUse) withoutStore() int64 { return m.rss - m.store }

func memoryOfProxy(pid int) memoryUse {
	rollup := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
	return memoryUse{
		rss: kilobytes(rollup, "Rss:"), pss: kilobytes(rollup, "Pss:"), own: kilobytes(rollup, "Anonymous:"),
		store: mappedBytes(pid, ".db"), peak: kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:"),
	}
}

// mappedBytes returns how much of the files whose names end so a process has in
// memory.
func mappedBytes(pid int, suffix string) (sum int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	inside := false
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") { // the head of a mapping
			inside = strings.HasSuffix(fields[len(fields)-1], suffix)
		} else if inside && fields[0] == "Rss:" && len(fields) > 1 {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			sum += n << 10
		}
	}
	return sum
}

// memoryPoint is the memory at one number of authorizers.
type memoryPoint struct {
	curve    bool // one of the points with all that are in the store in use
	used     int  // whose tokens are in use
	stored   int  // in the store
	cacheMiB int
	// connections on which they called. Each takes memory too, and another one to
	// the upstream.
	connections int
	memoryUse
	heap int64 // of Go, in use
}

// burst is what became of the tokens that all came in at once.
type burst struct {
	authorizers int
	took        time.Duration
	first       int // calls for tokens while each authorizer made its first call
	second      int // and while each made its second one
	fromStore   int // second calls whose token was not in memory any more
}

// memoryCallers is how many connections call where memory is measured: few, for
// it is not theirs.
const memoryCallers = 16

// byUsed measures the memory that tokens take.
func (g *growthRun) byUsed(ctx context.Context) error {
	for _, n := range g.sizes.used {
		if err := g.use(ctx, n, memoryCallers); err != nil {
			return err
		}
	}
	if err := g.use(ctx, g.sizes.used[len(g.sizes.used)-1], burstCallers); err != nil {
		return err
	}
	// And many more in the store than memory may hold.
	most := g.sizes.stored[len(g.sizes.stored)-1]
	file, err := g.filled(ctx, most)
	if err != nil {
		return err
	}
	for _, cacheMiB := range []int{g.sizes.smallCache, defaultCacheMiB} {
		s, err := g.start(ctx, g.secured(g.at), file, cacheOf(cacheMiB))
		if err != nil {
			return err
		}
		calls := min(most, 3*tokensIn(cacheMiB))
		err = g.call(ctx, s, calls, most, memoryCallers)
		if err == nil {
			err = g.remember(ctx, s, memoryPoint{used: calls, stored: most, cacheMiB: cacheMiB, connections: memoryCallers})
		}
		s.end()
		if err != nil {
			return err
		}
	}
	return nil
}

// use has n authorizers who have no token call, and in a burst each of them once
// more.
func (g *growthRun) use(ctx context.Context, n, connections int) error {
	file := filepath.Join(g.folder, "no-tokens.db")
	defer os.Remove(file)
	if err := fillBolt(ctx, file, 0, n, noToken); err != nil {
		return err
	}
	cacheMiB := cacheFor(g.sizes.used[len(g.sizes.used)-1])
	s, err := g.start(ctx, g.secured(g.at), file, cacheOf(cacheMiB))
	if err != nil {
		return err
	}
	defer s.end()
	switch {
	case n == 0:
		connections = 0
	case connections == burstCallers:
		g.burst, err = g.callTwice(ctx, s, n)
	default:
		err = g.call(ctx, s, n, n, connections)
	}
	if err != nil {
		return err
	}
	return g.remember(ctx, s, memoryPoint{curve: connections != burstCallers, used: n, stored: n, cacheMiB: cacheMiB, connections: connections})
}

// callTwice has n authorizers call at once, and counts what the second call of
// each takes.
func (g *growthRun) callTwice(ctx context.Context, s *subject, n int) (*burst, error) {
	b := &burst{authorizers: n}
	if _, err := tokenCalls(g.at.Plain); err != nil { // those before are not of it
		return nil, err
	}
	began := time.Now()
	first, _, err := g.callAll(ctx, s, n)
	if err != nil {
		return nil, err
	}
	b.took, b.first = time.Since(began), first
	b.second, b.fromStore, err = g.callAll(ctx, s, n)
	fmt.Fprintf(g.progress, "  burst of %s: %d token calls in %v, then %d; %d tokens read from the store again\n",
		thousands(n), b.first, b.took.Round(time.Millisecond), b.second, b.fromStore)
	return b, err
}

// callAll makes a call for each of n authorizers, and counts the calls for tokens
// and the tokens that were found in the store.
func (g *growthRun) callAll(ctx context.Context, s *subject, n int) (asked, fromStore int, err error) {
	before, err := storeLookups(ctx, s.at.Metrics)
	if err != nil {
		return 0, 0, err
	}
	if err := g.call(ctx, s, n, n, burstCallers); err != nil {
		return 0, 0, err
	}
	after, err := storeLookups(ctx, s.at.Metrics)
	if err != nil {
		return 0, 0, err
	}
	calls, err := tokenCalls(g.at.Plain)
	return calls, int(after - before), err
}

func (g *growthRun) remember(ctx context.Context, s *subject, p memoryPoint) error {
	// Lingpai gives back what a burst has left behind, within 4 s after its end, and
	// once more 18 s later.
	time.Sleep(g.options.settling() * 6)
	p.memoryUse = memoryOfProxy(s.pid())
	heap, err := metricOf(ctx, s.at.Metrics, "go_memstats_heap_inuse_bytes")
	p.heap = int64(heap)
	g.memory = append(g.memory, p)
	fmt.Fprintf(g.progress, "  %s of %s authorizers, cache of %d MiB: RSS %s MiB, %s of it the store's file, heap %s\n",
		thousands(p.used), thousands(p.stored), p.cacheMiB, mebibytes(p.rss), mebibytes(p.store), mebibytes(p.heap))
	return err
}

// storeLookups returns how many tokens were not found in memory, but in the store.
func storeLookups(ctx context.Context, metrics string) (float64, error) {
	return metricOf(ctx, metrics, `lingpai_token_lookups_total{kind="authorizer",source="store"}`)
}

// metricOf reads one series of lingpai's metrics.
func metricOf(ctx context.Context, address, series string) (float64, error) {
	text, err := get(ctx, address, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("lingpai has no metric %s", series)
}

// get asks one of lingpai's own listeners.
func get(ctx context.Context, address, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, response.Status, text)
	}
	return string(text), err
}
