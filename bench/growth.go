package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// growthSizes are the points at which growth measures.
type growthSizes struct {
	authorizers []int // with tokens in memory
	routes      []int // of the configuration
	held        []int // connections beside those that call
	refreshes   []int // a second
	used        []int // authorizers of whom all have called
	stored      []int // authorizers in the store at a start
	smallCache  int   // MiB, for the most authorizers of all
	lifetime    time.Duration
	repeats     int
	duration    time.Duration
}

func growthSizesOf(quick bool) growthSizes {
	if quick {
		return growthSizes{
			authorizers: []int{1, 1000}, routes: []int{0, 100}, held: []int{0, 200}, refreshes: []int{0, 20},
			used: []int{0, 1000}, stored: []int{0, 1000}, smallCache: 1, lifetime: 2 * time.Second, repeats: 1, duration: 150 * time.Millisecond,
		}
	}
	return growthSizes{
		authorizers: []int{1, 1000, 100_000, 1_000_000}, routes: []int{0, 100, 10_000}, held: []int{0, 100, 1000, 10_000},
		refreshes: []int{0, 10, 100, 1000}, used: []int{0, 1000, 10_000, 100_000}, stored: []int{0, 1000, 100_000, 1_000_000},
		smallCache: 16, lifetime: 6 * time.Second, repeats: 3, duration: 2 * time.Second,
	}
}

// partsOfRun are what -only takes.
var partsOfRun = []string{"proxies", "stampede", "growth"}

// measures reports whether a part of a run is asked for.
func (o options) measures(part string) bool { return o.only == "" || o.only == part }

const (
	growthConnections = 64   // that call, in closed and open loops
	growthRate        = 4000 // calls a second of the open loops
	burstCallers      = 256
	defaultCacheMiB   = 64 // as config.yaml has it
)

// growth is what growing costs.
type growth struct {
	authorizers []costPoint
	routes      []costPoint
	held        []costPoint
	refreshes   []costPoint
	memory      []memoryPoint
	burst       *burst
	starts      []startPoint
	missing     []string // a sentence for each
	took        time.Duration
}

// costPoint is what calls cost at one point of a curve.
type costPoint struct {
	size   int
	series string // where a curve has several
	note   string
	closed []loadResult // by repeat
	open   []loadResult
	memory memoryUse // at the end

	stillOpen int       // of held connections, at the end
	refreshed []float64 // how many a second there were, by repeat
}

func (g *growth) failed() (n int64) {
	if g == nil {
		return 0
	}
	for _, p := range g.costPoints() {
		n += p.failed()
	}
	return n
}

// costPoints are those of all curves.
func (g *growth) costPoints() []costPoint {
	return slices.Concat(g.authorizers, g.routes, g.held, g.refreshes)
}

func (p costPoint) failed() (n int64) {
	for _, one := range slices.Concat(p.closed, p.open) {
		n += one.Failed
	}
	return n
}

// growthRun is growth under way.
type growthRun struct {
	*runner
	*growth
	sizes  growthSizes
	folder string
	at     stubReady // of a stub that lists no authorizers
	stores []filledStore
	count  int // of folders of proxies
}

// grow measures all curves.
func (r *runner) grow(ctx context.Context) error {
	began := time.Now()
	g := &growthRun{runner: r, growth: &growth{}, sizes: r.options.growth, folder: filepath.Join(r.dir, "growth")}
	r.results.growth = g.growth
	if err := os.MkdirAll(g.folder, 0o700); err != nil {
		return err
	}
	stub, err := part(ctx, "part-stub", r.others, stubSpec{Cert: r.certs.cert, Key: r.certs.key}, &g.at)
	if err != nil {
		return err
	}
	defer stub.stop()
	for _, curve := range []struct {
		name    string
		measure func(context.Context) error
	}{
		{"start by records in bolt", g.boltStarts},
		{"start by records in Redis", g.redisStarts},
		{"calls by authorizers", g.byAuthorizers},
		{"calls by routes", g.byRoutes},
		{"calls by connections", g.byHeld},
		{"calls by refreshes", g.byRefreshes},
		{"memory by authorizers", g.byUsed},
	} {
		fmt.Fprintf(r.progress, "growth, after %v: %s\n", time.Since(began).Round(time.Second), curve.name)
		if err := curve.measure(ctx); err != nil {
			return fmt.Errorf("growth, %s: %w", curve.name, err)
		}
	}
	g.took = time.Since(began)
	return nil
}

