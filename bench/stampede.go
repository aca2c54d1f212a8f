package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stampede is how one way of keeping tokens stands callers who all want one.
type stampede struct {
	Scheme, Title string // the scheme "" is lingpai
	Upstream      string // plain, tls
	Repeats       []stampedeRun
}

type stampedeRun struct {
	Cold, Lapse loadResult
	ColdCalls   int         // calls to the token endpoint
	Calls       []time.Time // the same while tokens lapse
}

const (
	coldCallers  = 256
	tokenLatency = 200 * time.Millisecond // of the stub's token endpoint
	// waited is how long an answer takes of which is said that its caller waited.
	waited = tokenLatency / 2
	// stampedeBucket is how finely its timeline is divided.
	stampedeBucket = 100 * time.Millisecond
	// stampedeRepeats bounds the repeats, which are long.
	stampedeRepeats = 3
	// noTokens is the scheme that never asks for a token.
	noTokens = "fixed"
)

// waysToKeepTokens are what is compared.
var waysToKeepTokens = []struct{ scheme, title string }{
	{"", "lingpai"},
	{"naive", "expiry looked at before each call, nothing shared"},
	{"wxcomponent", "wxcomponent's scheme"},
	{noTokens, "a token that never ends, for comparison"},
}

// stampede measures all ways.
func (r *runner) stampede(ctx context.Context) error {
	for _, kind := range r.options.stampedeUpstreams {
		first := len(r.stampedes)
		for _, way := range waysToKeepTokens {
			r.stampedes = append(r.stampedes, stampede{Scheme: way.scheme, Title: way.title, Upstream: kind})
		}
		for repeat := range min(r.options.repeats, stampedeRepeats) {
			for i := range waysToKeepTokens {
				s := &r.stampedes[first+i]
				fmt.Fprintf(r.progress, "stampede, %s, repeat %d: %s, for %v\n", kind, repeat+1, s.Title, r.options.stampedeTime())
				one, err := r.oneStampede(ctx, s.Scheme, kind, strconv.Itoa(repeat))
				if err != nil {
					return fmt.Errorf("stampede, %s: %w", s.Title, err)
				}
				s.Repeats = append(s.Repeats, one)
			}
		}
	}
	return nil
}

// stampedeTime is how long the load goes on: a bit longer than the lifetimes, for
// the end of the last to be seen whole.
func (o options) stampedeTime() time.Duration {
	return time.Duration(o.lapses)*o.lifetime + o.lifetime/6
}

func (r *runner) oneStampede(ctx context.Context, scheme, kind, repeat string) (s stampedeRun, err error) {
	var at stubReady
	stub, err := part(ctx, "part-stub", r.others, stubSpec{
		Apps: 1, Cert: r.certs.cert, Key: r.certs.key, Lifetime: r.options.lifetime, TokenLatency: tokenLatency,
	}, &at)
	if err != nil {
		return s, err
	}
	defer stub.stop()
	u := r.upstreamOf(at, kind, 1)
	proxy := &running{}
	if scheme == "" {
		dir := filepath.Join(r.dir, "stampede", kind, repeat)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return s, err
		}
		proxy.address, proxy.process, err = startLingpai(ctx, &r.site, u, dir)
	} else {
		var ready goProxyReady
		spec := goProxySpec{Upstream: u.address, TLS: u.tls, Root: u.root, Scheme: scheme, Lifetime: r.options.lifetime}
		if scheme == noTokens {
			spec.Scheme, spec.Token = "", tokenOf(appID(0))
		}
		proxy.process, err = part(ctx, "part-fasthttp", r.site.prefix, spec, &ready)
		proxy.address = ready.Address
	}
	if err != nil {
		return s, err
	}
	defer proxy.process.stop()

	cold := r.spec(proxy, u, workload{method: "GET", connections: coldCallers})
	cold.Calls = coldCallers
	if s.Cold, err = r.load(ctx, cold); err != nil {
		return s, err
	}
	if s.ColdCalls, err = tokenCalls(at.Plain); err != nil {
		return s, err
	}
	lapse := r.spec(proxy, u, workload{method: "GET", connections: r.options.stampedeConnections(), rate: r.options.stampedeRate})
	lapse.Duration = r.options.stampedeTime()
	lapse.Bucket, lapse.Slow = stampedeBucket, waited
	if s.Lapse, err = r.load(ctx, lapse); err != nil {
		return s, err
	}
	counts, err := countsOf(http.DefaultClient, at.Plain, true)
	s.Calls = counts.TokenTimes
	return s, err
}

// stampedeConnections is enough for all who come while a token is being fetched
// to wait on a connection of their own, twice over.
func (o options) stampedeConnections() int {
	return max(coldCallers, int(2*tokenLatency.Seconds()*float64(o.stampedeRate)))
}

