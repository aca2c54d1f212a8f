package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"lingpai/metrics"
	"lingpai/tokens"
)

// probeWithin bounds a probe.
const probeWithin = 2 * time.Second

// Health is what the probes ask.
type Health interface {
	// Ready returns nil if listeners are up and the store has been opened, and
	// the program is not stopping.
	Ready() error
}

// Probes serves /livez, /readyz, /tokenz and /metrics.
func Probes(service *tokens.Service, health Health, m *metrics.Metrics) http.Handler {
	p := &probes{tokens: service, health: health, metrics: m}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /livez", p.livez)
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.HandleFunc("GET /tokenz", p.tokenz)
	return mux
}

type probes struct {
	tokens  *tokens.Service
	health  Health
	metrics *metrics.Metrics
	store   storeCheck
}

// check is one line of a probe's verbose answer.
type check struct {
	name string
	err  error
	// advisory checks are shown, but do not make the probe fail.
	advisory bool
}

var errStore = errors.New("the store does not answer: valid tokens are served on, none is renewed")

// livez: the process answers.
func (p *probes) livez(w http.ResponseWriter, r *http.Request) {
	answer(w, r, check{name: "process"})
}

// readyz: listeners up and store opened. The ticket is no part of it, since it
// cannot arrive before the pod is ready; nor is a store lost later, since a
// sidecar that is not ready takes its app out of service though it may still
// hold valid tokens.
func (p *probes) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeWithin)
	defer cancel()
	err := p.store.ask(ctx, p.tokens.Ping)
	p.metrics.StoreUp(err == nil)
	if err != nil {
		err = errStore
	}
	answer(w, r, check{name: "listeners", err: p.health.Ready()}, check{name: "store", err: err, advisory: true})
}

// tokenz: a call could get a component token now.
func (p *probes) tokenz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeWithin)
	defer cancel()
	answer(w, r, check{name: "component_token", err: p.tokens.Obtainable(ctx)})
}

// answer writes a probe's answer: reasons if it fails, all checks if asked for.
func answer(w http.ResponseWriter, r *http.Request, checks ...check) {
	_, verbose := r.URL.Query()["verbose"]
	status, text := http.StatusOK, strings.Builder{}
	for _, c := range checks {
		if c.err != nil && !c.advisory {
			status = http.StatusServiceUnavailable
		}
		switch {
		case c.err != nil && (verbose || !c.advisory):
			fmt.Fprintf(&text, "[-]%s: %v\n", c.name, c.err)
		case verbose:
			fmt.Fprintf(&text, "[+]%s ok\n", c.name)
		}
	}
	if text.Len() == 0 {
		text.WriteString("ok\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprint(w, text.String())
}
