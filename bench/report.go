package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// publish prints the tables, and keeps them with a picture if asked to.
func (r *results) publish(o options, stdout, stderr io.Writer) error {
	var b bytes.Buffer
	r.head(&b, o)
	picture := ""
	if o.save {
		name := r.started.Format(time.DateOnly) + "-" + strings.TrimSuffix(r.machine.commit, "+")
		if o.only != "" {
			name += "-" + o.only
		}
		picture = name + ".svg"
		if o.only != "stampede" {
			fmt.Fprintf(&b, "![CPU per request](%s)\n\n", picture)
		}
	}
	if o.only != "stampede" {
		for _, kind := range o.upstreams {
			r.tables(&b, kind)
		}
	}
	r.stampedeTable(&b, o)
	if _, err := stdout.Write(b.Bytes()); err != nil || !o.save {
		return err
	}
	if err := os.MkdirAll(o.results, 0o755); err != nil {
		return err
	}
	file := filepath.Join(o.results, strings.TrimSuffix(picture, ".svg")+".md")
	if o.only != "stampede" {
		if err := os.WriteFile(filepath.Join(o.results, picture), r.picture(o), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(stderr, "kept in", file)
	return nil
}

func (r *results) head(b *bytes.Buffer, o options) {
	fmt.Fprintf(b, "# lingpai beside other proxies, %s, commit %s\n\n", r.started.Format(time.DateOnly), r.machine.commit)
	if strings.HasSuffix(r.machine.commit, "+") {
		fmt.Fprintf(b, "The `+` says that Go files differed from the commit.\n\n")
	}
	fmt.Fprintf(b, "- Machine: %s\n", r.machine)
	fmt.Fprintf(b, "- Load average of the machine: %s before the run, %s after it\n", r.machine.loadBefore, r.machine.loadAfter)
	placing := "all processes on any processor"
	if o.pin {
		placing = "proxies on the last processors, load and upstream on the others"
	}
	fmt.Fprintf(b, "- Run: %v long; %d workers or GOMAXPROCS each, %s\n", r.took.Round(time.Second), o.workers, placing)
	if o.only == "stampede" {
		b.WriteString("\n")
		return
	}
	fmt.Fprintf(b, "- Each figure: %d times %v after %v of warm-up, in turn with the others\n", o.repeats, o.duration, o.warmup)
	for _, p := range r.present {
		if p.version != nil {
			fmt.Fprintf(b, "- %s: %s\n", p.title, p.version())
		}
	}
	for _, text := range r.missing {
		fmt.Fprintf(b, "- **Missing**: %s\n", text)
	}
	if o.repeats < 3 || o.duration < time.Second {
		fmt.Fprintf(b, "\nThis was a run to see that all works: too short for its figures to mean much.\n")
	}
	b.WriteString("\nMedians, with least and most in brackets. A ratio is taken within each repeat, then the median of these.\n\n")
}

// bases are the peers that others are compared with.
var bases = []string{"nginx", "nginx-lua", "direct"}

// tables writes all tables of one kind of upstream.
func (r *results) tables(b *bytes.Buffer, kind string) {
	fmt.Fprintf(b, "## Upstream: %s\n\n", map[string]string{"plain": "HTTP", "tls": "HTTPS"}[kind])
	r.summary(b, kind)
	for _, w := range r.loads {
		fmt.Fprintf(b, "### %s\n\n", w.title)
		b.WriteString("| | requests/s | CPU µs/request | p50 ms | p99 ms | CPU ÷ nginx | CPU ÷ nginx+Lua | req/s ÷ nginx | req/s ÷ nginx+Lua | req/s ÷ direct | failed |\n")
		b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
		late := time.Duration(0)
		for _, p := range r.present {
			repeats := r.figures[cell{kind, w.name, p.name}]
			var failed int64
			for _, one := range repeats {
				failed += one.Failed
				late = max(late, one.Late)
			}
			cpu := "–"
			if p.name != "direct" {
				cpu = spreadBy(repeats, loadResult.cpuEach).format("%.1f")
			}
			columns := []string{p.title, spreadBy(repeats, loadResult.rate).format("%.0f"), cpu,
				spreadBy(repeats, func(l loadResult) float64 { return l.P50.Seconds() * 1000 }).format("%.2f"),
				spreadBy(repeats, func(l loadResult) float64 { return l.P99.Seconds() * 1000 }).format("%.2f")}
			for _, base := range bases[:2] {
				columns = append(columns, r.ratio(kind, []workload{w}, p.name, base, loadResult.cpuEach))
			}
			for _, base := range bases {
				columns = append(columns, r.ratio(kind, []workload{w}, p.name, base, loadResult.rate))
			}
			fmt.Fprintf(b, "| %s | %d |\n", strings.Join(columns, " | "), failed)
		}
		if w.rate > 0 {
			fmt.Fprintf(b, "\nLatency counts from when a request should have begun. The load generator itself was at most %s ms late (99 %% of its requests, worst run).\n", milliseconds(late))
		}
		b.WriteString("\n")
	}
}

// ratio compares a peer with another one over some loads.
func (r *results) ratio(kind string, loads []workload, name, base string, figure func(loadResult) float64) string {
	var all []float64
	for _, w := range loads {
		all = append(all, ratios(r.figures[cell{kind, w.name, name}], r.figures[cell{kind, w.name, base}], figure)...)
	}
	return spreadText(all)
}

func spreadText(all []float64) string {
	s := spreadOf(all)
	s.min, s.max = s.median, s.median
	return s.format("%.2f")
}

// summary writes CPU ratios over all small calls of many connections, and memory.
func (r *results) summary(b *bytes.Buffer, kind string) {
	small := r.small()
	b.WriteString("| GET and POST together | CPU ÷ nginx | CPU ÷ nginx+Lua | memory idle MiB | memory loaded MiB |\n|---|---:|---:|---:|---:|\n")
	for _, p := range r.present {
		if p.name == "direct" {
			continue
		}
		var loaded int64
		for _, w := range r.loads {
			for _, one := range r.figures[cell{kind, w.name, p.name}] {
				loaded = max(loaded, one.RSS)
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s | %.1f | %.1f |\n", p.title,
			r.ratio(kind, small, p.name, "nginx", loadResult.cpuEach), r.ratio(kind, small, p.name, "nginx-lua", loadResult.cpuEach),
			float64(r.idle[cell{kind, "", p.name}])/(1<<20), float64(loaded)/(1<<20))
	}
	b.WriteString("\n")
}

// small returns the loads of small calls about one account, of more than one
// connection if there are such.
func (r *results) small() []workload {
	var one, many []workload
	for _, w := range r.loads {
		if w.size > 0 || w.mix || w.rate > 0 {
			continue
		}
		if w.connections == 1 {
			one = append(one, w)
		} else {
			many = append(many, w)
		}
	}
	if len(many) > 0 {
		return many
	}
	return one
}