// secured is the stub by HTTPS, as WeChat is.
func (g *growthRun) secured(at stubReady) upstream {
	return upstream{address: at.TLS, tls: true, root: g.certs.root}
}

// subject is a lingpai that is measured.
type subject struct {
	*child
	dir   string
	at    lingpaiAddresses
	apps  int
	order string
	point costPoint
	holds *child // its held connections, if there are any
}

func (s *subject) pid() int { return s.cmd.Process.Pid }

func (s *subject) end() {
	if s.holds != nil {
		s.holds.stop()
	}
	s.stop()
	os.RemoveAll(s.dir) // its copy of a store may be large
}

// endAll ends those that were started.
func endAll(subjects []*subject) {
	for _, s := range subjects {
		s.end()
	}
}

// start runs a lingpai with a copy of a store's file, "" for none.
func (g *growthRun) start(ctx context.Context, u upstream, file string, config ...string) (*subject, error) {
	g.count++
	dir := filepath.Join(g.folder, fmt.Sprint(g.count))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if file != "" {
		if err := copyFile(file, filepath.Join(dir, "lingpai.db")); err != nil {
			return nil, err
		}
	}
	at, process, err := runLingpai(ctx, &g.site, u, dir, strings.Join(config, "\n")+"\n")
	if err != nil {
		return nil, err
	}
	s := &subject{child: process, dir: dir, at: at, order: atRandom}
	if err := giveTicket(ctx, at); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// call makes calls, one for each number below it of app ids in turn, and none of
// them may fail.
func (g *growthRun) call(ctx context.Context, s *subject, calls, apps, connections int) error {
	if calls == 0 {
		return nil
	}
	result, err := g.load(ctx, loadSpec{
		Address: s.at.Proxy, Method: "GET", Apps: apps, Connections: min(connections, calls), Calls: calls, Order: inTurn,
		Duration: 5 * time.Minute, // at most
	})
	if err == nil && result.Failed > 0 {
		err = fmt.Errorf("%d of %d calls failed: %s", result.Failed, calls, result.Fault)
	}
	return err
}

// cost makes one measurement: a closed loop, of which the CPU counts, and an open
// one, of which the latency does.
func (g *growthRun) cost(ctx context.Context, s *subject) error {
	spec := loadSpec{
		Address: s.at.Proxy, Method: "GET", Apps: s.apps, Connections: growthConnections, Order: s.order, Seed: rand.Uint64(),
		Warmup: g.options.warmup, Duration: g.sizes.duration, Watch: s.pid(),
	}
	closed, err := g.load(ctx, spec)
	if err != nil {
		return err
	}
	spec.Rate, spec.Seed = growthRate, rand.Uint64()
	open, err := g.load(ctx, spec)
	if err != nil {
		return err
	}
	s.point.closed, s.point.open = append(s.point.closed, closed), append(s.point.open, open)
	fmt.Fprintf(g.progress, "  %s: %.1f µs CPU each at %.0f/s; at %d/s p50 %s ms, p99 %s ms; %d failed %s\n", s.point.name(),
		closed.cpuEach(), closed.rate(), growthRate, milliseconds(open.P50), milliseconds(open.P99), closed.Failed+open.Failed, closed.Fault+open.Fault)
	return nil
}

// costs measures subjects in turn, in another order each time.
func (g *growthRun) costs(ctx context.Context, subjects []*subject) ([]costPoint, error) {
	for range g.sizes.repeats {
		for _, i := range rand.Perm(len(subjects)) {
			if err := g.cost(ctx, subjects[i]); err != nil {
				return nil, err
			}
		}
	}
	var points []costPoint
	for _, s := range subjects {
		s.point.memory = memoryOfProxy(s.pid())
		points = append(points, s.point)
	}
	return points, nil
}

func (p costPoint) name() string {
	if p.series == "" {
		return thousands(p.size)
	}
	return thousands(p.size) + ", " + p.series
}

// byAuthorizers measures calls for more and more authorizers at random.
func (g *growthRun) byAuthorizers(ctx context.Context) (err error) {
	var subjects []*subject
	defer func() { endAll(subjects) }()
	add := func(n, cacheMiB, warm int, series string) error {
		file, err := g.filled(ctx, n)
		if err != nil {
			return err
		}
		s, err := g.start(ctx, g.secured(g.at), file, cacheOf(cacheMiB))
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
		s.apps, s.point = n, costPoint{size: n, series: series, note: fmt.Sprintf("%d MiB", cacheMiB)}
		return g.call(ctx, s, warm, n, growthConnections)
	}
	for _, n := range g.sizes.authorizers {
		if err := add(n, cacheFor(n), n, seriesAll); err != nil {
			return err
		}
	}
	// The same with a cache that does not hold them all.
	most := g.sizes.authorizers[len(g.sizes.authorizers)-1]
	small := min(defaultCacheMiB, cacheFor(most))
	if err := add(most, small, min(most, 3*tokensIn(small)/2), seriesDefault); err != nil {
		return err
	}
	g.authorizers, err = g.costs(ctx, subjects)
	return err
}

// The series of the curve by authorizers.
const (
	seriesAll     = "cache holds all"
	seriesDefault = "cache of the default size"
)

// tokenCost is what lingpai counts for a token of this size in cache.max_bytes,
// of which tokens may take seven eighths.
const tokenCost = 344 + (tokenBytes+18+15)/16*16

// tokensIn returns how many tokens fit into so many MiB.
func tokensIn(mib int) int { return mib << 20 / 8 * 7 / tokenCost }

// cacheFor returns the MiB that hold the tokens of n authorizers, at least the
// default.
func cacheFor(n int) int {
	mib := defaultCacheMiB
	for tokensIn(mib) < n+n/20 {
		mib += 16
	}
	return mib
}

func cacheOf(mib int) string { return fmt.Sprintf("cache: {max_bytes: %dMiB}", mib) }

// fewApps is how many authorizers there are where it is not their number that
// matters.
const fewApps = 1000

// byRoutes measures calls with more and more routes configured.
func (g *growthRun) byRoutes(ctx context.Context) (err error) {
	var subjects []*subject
	defer func() { endAll(subjects) }()
	file, err := g.filled(ctx, fewApps)
	if err != nil {
		return err
	}
	for _, n := range g.sizes.routes {
		s, err := g.start(ctx, g.secured(g.at), file, routesOf(n))
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
		s.apps, s.point = fewApps, costPoint{size: n}
		if err := g.call(ctx, s, fewApps, fewApps, growthConnections); err != nil {
			return err
		}
	}
	g.routes, err = g.costs(ctx, subjects)
	return err
}

// routesOf is a configuration of n routes that no call takes. It is short, for
// lingpai takes no file of more than 256 KiB.
func routesOf(n int) string {
	var b strings.Builder
	b.WriteString("routes: [")
	for i := range n {
		switch {
		case i == 0:
		case i%100 == 0:
			b.WriteString(",\n ")
		default:
			b.WriteString(",")
		}
		b.WriteString("{path: /" + shortName(i) + ",token: none}")
	}
	return b.String() + "]"
}

// shortName returns a name of a letter and at most two digits of base 62.
func shortName(n int) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	name := string(digits[10+n%52])
	for n /= 52; n > 0; n /= 62 {
		name += string(digits[n%62])
	}
	return name
}

