package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// growthSection writes all that growth has found. Every curve has its sentence,
// made of what was measured. The picture is shown if there is a name to which it
// is kept.
func (r *results) growthSection(b *bytes.Buffer, o options, name string) {
	g := r.growth
	if g == nil {
		return
	}
	sizes := o.growth
	fmt.Fprintf(b, "## Growth\n\nWhat growing costs lingpai, with an HTTPS upstream, GETs of 194-byte answers and %d connections that call. "+
		"CPU and requests/s are those of a closed loop, p50 and p99 those of an open loop of %s calls a second. "+
		"Each figure: %d times %v after %v of warm-up, the sizes in turn; medians, with least and most in brackets. It took %v.\n\n",
		growthConnections, thousands(growthRate), sizes.repeats, sizes.duration, o.warmup, g.took.Round(time.Second))
	if sizes.repeats < 3 || sizes.duration < time.Second {
		b.WriteString("This was a run to see that all works: too short for its figures to mean much.\n\n")
	}
	if name != "" {
		fmt.Fprintf(b, "![What growing costs](%s-growth.svg)\n\n", name)
	}
	for _, text := range g.missing {
		fmt.Fprintf(b, "**Missing**: %s\n\n", text)
	}
	if half, late := g.late(); late > 0 {
		fmt.Fprintf(b, "Latency counts from when a request should have begun. The load generator itself was late by %s ms in half of its requests and at most %s ms in 99 %% of them, each in its worst measurement.\n\n",
			milliseconds(half), milliseconds(late))
	}
	g.goalsTable(b)
	g.authorizersTable(b)
	g.routesTable(b)
	g.heldTable(b)
	g.refreshesTable(b)
	g.memoryTable(b)
	g.startsTable(b)
}

// late returns how late the open loops were at worst: in half and in 99 % of
// their calls.
func (g *growth) late() (half, most time.Duration) {
	for _, p := range g.costPoints() {
		for _, one := range p.open {
			half, most = max(half, one.LateP50), max(most, one.Late)
		}
	}
	return half, most
}

// writeTable writes a table whose first column alone stands to the left.
func writeTable(b *bytes.Buffer, head []string, rows [][]string) {
	fmt.Fprintf(b, "| %s |\n|---|%s\n", strings.Join(head, " | "), strings.Repeat("---:|", len(head)-1))
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
	b.WriteString("\n")
}

// costHead and costColumns are what all tables of calls have.
var costHead = []string{"CPU µs/request", "requests/s", "p50 ms", "p99 ms"}

func (p costPoint) costColumns() []string {
	return []string{spreadBy(p.closed, loadResult.cpuEach).format("%.1f"), spreadBy(p.closed, loadResult.rate).format("%.0f"),
		spreadBy(p.open, millisecondsP50).format("%.2f"), spreadBy(p.open, millisecondsP99).format("%.2f")}
}

func (p costPoint) failures() string { return strconv.FormatInt(p.failed(), 10) }

func (p costPoint) cpu() float64 { return spreadBy(p.closed, loadResult.cpuEach).median }
func (p costPoint) p99() float64 { return spreadBy(p.open, millisecondsP99).median }

func millisecondsP50(l loadResult) float64 { return l.P50.Seconds() * 1000 }
func millisecondsP99(l loadResult) float64 { return l.P99.Seconds() * 1000 }

// cpuRatio and p99Ratio compare with another point, within each repeat.
func (p costPoint) cpuRatio(base costPoint) float64 {
	return spreadOf(ratios(p.closed, base.closed, loadResult.cpuEach)).median
}

func (p costPoint) p99Ratio(base costPoint) float64 {
	return spreadOf(ratios(p.open, base.open, millisecondsP99)).median
}

// change says what calls cost at the end of a curve beside its beginning.
func (p costPoint) change(base costPoint) string {
	return fmt.Sprintf("a call costs × %.2f the CPU (%.1f → %.1f µs), and p99 goes from %.2f to %.2f ms (× %.2f)",
		p.cpuRatio(base), base.cpu(), p.cpu(), base.p99(), p.p99(), p.p99Ratio(base))
}

// ends returns the first and the last point of a series.
func ends(points []costPoint, series string) (first, last costPoint, ok bool) {
	for _, p := range points {
		if p.series != series {
			continue
		}
		if !ok {
			first = p
		}
		last, ok = p, true
	}
	return first, last, ok
}

