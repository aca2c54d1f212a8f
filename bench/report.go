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

// publish prints the tables, and keeps them if asked to: with pictures, and with
// all figures as JSON for later runs to be compared with.
func (r *results) publish(o options, stdout, stderr io.Writer) error {
	base, name := "", ""
	if o.save {
		if err := os.MkdirAll(o.results, 0o755); err != nil {
			return err
		}
		base = r.freeName(o)
		if name = base; o.only != "" {
			name += "-" + o.only
		}
	}
	tables := r.tables(o, base)
	if _, err := stdout.Write(tables); err != nil || !o.save {
		return err
	}
	figures, err := r.json(o)
	if err != nil {
		return err
	}
	files := map[string][]byte{name + ".md": tables, name + ".json": figures}
	if o.measures("proxies") {
		files[base+"-cpu.svg"] = r.picture(o)
	}
	if o.measures("stampede") {
		files[base+"-stampede.svg"] = r.stampedePicture(o)
	}
	if r.growth != nil {
		files[base+"-growth.svg"] = r.growth.picture()
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(o.results, file), text, 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintln(stderr, "kept in", filepath.Join(o.results, name+".md"))
	return nil
}

// freeName returns a name in the folder of results that no run has: by time and
// commit, so that runs stand in their order.
func (r *results) freeName(o options) string {
	name := r.started.Format("2006-01-02-1504") + "-" + strings.TrimSuffix(r.machine.commit, "+")
	free := name
	for n := 2; ; n++ {
		if taken, _ := filepath.Glob(filepath.Join(o.results, free+`[.\-]*`)); len(taken) == 0 {
			return free
		}
		free = fmt.Sprintf("%s-%d", name, n)
	}
}

// tables writes all that was found. Pictures are shown if they are kept, under
// names that begin with base.
func (r *results) tables(o options, base string) []byte {
	var b bytes.Buffer
	r.head(&b, o)
	r.goalsTable(&b, o)
	if o.measures("proxies") {
		if base != "" {
			fmt.Fprintf(&b, "![CPU per request](%s-cpu.svg)\n\n", base)
		}
		for _, kind := range o.upstreams {
			r.kindTables(&b, kind, o)
		}
	}
	if o.measures("stampede") && base != "" {
		fmt.Fprintf(&b, "![Waits when tokens lapse](%s-stampede.svg)\n\n", base)
	}
	r.stampedeTables(&b, o)
	r.growthSection(&b, o, base)
	return b.Bytes()
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
	if !o.measures("proxies") {
		b.WriteString("\n")
		return
	}
	fmt.Fprintf(b, "- Each figure: %d times %v, of the open loop three times as long, after %v of warm-up, in turn with the others\n", o.repeats, o.duration, o.warmup)
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

// kindTables writes all tables of one kind of upstream.
func (r *results) kindTables(b *bytes.Buffer, kind string, o options) {
	fmt.Fprintf(b, "## Upstream: %s\n\n", kindTitles[kind])
	r.pooled(b, kind)
	r.memoryTable(b, kind, o.apps)
	for _, w := range r.loads {
		fmt.Fprintf(b, "### %s\n\n", w.title)
		if w.rate > 0 {
			r.openLoop(b, kind, w)
		} else {
			r.closedLoop(b, kind, w)
		}
		b.WriteString("\n")
	}
}

// closedLoop writes the table of a load of so many connections.
func (r *results) closedLoop(b *bytes.Buffer, kind string, w workload) {
	b.WriteString("| | requests/s | CPU µs/request | p50 ms | p99 ms | CPU ÷ nginx | req/s ÷ nginx | connections opened | failed |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	loads := []workload{w}
	for _, p := range r.present {
		repeats := r.figures[cell{kind, w.name, p.name}]
		cpu := "–"
		if p.name != "direct" {
			cpu = spreadBy(repeats, loadResult.cpuEach).format("%.1f")
		}
		opened, failed := sums(repeats)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %d | %d |\n", p.title, spreadBy(repeats, loadResult.rate).format("%.0f"), cpu,
			spreadBy(repeats, func(l loadResult) float64 { return p50(l) / 1000 }).format("%.2f"),
			spreadBy(repeats, func(l loadResult) float64 { return p99(l) / 1000 }).format("%.2f"),
			r.ratio(kind, loads, p.name, "nginx", loadResult.cpuEach).format("%.2f"),
			r.ratio(kind, loads, p.name, "nginx", loadResult.rate).format("%.2f"), opened, failed)
	}
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
