package admin

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"lingpai/tokens"
	"lingpai/tokens/wechat/wechattest"
)

// probe asks for a probe in both forms.
func (w *world) probe(path string, want int, short, verbose string) {
	w.t.Helper()
	for target, text := range map[string]string{path: short, path + "?verbose": verbose, path + "?verbose=1": verbose} {
		rec := w.do(w.probes, httptest.NewRequest("GET", target, nil))
		if rec.Code != want || !strings.HasPrefix(rec.Body.String(), text) || rec.Header().Get("Cache-Control") != "no-store" {
			w.t.Errorf("%s: %d %q, want %d %q", target, rec.Code, rec.Body, want, text)
		}
		if rec := w.do(w.probes, httptest.NewRequest("HEAD", target, nil)); rec.Code != want {
			w.t.Errorf("HEAD %s: %d", target, rec.Code)
		}
	}
}

func TestProbes(t *testing.T) {
	w := newWorld(t)
	w.probe("/livez", 200, "ok\n", "[+]process ok\n")
	w.probe("/readyz", 200, "ok\n", "[+]listeners ok\n[+]store ok\n") // the ticket comes later
	w.probe("/tokenz", 503, "[-]component_token: ", "[-]component_token: ")
	w.give()
	w.probe("/tokenz", 200, "ok\n", "[+]component_token ok\n")
	if n := w.sim.Count(tokenPath); n != 0 {
		t.Errorf("a probe called WeChat %d times", n)
	}

	// The AppSecret is wrong: only a person can mend that.
	w.sim.AddFault(wechattest.Fault{Path: tokenPath, Kind: wechattest.FaultErrcode, Errcode: 40125})
	w.call(503, "POST", "/v1/component/refresh", "")
	rec := w.do(w.probes, httptest.NewRequest("GET", "/tokenz", nil))
	if rec.Code != 503 || !strings.Contains(rec.Body.String(), "40125") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.probe("/readyz", 200, "ok\n", "[+]listeners ok\n[+]store ok\n")
	w.sim.ClearFaults()
	w.call(200, "POST", "/v1/component/refresh", "")
	w.probe("/tokenz", 200, "ok\n", "[+]component_token ok\n")

	w.ready = errors.New("stopping")
	w.probe("/readyz", 503, "[-]listeners: stopping\n", "[-]listeners: stopping\n[+]store ok\n")
	w.probe("/livez", 200, "ok\n", "[+]process ok\n")
}

// A store lost later takes no app out of service, but is told.
func TestProbesWithoutStore(t *testing.T) {
	w := newWorld(t)
	up := func(want float64) {
		t.Helper()
		if got, _ := w.metrics.Gather("lingpai_store_up", nil); got != want {
			t.Errorf("store_up %v", got)
		}
	}
	w.store.fail(errors.New("disk on fire"))
	w.probe("/readyz", 200, "ok\n", "[+]listeners ok\n[-]store: the store does not answer")
	up(0)
	w.probe("/tokenz", 503, "[-]component_token: the store does not work", "[-]component_token: the store does not work")
	w.probe("/livez", 200, "ok\n", "[+]process ok\n")
	w.store.err.Store(nil)
	w.probe("/readyz", 200, "ok\n", "[+]listeners ok\n[+]store ok\n")
	up(1)

	// A token in memory serves on.
	w.give()
	if _, err := w.service.ComponentToken(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.store.fail(errors.New("disk on fire"))
	w.probe("/tokenz", 200, "ok\n", "[+]component_token ok\n")
}

// A disk that hangs heeds no deadline: the probe answers all the same, and asks
// once.
func TestProbesWithHangingStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hang := make(chan struct{})
	w.store.hang.Store(&hang)
	began := time.Now()
	rec := w.do(w.probes, httptest.NewRequest("GET", "/readyz?verbose", nil))
	if took := time.Since(began); rec.Code != 200 || !strings.Contains(rec.Body.String(), "[-]store") || took > probeWithin+2*time.Second {
		t.Errorf("%d %s after %v", rec.Code, rec.Body, took)
	}
	w.store.hang.Store(nil)
	close(hang)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if rec := w.do(w.probes, httptest.NewRequest("GET", "/readyz?verbose", nil)); strings.Contains(rec.Body.String(), "[+]store") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the store is not found to work again")
		}
	}
}

func TestTokenzOfDirectAccounts(t *testing.T) {
	w := newWorld(t, withoutComponent)
	w.probe("/tokenz", 200, "ok\n", "[+]component_token ok\n")
	w = newWorld(t, withoutComponent, func(c *tokens.Config) { c.Accounts = nil })
	w.probe("/tokenz", 503, "[-]component_token: no component", "[-]component_token: no component")
}

func TestMetricsCanBeParsed(t *testing.T) {
	w := newWorld(t)
	rec := w.do(w.probes, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 200 {
		t.Fatal(rec.Code)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lingpai_requests_total", "lingpai_store_up", "lingpai_pushes_total", "lingpai_build_info", "go_goroutines"} {
		if families[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if rec := w.do(w.probes, httptest.NewRequest("HEAD", "/metrics", nil)); rec.Code != 200 {
		t.Errorf("HEAD: %d", rec.Code)
	}
	for _, path := range []string{"/livez", "/readyz", "/tokenz", "/metrics"} {
		if rec := w.do(w.probes, httptest.NewRequest("POST", path, nil)); rec.Code != 405 || rec.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d", path, rec.Code)
		}
	}
	for _, path := range []string{"/", "/v1/status", "/v1/reload", "/debug/pprof/", "/livez/x"} {
		if rec := w.do(w.probes, httptest.NewRequest("GET", path, nil)); rec.Code != 404 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}