func (g *growth) authorizersTable(b *bytes.Buffer) {
	b.WriteString("### Calls by authorizers\n\n")
	first, last, ok := ends(g.authorizers, seriesAll)
	if !ok {
		return
	}
	fmt.Fprintf(b, "Calls for one authorizer after another, drawn at random, their tokens in memory as far as `cache.max_bytes` goes: from %s to %s authorizers %s",
		thousands(first.size), thousands(last.size), last.change(first))
	if _, small, ok := ends(g.authorizers, seriesDefault); ok {
		fmt.Fprintf(b, "; with %s, of which tokens get 7/8, that holds some %s of them, %s", small.note, thousands(min(small.size, tokensIn(defaultCacheMiB))), small.change(first))
	}
	b.WriteString(".\n\n")
	var rows [][]string
	for _, p := range g.authorizers {
		row := append([]string{thousands(p.size), p.note}, p.costColumns()...)
		rows = append(rows, append(row, mebibytes(p.memory.rss), mebibytes(p.memory.own), p.failures()))
	}
	writeTable(b, append(append([]string{"authorizers", "cache.max_bytes"}, costHead...), "RSS MiB", "own memory MiB", "failed"), rows)
}

func (g *growth) routesTable(b *bytes.Buffer) {
	first, last, ok := ends(g.routes, "")
	if !ok {
		return
	}
	fmt.Fprintf(b, "### Calls by routes of the configuration\n\nBeside the built-in table, which is the same in all: from %s to %s `routes` %s.\n\n",
		thousands(first.size), thousands(last.size), last.change(first))
	var rows [][]string
	for _, p := range g.routes {
		rows = append(rows, append(append([]string{thousands(p.size)}, p.costColumns()...), mebibytes(p.memory.rss), p.failures()))
	}
	writeTable(b, append(append([]string{"routes"}, costHead...), "RSS MiB", "failed"), rows)
}

func (g *growth) heldTable(b *bytes.Buffer) {
	first, last, ok := ends(g.held, "")
	if !ok {
		return
	}
	fmt.Fprintf(b, "### Calls by connections held\n\nBeside the %d connections that call, others that have made one call each are kept open without another: from %s to %s of them %s; each takes %.1f KiB.\n\n",
		growthConnections, thousands(first.size), thousands(last.size), last.change(first), last.eachHeld(first))
	var rows [][]string
	for _, p := range g.held {
		each := "–"
		if p.size > first.size {
			each = fmt.Sprintf("%.1f", p.eachHeld(first))
		}
		row := append([]string{thousands(p.size)}, p.costColumns()...)
		rows = append(rows, append(row, mebibytes(p.memory.rss), mebibytes(p.memory.pss), mebibytes(p.memory.own), each, thousands(p.stillOpen), p.failures()))
	}
	writeTable(b, append(append([]string{"held"}, costHead...), "RSS MiB", "Pss MiB", "own memory MiB", "KiB each", "open at the end", "failed"), rows)
}

// eachHeld returns the KiB that a held connection takes.
func (p costPoint) eachHeld(none costPoint) float64 {
	return float64(p.memory.rss-none.memory.rss) / 1024 / float64(max(p.size-none.size, 1))
}

func (g *growth) refreshesTable(b *bytes.Buffer) {
	first, last, ok := ends(g.refreshes, "")
	if !ok {
		return
	}
	fmt.Fprintf(b, "### Calls by tokens refreshed\n\nTokens that live for seconds are renewed as they near their end, each by a call to a token endpoint that takes %v and a write to the file of bolt, while calls go on for these authorizers and others in turn: "+
		"from %.0f to %.0f refreshes a second %s, all that refreshing takes included",
		refreshLatency, spreadOf(first.refreshed).median, spreadOf(last.refreshed).median, last.change(first))
	if each := last.eachRefresh(first); each > 0 { // else it is lost in what varies
		fmt.Fprintf(b, ", which makes %.0f µs for a refresh", each)
	}
	b.WriteString(".\n\n")
	var rows [][]string
	for _, p := range g.refreshes {
		row := append([]string{thousands(p.size), spreadOf(p.refreshed).format("%.1f")}, p.costColumns()...)
		rows = append(rows, append(row, p.failures()))
	}
	writeTable(b, append(append([]string{"refreshes/s meant", "refreshes/s seen"}, costHead...), "failed"), rows)
}

