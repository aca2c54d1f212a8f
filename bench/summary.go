package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// ratios compares a peer with another one over some loads, repeat by repeat.
func (r *results) ratios(kind string, loads []workload, name, base string, figure func(loadResult) float64) []float64 {
	var all []float64
	for _, w := range loads {
		all = append(all, ratios(r.figures[cell{kind, w.name, name}], r.figures[cell{kind, w.name, base}], figure)...)
	}
	return all
}

// ratio is the middle of them.
func (r *results) ratio(kind string, loads []workload, name, base string, figure func(loadResult) float64) spread {
	return spreadOf(r.ratios(kind, loads, name, base, figure))
}

// pooled writes what all small calls together say of one kind of upstream.
func (r *results) pooled(b *bytes.Buffer, kind string) {
	small := r.small()
	if len(small) == 0 {
		return
	}
	var names []string
	for _, w := range small {
		names = append(names, w.name)
	}
	fmt.Fprintf(b, "### %s together\n\n", strings.Join(names, ", "))
	r.besides(b, kind, small)
	b.WriteString("| each | CPU µs/request | kernel's share | CPU ÷ nginx | CPU ÷ nginx+Lua | req/s ÷ nginx | req/s ÷ nginx+Lua | req/s ÷ direct |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, p := range r.present {
		cpu, kernel := "–", "–"
		if p.name != "direct" {
			var all []loadResult
			for _, w := range small {
				all = append(all, r.figures[cell{kind, w.name, p.name}]...)
			}
			cpu = spreadBy(all, loadResult.cpuEach).quartiles("%.1f")
			kernel = fmt.Sprintf("%.0f %%", 100*spreadBy(all, func(l loadResult) float64 { return l.System }).median)
		}
		fmt.Fprintf(b, "| %s | %s | %s |", p.title, cpu, kernel)
		for _, base := range []string{"nginx", "nginx-lua"} {
			fmt.Fprintf(b, " %s |", r.ratio(kind, small, p.name, base, loadResult.cpuEach).quartiles("%.2f"))
		}
		for _, base := range []string{"nginx", "nginx-lua", "direct"} {
			fmt.Fprintf(b, " %s |", r.ratio(kind, small, p.name, base, loadResult.rate).quartiles("%.2f"))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// besides writes lingpai's figures divided by those of each other.
func (r *results) besides(b *bytes.Buffer, kind string, loads []workload) {
	var rows bytes.Buffer
	for _, p := range r.present {
		rates := r.ratios(kind, loads, "lingpai", p.name, loadResult.rate)
		if p.name == "lingpai" || len(rates) == 0 {
			continue
		}
		fmt.Fprintf(&rows, "| %s |", p.title)
		for _, s := range []spread{r.ratio(kind, loads, "lingpai", p.name, loadResult.cpuEach), spreadOf(rates)} {
			if s.none() {
				rows.WriteString(" – | | |")
				continue
			}
			fmt.Fprintf(&rows, " **%.2f** | %.2f–%.2f | %.2f–%.2f |", s.median, s.q1, s.q3, s.min, s.max)
		}
		fmt.Fprintf(&rows, " %d |\n", len(rates))
	}
	if rows.Len() == 0 {
		return
	}
	b.WriteString("| lingpai ÷ | CPU | middle half | all | requests/s | middle half | all | pairs |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	rows.WriteTo(b)
	b.WriteString("\n")
}

// added returns how much longer half of the answers take than without a proxy, by
// repeat, in µs.
func (r *results) added(kind string, w workload, name string) []float64 {
	own, direct := r.figures[cell{kind, w.name, name}], r.figures[cell{kind, w.name, "direct"}]
	var all []float64
	for i := range min(len(own), len(direct)) {
		all = append(all, microseconds(own[i].P50-direct[i].P50))
	}
	return all
}

// addedRatio compares what two peers add, repeat by repeat.
func (r *results) addedRatio(kind string, w workload, name, base string) []float64 {
	own, other := r.added(kind, w, name), r.added(kind, w, base)
	var all []float64
	for i := range min(len(own), len(other)) {
		if own[i] > 0 && other[i] > 0 {
			all = append(all, own[i]/other[i])
		}
	}
	return all
}

func p50(l loadResult) float64 { return microseconds(l.P50) }
func p99(l loadResult) float64 { return microseconds(l.P99) }

// openLoop writes the table of a load of a fixed rate.
func (r *results) openLoop(b *bytes.Buffer, kind string, w workload) {
	b.WriteString("| | p50 µs | added p50 µs | added ÷ nginx's | p99 µs | p99 ÷ fasthttp's | CPU µs/request | generator late p50 µs | late p99 µs | connections opened | failed |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	var busy, late []float64
	for _, p := range r.present {
		repeats := r.figures[cell{kind, w.name, p.name}]
		for _, one := range repeats {
			busy = append(busy, 100*one.Own.Seconds()/one.Elapsed.Seconds())
			late = append(late, microseconds(one.LateP50))
		}
		cpu, added, times := "–", "–", "–"
		if p.name != "direct" {
			cpu = spreadBy(repeats, loadResult.cpuEach).format("%.1f")
			added = spreadOf(r.added(kind, w, p.name)).format("%.0f")
			times = spreadOf(r.addedRatio(kind, w, p.name, "nginx")).format("%.2f")
		}
		opened, failed := sums(repeats)
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %d | %d |\n", p.title, spreadBy(repeats, p50).format("%.0f"), added, times,
			spreadBy(repeats, p99).format("%.0f"), r.ratio(kind, []workload{w}, p.name, "fasthttp", p99).format("%.2f"), cpu,
			spreadBy(repeats, func(l loadResult) float64 { return microseconds(l.LateP50) }).format("%.0f"),
			spreadBy(repeats, func(l loadResult) float64 { return microseconds(l.Late) }).format("%.0f"), opened, failed)
	}
	direct := spreadBy(r.figures[cell{kind, w.name, "direct"}], p50)
	fmt.Fprintf(b, "\nLatency counts from when a request should have begun. *Late* is the load generator's own part in it: how much later it did begin, for the thread has to wake up. "+
		"It began %.0f µs late by the median", spreadOf(late).median)
	if !direct.none() {
		fmt.Fprintf(b, ", of direct's %.0f µs; so look at what is added, from which this drops out", direct.median)
	}
	fmt.Fprintf(b, ". It was busy for %.0f %% of one processor, at most %.0f %%.\n", spreadOf(busy).median, spreadOf(busy).max)
}

// sums adds up what should be none.
func sums(repeats []loadResult) (opened, failed int64) {
	for _, one := range repeats {
		opened += one.Opened
		failed += one.Failed
	}
	return opened, failed
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