// tokenCalls asks the stub how many tokens it gave since it was last asked.
func tokenCalls(address string) (int, error) {
	counts, err := countsOf(http.DefaultClient, address, true)
	return int(counts.TokenCalls), err
}

// renewals counts the calls for each token: calls that are closer together than
// a quarter of a token's life want the same one.
func (s stampedeRun) renewals(lifetime time.Duration) (counts []int) {
	s.eachCall(lifetime, func(_ time.Time, first bool) {
		if first {
			counts = append(counts, 0)
		}
		counts[len(counts)-1]++
	})
	return counts
}

// renewalTimes tells when they began.
func (s stampedeRun) renewalTimes(lifetime time.Duration) (times []time.Time) {
	s.eachCall(lifetime, func(at time.Time, first bool) {
		if first {
			times = append(times, at)
		}
	})
	return times
}

// eachCall tells of each call whether it is the first for a token.
func (s stampedeRun) eachCall(lifetime time.Duration, tell func(at time.Time, first bool)) {
	var last time.Time
	for _, at := range slices.SortedFunc(slices.Values(s.Calls), time.Time.Compare) {
		tell(at, at.Sub(last) > lifetime/4)
		last = at
	}
}

// waitedAtRenewal counts the callers that waited while a token was being fetched
// or just after; others waited for the machine.
func (s stampedeRun) waitedAtRenewal() int {
	n := 0
	for i, m := range s.Lapse.Timeline {
		from := s.Lapse.From.Add(time.Duration(i) * stampedeBucket)
		if slices.ContainsFunc(s.Calls, func(call time.Time) bool {
			return call.After(from.Add(-tokenLatency-stampedeBucket)) && call.Before(from.Add(2*stampedeBucket))
		}) {
			n += m.Slow
		}
	}
	return n
}

// over collects a figure of all repeats.
func (s stampede) over(figure func(stampedeRun) float64) spread {
	var all []float64
	for _, one := range s.Repeats {
		all = append(all, figure(one))
	}
	return spreadOf(all)
}

// middle returns the repeat in the middle, by callers that waited.
func (s stampede) middle() stampedeRun {
	sorted := slices.SortedStableFunc(slices.Values(s.Repeats), func(a, b stampedeRun) int { return cmp.Compare(a.Lapse.Slow, b.Lapse.Slow) })
	return sorted[len(sorted)/2]
}

func (r *results) stampedeTables(b *bytes.Buffer, o options) {
	if len(r.stampedes) == 0 {
		return
	}
	fmt.Fprintf(b, "## Stampede\n\nOne account; its token lives for %v, and the upstream takes %v to give one. First %d callers at once, of whom none has a token "+
		"and no connection to the upstream is open; then %d requests a second for %d lifetimes. Waits count from when a request should have begun; "+
		"*waited* are callers whose answer or failure took more than %v. Medians of %d repeats, with least and most.\n\n",
		o.lifetime, tokenLatency, coldCallers, o.stampedeRate, o.lapses, waited, min(o.repeats, stampedeRepeats))
	for _, kind := range o.stampedeUpstreams {
		fmt.Fprintf(b, "### Upstream: %s\n\n", kindTitles[kind])
		b.WriteString("| | cold: token calls | longest wait ms | failed | lapses: token calls for each renewal | waited | p99 ms | longest wait ms | refused (42001) | failed otherwise |\n")
		b.WriteString("|---|---:|---:|---:|---|---:|---:|---:|---:|---:|\n")
		for _, s := range r.stampedes {
			if s.Upstream == kind {
				s.row(b, o)
			}
		}
		b.WriteString("\n")
	}
}

func (s stampede) row(b *bytes.Buffer, o options) {
	var renewals []string
	for _, one := range s.Repeats {
		text := strings.Trim(fmt.Sprint(one.renewals(o.lifetime)), "[]")
		if text == "" {
			text = "none"
		}
		renewals = append(renewals, text)
	}
	inMilliseconds := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", s.Title,
		s.over(func(r stampedeRun) float64 { return float64(r.ColdCalls) }).format("%.0f"),
		s.over(func(r stampedeRun) float64 { return inMilliseconds(r.Cold.Max) }).format("%.0f"),
		s.over(func(r stampedeRun) float64 { return float64(r.Cold.Failed) }).format("%.0f"),
		strings.Join(renewals, "; "),
		s.over(func(r stampedeRun) float64 { return float64(r.Lapse.Slow) }).format("%.0f"),
		s.over(func(r stampedeRun) float64 { return inMilliseconds(r.Lapse.P99) }).format("%.2f"),
		s.over(func(r stampedeRun) float64 { return inMilliseconds(r.Lapse.Max) }).format("%.1f"),
		s.over(func(r stampedeRun) float64 { return float64(r.Lapse.Refused) }).format("%.0f"),
		s.over(func(r stampedeRun) float64 { return float64(r.Lapse.Failed - r.Lapse.Refused) }).format("%.0f"))
}