// eachRefresh returns the microseconds of CPU that a refresh takes, as far as
// calls cost more than without.
func (p costPoint) eachRefresh(none costPoint) float64 {
	var all []float64
	for i := range min(len(p.closed), len(none.closed), len(p.refreshed)) {
		more := p.closed[i].cpuEach() - none.closed[i].cpuEach()
		all = append(all, more*p.closed[i].rate()/max(p.refreshed[i], 0.001))
	}
	return spreadOf(all).median
}

func (g *growth) memoryTable(b *bytes.Buffer) {
	if len(g.memory) == 0 {
		return
	}
	b.WriteString("### Memory by authorizers\n\n")
	var idle, most memoryPoint
	for _, p := range g.memory {
		switch {
		case p.curve && p.used == 0:
			idle = p
		case p.curve:
			most = p
		}
	}
	fmt.Fprintf(b, "From idle to %s authorizers whose tokens were fetched on %d connections, RSS without the store's file goes from %s to %s MiB, of which the Go heap has %s. ",
		thousands(most.used), memoryCallers, mebibytes(idle.withoutStore()), mebibytes(most.withoutStore()), mebibytes(most.heap))
	if n := g.burst; n != nil {
		fmt.Fprintf(b, "When %s that have no token call at once on %d connections, and each a second time when it has its answer, the first calls take %v and %s calls for tokens, the second ones %s, and %s tokens are not in memory any more.",
			thousands(n.authorizers), burstCallers, n.took.Round(10*time.Millisecond), thousands(n.first), thousands(n.second), thousands(n.fromStore))
	}
	b.WriteString("\n\nAll is of 24 s after the last call, so that what the burst of calls left behind has been given back; *most* is the most while it went on. What of the store's file is mapped the kernel may take back.\n\n")
	var rows [][]string
	for _, p := range g.memory {
		rows = append(rows, []string{thousands(p.used), thousands(p.stored), thousands(p.connections), fmt.Sprintf("%d MiB", p.cacheMiB), mebibytes(p.rss), mebibytes(p.pss),
			mebibytes(p.store), mebibytes(p.withoutStore()), mebibytes(p.own), mebibytes(p.heap), mebibytes(p.peak)})
	}
	writeTable(b, []string{"called", "in the store", "connections", "cache.max_bytes", "RSS MiB", "Pss MiB", "the store's file in it", "RSS without it", "own memory MiB", "Go heap MiB", "most RSS MiB"}, rows)
}

func (g *growth) startsTable(b *bytes.Buffer) {
	if len(g.starts) == 0 {
		return
	}
	b.WriteString("### Start by records in the store\n\nFrom the exec until `/readyz` says yes: ")
	var texts []string
	for _, store := range []string{"bolt", "Redis"} {
		var of []startPoint
		for _, p := range g.starts {
			if p.store == store {
				of = append(of, p)
			}
		}
		if len(of) > 1 {
			first, last := of[0], of[len(of)-1]
			texts = append(texts, fmt.Sprintf("from %s to %s records in %s it goes from %.0f to %.0f ms",
				thousands(first.records), thousands(last.records), store, first.spread().median, last.spread().median))
		}
	}
	fmt.Fprintf(b, "%s.\n\nThe file of bolt is dropped from memory before each start (posix_fadvise), and what of it was there nevertheless is looked up (mincore); lingpai's program is not dropped.\n\n", strings.Join(texts, ", "))
	var rows [][]string
	for _, p := range g.starts {
		size, kept := "–", "–"
		if p.store == "bolt" {
			size, kept = mebibytes(p.bytes), fmt.Sprintf("%.1f %%", 100*p.kept)
			if p.coldness != "" {
				kept = "not dropped: " + p.coldness
			}
		}
		rows = append(rows, []string{p.store, thousands(p.records), size, kept, p.times()})
	}
	writeTable(b, []string{"store", "records", "file MiB", "in memory before", "ready after ms"}, rows)
}

