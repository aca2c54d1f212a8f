package main

import (
	"bytes"
	"fmt"
	"time"
)

// goal is something lingpai is to reach, and whether it does.
type goal struct {
	What     string
	Wanted   string
	Measured string
	Verdict  string // yes, no, or not measured
}

const (
	atMost  = "≤"
	atLeast = "≥"
)

// ratioGoals are about small calls, GET and POST over all numbers of connections
// together: lingpai's figure divided by that of a base.
var ratioGoals = []struct {
	kind, base string
	cpu        bool // else requests a second
	sense      string
	limit      float64
}{
	{"tls", "fasthttp", true, atMost, 1.05},
	{"plain", "fasthttp", true, atMost, 1.05},
	{"tls", "nginx", true, atMost, 0.95},
	{"plain", "nginx", true, atMost, 1.20},
	{"tls", "nginx-lua", true, atMost, 0.85},
	{"plain", "nginx-lua", true, atMost, 1.00},
	{"tls", "reverseproxy", true, atMost, 0.40},
	{"plain", "reverseproxy", true, atMost, 0.36},
	{"tls", "nginx", false, atLeast, 1.10},
	{"plain", "nginx", false, atLeast, 0.95},
}

// Other goals.
const (
	addedGoal       = 1.3 // what lingpai adds to the median of an open loop, of what nginx adds
	p99Goal         = 1.2 // of the bare fasthttp proxy's
	idleGoal        = 16  // MiB
	loadedGoal      = 40  // MiB
	coldTolerance   = 50 * time.Millisecond
	goalConnections = "16, 64 and 256"
)

// goals tells of all that were measured.
func (r *results) goals(o options) []goal {
	var all []goal
	if o.measures("proxies") {
		all = append(all, r.pooledGoals()...)
		all = append(all, r.openLoopGoals(o)...)
		all = append(all, r.memoryGoals(o)...)
	}
	for _, s := range r.stampedes {
		if s.Scheme == "" {
			all = append(all, r.stampedeGoals(s, o)...)
		}
	}
	return all
}

func (r *results) pooledGoals() []goal {
	var all []goal
	for _, g := range ratioGoals {
		what, figure := "CPU", loadResult.cpuEach
		if !g.cpu {
			what, figure = "requests/s", loadResult.rate
		}
		s := r.ratio(g.kind, r.small(), "lingpai", g.base, figure)
		all = append(all, ratioGoal(fmt.Sprintf("%s upstream: %s ÷ %s", kindTitles[g.kind], what, peers[g.base].title), s, g.sense, g.limit))
	}
	return all
}

// ratioGoal judges by the median, and shows the middle half.
func ratioGoal(what string, s spread, sense string, limit float64) goal {
	holds := s.median <= limit
	if sense == atLeast {
		holds = s.median >= limit
	}
	return goal{what, fmt.Sprintf("%s %.2f", sense, limit), s.quartiles("%.2f"), verdict(holds, !s.none())}
}

func verdict(holds, measured bool) string {
	switch {
	case !measured:
		return "not measured"
	case holds:
		return "yes"
	}
	return "**no**"
}

func (r *results) openLoopGoals(o options) []goal {
	var all []goal
	for _, kind := range o.upstreams {
		for _, w := range r.loads {
			if w.rate == 0 {
				continue
			}
			before := fmt.Sprintf("%s upstream, %d requests a second: ", kindTitles[kind], w.rate)
			all = append(all,
				ratioGoal(before+"added p50 ÷ nginx's", spreadOf(r.addedRatio(kind, w, "lingpai", "nginx")), atMost, addedGoal),
				ratioGoal(before+"p99 ÷ bare fasthttp's", r.ratio(kind, []workload{w}, "lingpai", "fasthttp", p99), atMost, p99Goal))
		}
	}
	return all
}

// memoryGoals judge by RSS, which is never less than PSS.
func (r *results) memoryGoals(o options) []goal {
	var all []goal
	one := func(kind, when, what string, limit int) {
		rss := r.medianMemory(kind, when, "lingpai").RSS
		measured := "–"
		if rss > 0 {
			measured = fmt.Sprintf("%.1f MiB", mib(rss))
		}
		all = append(all, goal{fmt.Sprintf("%s upstream: RSS, %s", kindTitles[kind], what), fmt.Sprintf("≤ %d MiB", limit), measured, verdict(mib(rss) <= float64(limit), rss > 0)})
	}
	for _, kind := range o.upstreams {
		one(kind, idleOne, "idle", idleGoal)
		if kind == "tls" {
			one(kind, loadedOne, fmt.Sprintf("%d connections", memoryConnections), loadedGoal)
		}
	}
	return all
}

// stampedeGoals hold if they do in each repeat. Callers who are the first need a
// connection to the upstream besides the token, as those do whose token never
// ends: that much longer than the token's call they may wait.
func (r *results) stampedeGoals(s stampede, o options) []goal {
	before := kindTitles[s.Upstream] + " upstream, stampede: "
	whole := func(figure func(stampedeRun) float64) spread { return s.over(figure) }
	cold := whole(func(r stampedeRun) float64 { return float64(r.ColdCalls) })
	least, most := 0, 0
	for i, one := range s.Repeats {
		counts := one.renewals(o.lifetime)
		for j, n := range counts {
			if i+j == 0 {
				least = n
			}
			least, most = min(least, n), max(most, n)
		}
	}
	renewals := fmt.Sprint(most)
	if least != most {
		renewals = fmt.Sprintf("%d–%d", least, most)
	}
	longest := whole(func(r stampedeRun) float64 { return microseconds(r.Cold.Max) / 1000 })
	limit := tokenLatency + coldTolerance
	atRenewal := whole(func(r stampedeRun) float64 { return float64(r.waitedAtRenewal()) })
	failed := whole(func(r stampedeRun) float64 { return float64(r.Cold.Failed + r.Lapse.Failed) })
	return []goal{
		{before + fmt.Sprintf("token calls when %d callers find none", coldCallers), "1", cold.format("%.0f"), verdict(cold.min == 1 && cold.max == 1, true)},
		{before + "their longest wait, connections to the upstream included", fmt.Sprintf("≤ %d ms", limit.Milliseconds()), longest.format("%.0f") + " ms",
			verdict(longest.median <= float64(limit.Milliseconds()), true)},
		{before + "token calls at each renewal", "1", renewals, verdict(least == 1 && most == 1, most > 0)},
		{before + "callers that waited at a renewal", "0", atRenewal.format("%.0f"), verdict(atRenewal.max == 0, true)},
		{before + "calls that failed or were refused", "0", failed.format("%.0f"), verdict(failed.max == 0, true)},
	}
}

// goalsTable writes them.
func (r *results) goalsTable(b *bytes.Buffer, o options) {
	all := r.goals(o)
	if len(all) == 0 {
		return
	}
	b.WriteString("## Goals\n\nRatios of small calls are over GET and POST with more than one connection (goals are meant for " + goalConnections +
		") together: the median of the ratios within a repeat, with the middle half of them in brackets.\n\n")
	b.WriteString("| lingpai | goal | measured | holds |\n|---|---:|---:|---|\n")
	for _, g := range all {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", g.What, g.Wanted, g.Measured, g.Verdict)
	}
	b.WriteString("\n")
}
