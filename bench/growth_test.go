package main

import (
	"bytes"
	"encoding/xml"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Growth has a run of its own: beside the others its processes would have too
// little of the machine.
func TestGrowth(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("memory is read from /proc")
	}
	o, err := parseOptions([]string{"-quick", "-only=growth", "-warmup=10ms", "-save", "-results=" + t.TempDir()}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	o.growth.duration = 50 * time.Millisecond
	var progress, tables bytes.Buffer
	r, err := measure(t.Context(), o, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if err := r.publish(o, &tables, &progress); err != nil {
		t.Fatal(err)
	}
	if r.failed() > 0 {
		t.Errorf("%d requests failed:\n%s", r.failed(), &progress)
	}
	checkGrowth(t, o.growth, r.growth)
	checkGrowthTables(t, o.growth, r.growth, tables.String())
	pictures, _ := filepath.Glob(filepath.Join(o.results, "*-growth.svg"))
	if len(pictures) != 1 || !strings.Contains(tables.String(), "("+filepath.Base(pictures[0])+")") {
		t.Errorf("kept, and shown in the tables: %v", pictures)
	}
	checkNothingLeft(t)
}

// checkGrowth looks at what was measured.
func checkGrowth(t *testing.T, sizes growthSizes, g *growth) {
	t.Helper()
	for name, curve := range map[string][]costPoint{"authorizers": g.authorizers, "routes": g.routes, "held": g.held, "refreshes": g.refreshes} {
		for _, p := range curve {
			if len(p.closed) != sizes.repeats || len(p.open) != sizes.repeats || p.cpu() <= 0 || p.p99() <= 0 {
				t.Errorf("%s, %s: %+v", name, p.name(), p)
			}
		}
	}
	if len(g.authorizers) != len(sizes.authorizers)+1 || len(g.routes) != len(sizes.routes) || len(g.refreshes) != len(sizes.refreshes) {
		t.Errorf("%d, %d, %d points", len(g.authorizers), len(g.routes), len(g.refreshes))
	}
	for _, p := range g.held {
		if p.stillOpen != p.size || p.memory.rss == 0 {
			t.Errorf("of %d held connections: %+v", p.size, p)
		}
	}
	if last := g.refreshes[len(g.refreshes)-1]; last.refreshed[0] <= 0 {
		t.Errorf("no refreshes: %+v", last)
	}
	if n := g.burst; n == nil || n.first != n.authorizers || n.second != 0 || n.fromStore != 0 {
		t.Errorf("burst: %+v", n)
	}
	if len(g.memory) != len(sizes.used)+3 || g.memory[0].rss == 0 || g.memory[0].heap == 0 || g.memory[1].store == 0 {
		t.Errorf("memory: %+v", g.memory)
	}
	starts := len(sizes.stored)
	if len(g.missing) == 0 {
		starts *= 2
	}
	if len(g.starts) != starts {
		t.Errorf("starts: %+v, missing: %v", g.starts, g.missing)
	}
	for _, p := range g.starts {
		if len(p.took) != sizes.repeats || p.took[0] <= 0 {
			t.Errorf("start: %+v", p)
		}
	}
}

// checkGrowthTables looks at what is said of it.
func checkGrowthTables(t *testing.T, sizes growthSizes, g *growth, text string) {
	t.Helper()
	for _, head := range []string{"## Growth", "### Goals", "### Calls by authorizers", "### Calls by routes", "### Calls by connections",
		"### Calls by tokens refreshed", "### Memory by authorizers", "### Start by records"} {
		if strings.Count(text, "\n"+head) != 1 {
			t.Errorf("%s: not once in\n%s", head, text)
		}
	}
	for _, p := range g.held {
		if !strings.Contains(text, "\n| "+thousands(p.size)+" | ") {
			t.Errorf("no row of %d held connections", p.size)
		}
	}
	if strings.Contains(text, "NaN") {
		t.Error("a figure is none")
	}
	if err := xml.Unmarshal(g.picture(), new(struct{})); err != nil {
		t.Errorf("the picture: %v", err)
	}
	if n := strings.Count(string(g.picture()), "<g "); n != 11 {
		t.Errorf("%d plots", n)
	}
}

// Every authorizer has another app id, and requests are those of workload.
func TestManyRequests(t *testing.T) {
	spec := loadSpec{Address: "127.0.0.1:1", Method: "GET", Apps: 1000, Order: inTurn}
	m := newMany(spec)
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]bool{}
	for i := range spec.Apps {
		want := workload{method: "GET"}.request(spec.Address, growthApp(i), false, false)
		if got := m.pick(random); !bytes.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
		seen[growthApp(i)] = true
	}
	if len(seen) != spec.Apps {
		t.Errorf("%d app ids", len(seen))
	}
	spec.Calls = 3
	m = newMany(spec)
	for range spec.Calls {
		m.pick(random)
	}
	if got := m.pick(random); got != nil {
		t.Errorf("a call too many: %q", got)
	}
}

// Every route is another one, and a configuration of them is not too long.
func TestRoutesOf(t *testing.T) {
	var names []string
	for i := range 10_000 {
		names = append(names, shortName(i))
	}
	slices.Sort(names)
	if n := len(slices.Compact(names)); n != 10_000 {
		t.Errorf("%d names", n)
	}
	if n := len(routesOf(10_000)); n > 255<<10 {
		t.Errorf("%d bytes", n)
	}
	if got := routesOf(0); got != "routes: []" {
		t.Errorf("of none: %s", got)
	}
}

// Goals hold at their bound, and not beyond it.
func TestGrowthGoals(t *testing.T) {
	open := func(p99 time.Duration) []loadResult { return []loadResult{{P99: p99}} }
	g := &growth{
		held: []costPoint{{size: 0, open: open(time.Millisecond)}, {size: 10_000, open: open(time.Millisecond), stillOpen: 10_000}},
		memory: []memoryPoint{
			{curve: true, memoryUse: memoryUse{rss: 16 << 20}},
			{curve: true, used: 100_000, stored: 100_000, memoryUse: memoryUse{rss: 16<<20 + 53_000_000}},
			{used: 5, stored: 1_000_000, cacheMiB: 16, memoryUse: memoryUse{rss: 80 << 20, store: 4 << 20}},
		},
		burst:  &burst{authorizers: 100_000},
		starts: []startPoint{{store: "bolt", records: 100_000, took: []time.Duration{999 * time.Millisecond}}, {store: "bolt", records: 1_000_000, took: []time.Duration{1999 * time.Millisecond}}},
	}
	for _, to := range g.goals() {
		if to.unknown || !to.holds {
			t.Errorf("does not hold: %+v", to)
		}
	}
	g.held[1].stillOpen--
	g.memory[1].rss++
	g.memory[2].rss++
	g.burst.fromStore = 1
	g.starts[0].took[0], g.starts[1].took[0] = time.Second, 2*time.Second
	for i, to := range g.goals() {
		if to.unknown || to.holds != (i == 1) { // idle is as it was
			t.Errorf("holds: %+v", to)
		}
	}
	for _, to := range (&growth{}).goals() {
		if !to.unknown {
			t.Errorf("not measured, but known: %+v", to)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1_000_000: "1,000,000", -1000: "-1,000", -100: "-100"} {
		if got := thousands(n); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestRoundStep(t *testing.T) {
	for n, want := range map[float64]float64{0.9: 1, 1: 1, 1.1: 2, 3: 5, 7: 10, 0.03: 0.05} {
		if got := roundStep(n); math.Abs(got-want) > want/1000 {
			t.Errorf("%v: %v, want %v", n, got, want)
		}
	}
}