// growthGoal is what lingpai promises of growth.
type growthGoal struct {
	text     string
	measured string
	holds    bool
	unknown  bool // not measured at that size
}

const (
	mebibyte = 1 << 20
	megabyte = 1000 * 1000
	// unchanged is the most that a latency may be of what it was.
	unchanged = 1.25
)

// goals compares. What was not measured at the size of a goal does not count.
func (g *growth) goals() []growthGoal {
	return append(append([]growthGoal{g.heldGoal()}, g.memoryGoals()...), g.startGoals()...)
}

func (g *growth) heldGoal() growthGoal {
	const wanted = 10_000
	to := growthGoal{text: fmt.Sprintf("10,000 connections held, p99 of those that call at most × %.2f of that with none", unchanged), unknown: true}
	first, last, ok := ends(g.held, "")
	if !ok || last.size != wanted {
		return to
	}
	ratio := last.p99Ratio(first)
	to.unknown, to.holds = false, last.stillOpen >= wanted && ratio <= unchanged
	to.measured = fmt.Sprintf("%s open at the end, %.1f KiB each, p99 × %.2f", thousands(last.stillOpen), last.eachHeld(first), ratio)
	return to
}

func (g *growth) memoryGoals() []growthGoal {
	idle := growthGoal{text: "idle: RSS at most 16 MiB", unknown: true}
	used := growthGoal{text: "100,000 authorizers' tokens in use: RSS without the store's file at most 53 MB more than idle", unknown: true}
	stored := growthGoal{text: "1,000,000 authorizers in the store: RSS without the store's file at most cache.max_bytes + 60 MiB", holds: true, unknown: true}
	var base memoryPoint
	for _, p := range g.memory {
		switch {
		case p.curve && p.used == 0:
			base = p
			idle.unknown, idle.holds = false, p.rss <= 16*mebibyte
			idle.measured = fmt.Sprintf("%s MiB, %s of it own memory", mebibytes(p.rss), mebibytes(p.own))
		case p.curve && p.used == 100_000:
			more := p.withoutStore() - base.withoutStore()
			used.unknown, used.holds = false, more <= 53*megabyte
			used.measured = fmt.Sprintf("%.1f MB", float64(more)/megabyte)
		case p.stored == 1_000_000:
			if stored.measured != "" {
				stored.measured += "; "
			}
			stored.unknown, stored.holds = false, stored.holds && p.withoutStore() <= int64(p.cacheMiB+60)*mebibyte
			stored.measured += fmt.Sprintf("%s MiB with %d MiB", mebibytes(p.withoutStore()), p.cacheMiB)
		}
	}
	lost := growthGoal{text: "tokens that the cache loses in a burst of 100,000: 0", unknown: true}
	if n := g.burst; n != nil && n.authorizers == 100_000 {
		lost.unknown, lost.holds = false, n.second == 0 && n.fromStore == 0
		lost.measured = fmt.Sprintf("%d asked for again, %d read from the store again", n.second, n.fromStore)
	}
	return []growthGoal{idle, used, stored, lost}
}

func (g *growth) startGoals() []growthGoal {
	var all []growthGoal
	for _, to := range []struct {
		records int
		within  time.Duration
	}{{100_000, time.Second}, {1_000_000, 2 * time.Second}} {
		one := growthGoal{text: fmt.Sprintf("ready within %v with %s records in bolt, cold", to.within, thousands(to.records)), unknown: true}
		for _, p := range g.starts {
			if p.store == "bolt" && p.records == to.records && p.coldness == "" {
				worst := p.spread().max
				one.unknown, one.holds = false, worst < to.within.Seconds()*1000
				one.measured = fmt.Sprintf("%.0f ms, the slowest", worst)
			}
		}
		all = append(all, one)
	}
	return all
}

func (g *growth) goalsTable(b *bytes.Buffer) {
	var rows [][]string
	for _, to := range g.goals() {
		holds := "**no**"
		switch {
		case to.unknown:
			to.measured, holds = "not measured at this size", "–"
		case to.holds:
			holds = "yes"
		}
		rows = append(rows, []string{to.text, to.measured, holds})
	}
	b.WriteString("### Goals\n\n")
	writeTable(b, []string{"goal", "measured", "holds"}, rows)
}

// thousands prints a number with commas.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f", float64(n)/mebibyte) }
