package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// cell is what one figure stands for.
type cell struct {
	upstream string // plain, tls
	workload string
	peer     string
}

// results are what a run has found.
type results struct {
	started time.Time
	took    time.Duration
	machine machine
	loads   []workload
	present []peer
	missing []string              // a sentence for each peer that is not here
	figures map[cell][]loadResult // by repeat
	memory  map[cell][]memory     // of when, in place of a workload

	stampedes []stampede
	growth    *growth // nil if it was not asked for
}

func (r *results) failed() int64 {
	n := r.growth.failed()
	for _, repeats := range r.figures {
		for _, one := range repeats {
			n += one.Failed
		}
	}
	for _, s := range r.stampedes {
		if s.Scheme != "" {
			continue // what others fail at is a finding
		}
		for _, one := range s.Repeats {
			n += one.Cold.Failed + one.Lapse.Failed
		}
	}
	return n
}

// measure does the run.
func measure(ctx context.Context, o options, progress io.Writer) (*results, error) {
	r := &results{started: time.Now(), machine: thisMachine(), loads: o.loads(), figures: map[cell][]loadResult{}, memory: map[cell][]memory{}}
	for _, name := range o.peers {
		if !o.measures("proxies") {
			break // it has no peers that could be missing
		}
		p := peers[name]
		if p.missing != nil {
			if err := p.missing(); err != nil {
				r.missing = append(r.missing, fmt.Sprintf("%s: %v", p.title, err))
				fmt.Fprintf(progress, "missing: %s\n", r.missing[len(r.missing)-1])
				continue
			}
		}
		r.present = append(r.present, p)
	}
	dir, err := os.MkdirTemp("", "lingpai-bench-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	run := &runner{options: o, results: r, progress: progress, dir: dir}
	if err := run.prepare(ctx); err != nil {
		return nil, err
	}
	defer run.stub.stop()
	if o.measures("proxies") {
		for _, kind := range o.upstreams {
			if err := run.upstream(ctx, kind); err != nil {
				return nil, err
			}
		}
		for _, kind := range o.memoryUpstreams {
			if err := run.memories(ctx, kind); err != nil {
				return nil, err
			}
		}
	}
	if o.measures("stampede") {
		if err := run.stampede(ctx); err != nil {
			return nil, err
		}
	}
	if o.measures("growth") {
		if err := run.grow(ctx); err != nil {
			return nil, err
		}
	}
	r.took = time.Since(r.started)
	r.machine.loadAfter = loadAverage()
	return r, nil
}

// runner is a run under way.
type runner struct {
	options options
	*results
	progress io.Writer
	dir      string
	site     site
	others   []string // prefix of load and stub
	certs    certificates
	stub     *child
	at       stubReady
	done     int
	began    time.Time // of the first measurement
}

// prepare builds lingpai and starts the stub.
func (r *runner) prepare(ctx context.Context) error {
	r.site.workers = r.options.workers
	r.site.prefix = []string{"env", "GOMAXPROCS=" + strconv.Itoa(r.options.workers)}
	if r.options.pin {
		first := runtime.NumCPU() - r.options.workers
		r.site.prefix = append([]string{"taskset", "-c", fmt.Sprintf("%d-%d", first, runtime.NumCPU()-1)}, r.site.prefix...)
		r.others = []string{"taskset", "-c", fmt.Sprintf("0-%d", first-1)}
	}
	var err error
	if r.certs, err = makeCertificates(r.dir); err != nil {
		return err
	}
	fmt.Fprintln(r.progress, "building lingpai")
	if r.site.lingpai, err = buildLingpai(ctx, r.dir); err != nil {
		return err
	}
	r.stub, err = part(ctx, "part-stub", r.others, stubSpec{Apps: r.options.apps, Cert: r.certs.cert, Key: r.certs.key}, &r.at)
	return err
}

// upstream measures all peers with one kind of upstream.
func (r *runner) upstream(ctx context.Context, kind string) (err error) {
	u := r.upstreamOf(r.at, kind, r.options.apps)
	var all []*running
	defer func() {
		for _, p := range all {
			if p.process != nil {
				p.process.stop()
			}
		}
	}()
	for _, p := range r.present {
		fmt.Fprintf(r.progress, "%s: starting %s\n", kind, p.title)
		dir := filepath.Join(r.dir, kind, p.name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		address, process, err := p.start(ctx, &r.site, u, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", p.title, err)
		}
		all = append(all, &running{p, address, process})
	}
	time.Sleep(r.options.settling())
	for _, p := range all {
		if err := r.remember(p, kind, configured); err != nil {
			return err
		}
		if err := r.prime(ctx, p, u); err != nil {
			return err
		}
	}
	time.Sleep(r.options.settling())
	for _, p := range all {
		if err := r.remember(p, kind, primed); err != nil {
			return err
		}
	}
	if r.began.IsZero() {
		r.began = time.Now()
	}
	for _, w := range r.loads {
		for repeat := range r.options.repeats {
			// Another order each time, so that none has the best place.
			for _, i := range rand.Perm(len(all)) {
				if err := r.one(ctx, all[i], u, kind, w, repeat); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// upstreamOf returns one of a stub's two sides.
func (r *runner) upstreamOf(stub stubReady, kind string, apps int) upstream {
	u := upstream{address: stub.Plain, root: r.certs.root, apps: apps, counts: stub.Plain}
	if kind == "tls" {
		u.address, u.tls = stub.TLS, true
	}
	return u
}

// prime makes one call for each account, after which a peer holds all tokens.
func (r *runner) prime(ctx context.Context, p *running, u upstream) error {
	spec := r.spec(p, u, workload{method: "GET", connections: min(64, r.options.apps), mix: true})
	spec.Calls = spec.Apps
	result, err := r.load(ctx, spec)
	if err == nil && result.Failed > 0 {
		err = errors.New(result.Fault)
	}
	if err != nil {
		return fmt.Errorf("first calls through %s: %w", p.peer.title, err)
	}
	return nil
}

func (r *runner) spec(p *running, u upstream, w workload) loadSpec {
	spec := loadSpec{
		Address: p.address, Root: u.root, FixedToken: p.peer.fixedToken, Apps: 1, Connections: w.connections,
		Method: w.method, Body: w.body, Size: w.size, Rate: w.rate, Warmup: r.options.warmup, Duration: w.duration(r.options.duration), Watch: p.pid(),
		Stub: u.counts, StubTLS: u.tls,
	}
	if w.mix {
		spec.Apps = r.options.apps
	}
	if p.process == nil {
		spec.Direct, spec.TLS = true, u.tls
	}
	return spec
}

// load runs the load generator to its end.
func (r *runner) load(ctx context.Context, spec loadSpec) (loadResult, error) {
	var result loadResult
	process, err := part(ctx, "part-load", r.others, spec, &result)
	if err != nil {
		return result, err
	}
	process.stop()
	return result, nil
}

// one makes one measurement.
func (r *runner) one(ctx context.Context, p *running, u upstream, kind string, w workload, repeat int) error {
	result, err := r.load(ctx, r.spec(p, u, w))
	if err != nil {
		return fmt.Errorf("%s, %s: %w", p.peer.title, w.title, err)
	}
	at := cell{kind, w.name, p.peer.name}
	r.figures[at] = append(r.figures[at], result)
	r.done++
	total := len(r.options.upstreams) * len(r.loads) * r.options.repeats * len(r.present)
	left := time.Since(r.began) / time.Duration(r.done) * time.Duration(total-r.done)
	fmt.Fprintf(r.progress, "[%d/%d] %s %s repeat %d %s: %.0f/s, %.1f µs CPU each, p99 %s ms, %d failed; about %s left\n",
		r.done, total, kind, w.name, repeat+1, p.peer.name, result.rate(), result.cpuEach(), milliseconds(result.P99), result.Failed, left.Round(time.Second))
	if result.Failed > 0 {
		fmt.Fprintf(r.progress, "  first failure: %s\n", result.Fault)
	}
	return nil
}

// rate returns requests a second.
func (l loadResult) rate() float64 { return float64(l.Requests) / l.Elapsed.Seconds() }

// cpuEach returns the watched processes' microseconds of CPU for each request.
func (l loadResult) cpuEach() float64 {
	return float64(l.CPU.Microseconds()) / float64(max(l.Requests, 1))
}
