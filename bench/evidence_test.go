package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// New threads count in full; if one has ended, the process's own time does.
func TestCPUSince(t *testing.T) {
	reading := func(user, system time.Duration, threads map[int]time.Duration) usage {
		return usage{threads: threads, ticks: cpuTicks{user, system}}
	}
	before := reading(10*tick, 10*tick, map[int]time.Duration{1: 150 * time.Millisecond, 2: 50 * time.Millisecond})
	check := func(name string, after usage, want time.Duration, wantSystem float64) {
		t.Helper()
		if cpu, system := after.cpuSince(before); cpu != want || system != wantSystem {
			t.Errorf("%s: %v, %v", name, cpu, system)
		}
	}
	check("all went on", reading(13*tick, 11*tick, map[int]time.Duration{1: 151 * time.Millisecond, 2: 91 * time.Millisecond}), 42*time.Millisecond, 0.25)
	check("one is new", reading(13*tick, 11*tick, map[int]time.Duration{1: 151 * time.Millisecond, 2: 50 * time.Millisecond, 3: 43 * time.Millisecond}), 44*time.Millisecond, 0.25)
	check("one has ended", reading(13*tick, 11*tick, map[int]time.Duration{1: 151 * time.Millisecond}), 40*time.Millisecond, 0.25)
	check("the kernel does not tell", reading(11*tick, 10*tick, nil), 10*time.Millisecond, 0)
}

func TestTreeUsage(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("CPU and memory are read from /proc")
	}
	before, err := treeUsage(os.Getpid())
	if err != nil || before.cpu == 0 || before.rss == 0 || before.pss == 0 || before.pss > before.rss || !slices.Contains(before.pids, os.Getpid()) {
		t.Fatalf("%+v, %v", before, err)
	}
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
	}
	after, err := treeUsage(os.Getpid())
	if used, _ := after.cpuSince(before); err != nil || used <= 0 {
		t.Errorf("%v, %v", used, err)
	}
	if none, err := treeUsage(0); err != nil || none.cpu != 0 {
		t.Errorf("no process: %+v, %v", none, err)
	}
}

func TestTimeline(t *testing.T) {
	spec := &loadSpec{Bucket: 100 * time.Millisecond, Slow: 50 * time.Millisecond}
	var a, b timeline
	a.add(spec, 10*time.Millisecond, 60*time.Millisecond, nil)
	a.add(spec, -time.Millisecond, time.Millisecond, nil)
	b.add(spec, 20*time.Millisecond, 90*time.Millisecond, errors.New("refused"))
	b.add(spec, 250*time.Millisecond, 10*time.Millisecond, nil)
	want := []moment{{90 * time.Millisecond, 2, 1}, {}, {10 * time.Millisecond, 0, 0}}
	if got := b.into(a.into(nil)); !slices.Equal(got, want) || a.slow != 1 || b.slow != 1 {
		t.Errorf("%v, %d and %d slow", got, a.slow, b.slow)
	}
}

func TestRenewals(t *testing.T) {
	start := time.Now()
	at := func(seconds ...float64) (times []time.Time) {
		for _, s := range seconds {
			times = append(times, start.Add(time.Duration(s*float64(time.Second))))
		}
		return times
	}
	run := stampedeRun{Calls: at(8.1, 8.0, 16, 8.3), Lapse: loadResult{From: start, Timeline: make([]moment, 200)}}
	if got := run.renewals(12 * time.Second); !slices.Equal(got, []int{3, 1}) {
		t.Errorf("%v", got)
	}
	if got := run.renewalTimes(12 * time.Second); !slices.EqualFunc(got, at(8.0, 16), time.Time.Equal) {
		t.Errorf("%v", got)
	}
	run.Lapse.Timeline[80].Slow = 5   // while the token is fetched
	run.Lapse.Timeline[162].Slow = 2  // just after
	run.Lapse.Timeline[120].Slow = 70 // between renewals
	if n := run.waitedAtRenewal(); n != 7 {
		t.Errorf("%d waited", n)
	}
}

// Goals that were not measured are not said to hold.
func TestGoals(t *testing.T) {
	figure := func(cpu time.Duration, requests int64, p50 time.Duration) loadResult {
		return loadResult{CPU: cpu, Requests: requests, Elapsed: time.Second, P50: p50, P99: 2 * p50}
	}
	r := &results{figures: map[cell][]loadResult{
		{"tls", "get-64", "lingpai"}: {figure(9*time.Millisecond, 100, 0), figure(9*time.Millisecond, 100, 0)},
		{"tls", "get-64", "nginx"}:   {figure(10*time.Millisecond, 100, 0), figure(10*time.Millisecond, 80, 0)},
		{"tls", "rate-64", "direct"}: {figure(0, 10, 100*time.Microsecond)},
		{"tls", "rate-64", "nginx"}:  {figure(1, 10, 150*time.Microsecond)},
		{"tls", "rate-64", "lingpai"}: {
			figure(1, 10, 170*time.Microsecond)},
	}, memory: map[cell][]memory{{"tls", idleOne, "lingpai"}: {{RSS: 17 << 20, PSS: 15 << 20}}}}
	r.loads = []workload{{name: "get-64", connections: 64}, {name: "rate-64", rate: 1000}}
	verdicts := map[string]string{}
	for _, g := range r.goals(options{upstreams: []string{"tls"}}) {
		verdicts[g.What] = g.Measured + ", " + g.Verdict
	}
	for what, want := range map[string]string{
		"HTTPS upstream: CPU ÷ nginx, one fixed token":                  "0.81 (0.77–0.85), yes",
		"HTTP upstream: CPU ÷ nginx, one fixed token":                   "–, not measured",
		"HTTPS upstream: requests/s ÷ nginx, one fixed token":           "1.12 (1.06–1.19), yes",
		"HTTPS upstream, 1000 requests a second: added p50 ÷ nginx's":   "1.40, **no**",
		"HTTPS upstream, 1000 requests a second: p99 ÷ bare fasthttp's": "–, not measured",
		"HTTPS upstream: RSS, idle":                                     "17.0 MiB, **no**",
		"HTTPS upstream: RSS, 256 connections":                          "–, not measured",
	} {
		if verdicts[what] != want {
			t.Errorf("%s: %q, want %q", what, verdicts[what], want)
		}
	}
	if strings.Contains(spreadOf(nil).quartiles("%.2f"), "NaN") {
		t.Error("no figures are printed as NaN")
	}
}
