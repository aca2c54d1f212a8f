package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// memory is what a peer's processes take, in bytes: RSS counts what they share
// for each of them, PSS divides it among them.
type memory struct{ RSS, PSS int64 }

// When memory is measured.
const (
	idleOne    = "idle, one account"
	loadedOne  = "loaded, one account"
	configured = "idle, all accounts configured"
	primed     = "idle, all accounts used"
)

const (
	memoryConnections = 256
	memoryRepeats     = 2
)

// settling is how long a peer that has started is left alone: lingpai gives back
// after 2 s what only its start needed.
func (o options) settling() time.Duration {
	if o.duration < time.Second {
		return 200 * time.Millisecond
	}
	return 4 * time.Second
}

// remember measures a peer's memory.
func (r *runner) remember(p *running, kind, when string) error {
	used, err := treeUsage(p.pid())
	if err == nil {
		at := cell{kind, when, p.peer.name}
		r.memory[at] = append(r.memory[at], memory{used.rss, used.pss})
	}
	return err
}

// memories starts each peer anew, with one account, and measures what it takes
// idle and while it serves many connections.
func (r *runner) memories(ctx context.Context, kind string) error {
	var at stubReady
	stub, err := part(ctx, "part-stub", r.others, stubSpec{Apps: 1, Cert: r.certs.cert, Key: r.certs.key}, &at)
	if err != nil {
		return err
	}
	defer stub.stop()
	u := r.upstreamOf(at, kind, 1)
	for repeat := range min(r.options.repeats, memoryRepeats) {
		for _, i := range rand.Perm(len(r.present)) {
			p := r.present[i]
			if p.name == "direct" {
				continue
			}
			fmt.Fprintf(r.progress, "%s: memory of %s, repeat %d\n", kind, p.title, repeat+1)
			dir := filepath.Join(r.dir, "memory", kind, fmt.Sprint(repeat), p.name)
			if err := r.oneMemory(ctx, p, u, kind, dir); err != nil {
				return fmt.Errorf("memory of %s: %w", p.title, err)
			}
		}
	}
	return nil
}

func (r *runner) oneMemory(ctx context.Context, p peer, u upstream, kind, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	address, process, err := p.start(ctx, &r.site, u, dir)
	if err != nil {
		return err
	}
	defer process.stop()
	one := &running{p, address, process}
	time.Sleep(r.options.settling())
	if err := r.remember(one, kind, idleOne); err != nil {
		return err
	}
	result, err := r.load(ctx, r.spec(one, u, workload{method: "GET", connections: memoryConnections}))
	if err != nil {
		return err
	}
	if result.Failed > 0 {
		return fmt.Errorf("%d requests failed: %s", result.Failed, result.Fault)
	}
	at := cell{kind, loadedOne, p.name}
	r.memory[at] = append(r.memory[at], memory{result.RSS, result.PSS})
	return nil
}

// mostLoaded returns the most memory at the end of any measurement.
func (r *results) mostLoaded(kind, name string) (most memory) {
	for _, w := range r.loads {
		for _, one := range r.figures[cell{kind, w.name, name}] {
			most.RSS, most.PSS = max(most.RSS, one.RSS), max(most.PSS, one.PSS)
		}
	}
	return most
}

// memoryTable writes one kind of upstream's.
func (r *results) memoryTable(b *bytes.Buffer, kind string, apps int) {
	fmt.Fprintf(b, "### Memory, MiB\n\nPSS, with RSS in brackets. Started anew with one account: idle, then with %d connections. With %d accounts: after the start, "+
		"after a call for each, and the most at the end of any measurement.\n\n", memoryConnections, apps)
	fmt.Fprintf(b, "| | one account: idle | %d connections | %d accounts: started | used | most |\n|---|---:|---:|---:|---:|---:|\n", memoryConnections, apps)
	for _, p := range r.present {
		if p.name == "direct" {
			continue
		}
		fmt.Fprintf(b, "| %s |", p.title)
		for _, when := range []string{idleOne, loadedOne, configured, primed} {
			fmt.Fprintf(b, " %s |", r.medianMemory(kind, when, p.name))
		}
		fmt.Fprintf(b, " %s |\n", r.mostLoaded(kind, p.name))
	}
	b.WriteString("\n")
}

// medianMemory returns the middle of the repeats.
func (r *results) medianMemory(kind, when, name string) memory {
	var rss, pss []float64
	for _, m := range r.memory[cell{kind, when, name}] {
		rss, pss = append(rss, float64(m.RSS)), append(pss, float64(m.PSS))
	}
	if len(rss) == 0 {
		return memory{}
	}
	return memory{int64(spreadOf(rss).median), int64(spreadOf(pss).median)}
}

// String returns MiB.
func (m memory) String() string {
	if m.RSS == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f (%.1f)", mib(m.PSS), mib(m.RSS))
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