// byHeld measures calls beside more and more connections that are open.
func (g *growthRun) byHeld(ctx context.Context) (err error) {
	var subjects []*subject
	defer func() { endAll(subjects) }()
	file, err := g.filled(ctx, fewApps)
	if err != nil {
		return err
	}
	for _, n := range g.sizes.held {
		if most := openFilesLimit() - 1000; n > most {
			g.missing = append(g.missing, fmt.Sprintf("%s held connections: a process may have no more than %s files open here (ulimit -Hn)",
				thousands(n), thousands(openFilesLimit())))
			continue
		}
		// Held for as long as the measuring takes: by default an idle connection
		// is closed after a minute.
		s, err := g.start(ctx, g.secured(g.at), file, "limits: {idle_timeout: 15m}")
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
		s.apps, s.point = fewApps, costPoint{size: n}
		if err := g.call(ctx, s, fewApps, fewApps, growthConnections); err != nil {
			return err
		}
		if s.holds, err = g.hold(ctx, s.at.Proxy, n, fewApps); err != nil {
			return err
		}
	}
	g.growth.held, err = g.costs(ctx, subjects)
	for i := range g.growth.held {
		g.growth.held[i].stillOpen = min(openOn(subjects[i].at.Proxy), subjects[i].point.size)
	}
	return err
}

