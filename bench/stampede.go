package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// stampede is how one way of keeping tokens stands callers who all want one.
type stampede struct {
	scheme      string // "" is lingpai
	title       string
	cold, lapse loadResult
	coldCalls   int // calls to the token endpoint
	lapseCalls  int
}

const (
	coldCallers  = 256
	tokenLatency = 200 * time.Millisecond // of the stub's token endpoint
)

// stampede measures all ways.
func (r *runner) stampede(ctx context.Context) error {
	for _, way := range []struct{ scheme, title string }{
		{"", "lingpai"},
		{"naive", "expiry looked at before each call, nothing shared"},
		{"wxcomponent", "wxcomponent's scheme"},
	} {
		fmt.Fprintf(r.progress, "stampede: %s, for %v\n", way.title, time.Duration(r.options.lapses)*r.options.lifetime)
		s, err := r.oneStampede(ctx, way.scheme)
		if err != nil {
			return fmt.Errorf("stampede, %s: %w", way.title, err)
		}
		s.scheme, s.title = way.scheme, way.title
		r.stampedes = append(r.stampedes, s)
	}
	return nil
}

func (r *runner) oneStampede(ctx context.Context, scheme string) (s stampede, err error) {
	var at stubReady
	stub, err := part(ctx, "part-stub", r.others, stubSpec{
		Apps: 1, Cert: r.certs.cert, Key: r.certs.key, Lifetime: r.options.lifetime, TokenLatency: tokenLatency,
	}, &at)
	if err != nil {
		return s, err
	}
	defer stub.stop()
	u := upstream{address: at.Plain, root: r.certs.root, apps: 1}
	proxy := &running{}
	if scheme == "" {
		dir := filepath.Join(r.dir, "stampede")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return s, err
		}
		proxy.address, proxy.process, err = startLingpai(ctx, &r.site, u, dir)
	} else {
		var ready goProxyReady
		spec := goProxySpec{Upstream: u.address, Root: u.root, Scheme: scheme, Lifetime: r.options.lifetime}
		proxy.process, err = part(ctx, "part-fasthttp", r.site.prefix, spec, &ready)
		proxy.address = ready.Address
	}
	if err != nil {
		return s, err
	}
	defer proxy.process.stop()

	cold := r.spec(proxy, u, workload{method: "GET", connections: coldCallers})
	cold.Calls = coldCallers
	if s.cold, err = r.load(ctx, cold); err != nil {
		return s, err
	}
	if s.coldCalls, err = tokenCalls(at.Plain); err != nil {
		return s, err
	}
	lapse := r.spec(proxy, u, workload{method: "GET", connections: coldCallers, rate: r.options.rate})
	lapse.Warmup, lapse.Duration = 0, time.Duration(r.options.lapses)*r.options.lifetime
	if s.lapse, err = r.load(ctx, lapse); err != nil {
		return s, err
	}
	s.lapseCalls, err = tokenCalls(at.Plain)
	return s, err
}

// tokenCalls asks the stub how many tokens it gave since it was last asked.
func tokenCalls(address string) (int, error) {
	response, err := http.Get("http://" + address + tokenCallsPath)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

func (r *results) stampedeTable(b *bytes.Buffer, o options) {
	if len(r.stampedes) == 0 {
		return
	}
	fmt.Fprintf(b, "## Stampede\n\nOne account; its token lives for %v, and the upstream takes %v to give one. First %d callers at once, of whom none has a token; "+
		"then %d requests a second for %d lifetimes. Waits count from when a request should have begun. One run of each.\n\n",
		o.lifetime, tokenLatency, coldCallers, o.rate, o.lapses)
	b.WriteString("| | cold: token calls | longest wait ms | failed | lapses: token calls | p50 ms | p99 ms | p99.9 ms | longest wait ms | failed |\n")
	b.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, s := range r.stampedes {
		fmt.Fprintf(b, "| %s | %d | %s | %d | %d | %s | %s | %s | %s | %d of %d |\n", s.title,
			s.coldCalls, milliseconds(s.cold.Max), s.cold.Failed, s.lapseCalls,
			milliseconds(s.lapse.P50), milliseconds(s.lapse.P99), milliseconds(s.lapse.P999), milliseconds(s.lapse.Max),
			s.lapse.Failed, s.lapse.Failed+s.lapse.Requests)
	}
	b.WriteString("\n")
}