// Of the lifetime of a token lingpai renews it when 17/24 are over, on average: a
// third before its end, less up to a quarter of that at random.
const renewedAfter = 17. / 24

// byRefreshes measures calls while tokens are renewed at more and more a second.
// Each measurement has a lingpai of its own, for the tokens of one that is not
// called lapse.
func (g *growthRun) byRefreshes(ctx context.Context) error {
	var at stubReady
	stub, err := part(ctx, "part-stub", g.others, stubSpec{
		Cert: g.certs.cert, Key: g.certs.key, Lifetime: g.sizes.lifetime, TokenLatency: refreshLatency,
	}, &at)
	if err != nil {
		return err
	}
	defer stub.stop()
	for _, n := range g.sizes.refreshes {
		g.refreshes = append(g.refreshes, costPoint{size: n})
	}
	for range g.sizes.repeats {
		for _, i := range rand.Perm(len(g.refreshes)) {
			if err := g.refreshing(ctx, at, &g.refreshes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// refreshLatency is what the token endpoint takes there.
const refreshLatency = 20 * time.Millisecond

// shortLived returns how many tokens of a short life make so many refreshes a
// second.
func (g *growthRun) shortLived(rate int) int {
	return int(float64(rate)*g.sizes.lifetime.Seconds()*renewedAfter + 0.5)
}

// refreshing makes one measurement.
func (g *growthRun) refreshing(ctx context.Context, at stubReady, p *costPoint) error {
	most := max(fewApps, g.shortLived(g.sizes.refreshes[len(g.sizes.refreshes)-1]))
	short := g.shortLived(p.size)
	file := filepath.Join(g.folder, "refreshes.db")
	defer os.Remove(file)
	// Those whose tokens are not renewed have one that the stub takes for long.
	far := time.Now().Add(time.Hour)
	err := fillBolt(ctx, file, 0, most, func(n int) record {
		if n < short {
			return record{}
		}
		return record{token: issued(growthApp(n), far), expires: far}
	})
	if err != nil {
		return err
	}
	s, err := g.start(ctx, g.secured(at), file)
	if err != nil {
		return err
	}
	defer s.end()
	if short > 0 {
		// Evenly over the time after which they are renewed, so that renewals are
		// even too.
		first, err := g.load(ctx, loadSpec{
			Address: s.at.Proxy, Method: "GET", Apps: short, Connections: growthConnections, Order: inTurn, Rate: p.size,
			Duration: time.Duration(float64(g.sizes.lifetime) * renewedAfter),
		})
		if err == nil && first.Failed > 0 {
			err = errors.New(first.Fault)
		}
		if err != nil {
			return err
		}
	}
	// What has its first call now is not of the measurement.
	if err := g.call(ctx, s, most, most, growthConnections); err != nil {
		return err
	}
	if _, err := tokenCalls(at.Plain); err != nil {
		return err
	}
	began := time.Now()
	s.apps, s.order, s.point = most, inTurn, *p
	if err := g.cost(ctx, s); err != nil {
		return err
	}
	calls, err := tokenCalls(at.Plain)
	*p = s.point
	p.refreshed = append(p.refreshed, float64(calls)/time.Since(began).Seconds())
	return err
}
