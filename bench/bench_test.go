package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The test binary stands in for bench where bench starts itself.
func TestMain(m *testing.M) {
	if code, ok := runPart(os.Args[1:]); ok {
		os.Exit(code)
	}
	dir, err := os.MkdirTemp("", "bench-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv("TMPDIR", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// Whole runs with tiny figures. Nothing is left behind by any of them.
func TestRuns(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("CPU and memory are read from /proc")
	}
	t.Run("all", func(t *testing.T) {
		t.Run("plain", func(t *testing.T) { t.Parallel(); testQuickRun(t, "plain", "post,1m,rate") })
		t.Run("tls", func(t *testing.T) { t.Parallel(); testQuickRun(t, "tls", "get,mix,10k") })
		t.Run("stampede", func(t *testing.T) { t.Parallel(); testStampede(t) })
		t.Run("interrupted", func(t *testing.T) { t.Parallel(); testInterruptedRun(t) })
	})
	checkNothingLeft(t)
}

// Every peer is measured or named as missing, and no request fails.
func testQuickRun(t *testing.T, kind, workloads string) {
	o, err := parseOptions([]string{"-quick", "-only=proxies", "-duration=30ms", "-warmup=10ms", "-connections=4", "-apps=20",
		"-upstream=" + kind, "-workloads=" + workloads, "-save", "-results=" + t.TempDir()}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if kind == "plain" {
		o.memoryUpstreams = nil // once is enough
	}
	var progress strings.Builder
	r, err := measure(context.Background(), o, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	var tables bytes.Buffer
	if err := r.publish(o, &tables, &progress); err != nil {
		t.Fatal(err)
	}
	if r.failed() > 0 {
		t.Errorf("%d requests failed:\n%s", r.failed(), &progress)
	}
	present := map[string]bool{}
	for _, p := range r.present {
		present[p.name] = true
	}
	for _, name := range allPeers {
		title := peers[name].title
		if !present[name] {
			if !strings.Contains(tables.String(), "**Missing**: "+title) {
				t.Errorf("%s is neither measured nor named as missing", name)
			}
			continue
		}
		var requests int64
		for _, kind := range o.upstreams {
			for _, w := range r.loads {
				figures := r.figures[cell{kind, w.name, name}]
				if len(figures) != o.repeats {
					t.Errorf("%s, %s, %s: %+v", kind, w.name, name, figures)
				}
				for _, one := range figures {
					requests += one.Requests
				}
			}
			if name != "direct" && r.medianMemory(kind, primed, name).PSS == 0 {
				t.Errorf("%s, %s: no memory", kind, name)
			}
		}
		if requests == 0 {
			t.Errorf("%s answered nothing", name)
		}
		if kind == "tls" && name != "direct" && (r.medianMemory(kind, idleOne, name).PSS == 0 || r.medianMemory(kind, loadedOne, name).PSS == 0) {
			t.Errorf("%s: no memory with one account", name)
		}
	}
	for _, name := range []string{"direct", "lingpai", "fasthttp", "reverseproxy"} {
		if !present[name] {
			t.Errorf("%s needs no package and is missing", name)
		}
	}
	if n := strings.Count(tables.String(), "\n### "); n != 2+len(r.loads) { // and all together, and memory
		t.Errorf("%d tables:\n%s", n, &tables)
	}
	kept, _ := filepath.Glob(filepath.Join(o.results, "*"))
	if len(kept) != 3 {
		t.Errorf("kept: %v", kept)
	}
	for _, file := range kept {
		if text, _ := os.ReadFile(file); strings.HasSuffix(file, ".json") && !json.Valid(text) {
			t.Errorf("%s: %s", file, text)
		}
	}
	if err := r.publish(o, io.Discard, io.Discard); err != nil {
		t.Error(err)
	}
	if again, _ := filepath.Glob(filepath.Join(o.results, "*")); len(again) != 2*len(kept) {
		t.Errorf("kept by a second run: %v", again)
	}
	if err := xml.Unmarshal(r.picture(o), new(struct{})); err != nil {
		t.Errorf("the picture: %v", err)
	}
}

// Callers without a token make lingpai ask once; those without a flight all ask.
func testStampede(t *testing.T) {
	o, err := parseOptions([]string{"-quick", "-only=stampede", "-stampede-rate=200"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	r, err := measure(context.Background(), o, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var tables bytes.Buffer
	if err := r.publish(o, &tables, io.Discard); err != nil || len(r.stampedes) != len(waysToKeepTokens) {
		t.Fatalf("%v, %d ways", err, len(r.stampedes))
	}
	own := r.stampedes[0].Repeats[0]
	// On a slow machine the first renewal may come before all have their answer.
	late := own.Cold.Elapsed > o.lifetime/2
	if own.ColdCalls != 1 && !late || own.ColdCalls == 0 || len(own.Calls) == 0 || r.failed() > 0 {
		t.Errorf("lingpai: %+v", own)
	}
	if naive := r.stampedes[1].Repeats[0]; naive.ColdCalls < 2 {
		t.Errorf("without a flight, only %d token calls", naive.ColdCalls)
	}
	for _, s := range r.stampedes {
		if one := s.Repeats[0]; len(one.Lapse.Timeline) == 0 || one.Cold.Requests == 0 || one.Lapse.Requests == 0 || !strings.Contains(tables.String(), "| "+s.Title+" |") {
			t.Errorf("%+v\n%s", s, &tables)
		}
	}
	if picture := r.stampedePicture(o); xml.Unmarshal(picture, new(struct{})) != nil || bytes.Contains(picture, []byte("%!")) {
		t.Errorf("the picture: %s", picture)
	}
}

// A run that is interrupted ends all that it has started.
func testInterruptedRun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o, err := parseOptions([]string{"-duration=1m", "-connections=1", "-apps=2"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	progress := writerFunc(func(p []byte) {
		if bytes.Contains(p, []byte("starting httputil")) {
			time.AfterFunc(time.Second, cancel)
		}
	})
	if _, err := measure(ctx, o, progress); err == nil || time.Since(began) > 50*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func checkNothingLeft(t *testing.T) {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == fmt.Sprint(os.Getpid()) {
			t.Errorf("a process is left: %s", text)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "lingpai-bench-*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 10_000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.99: 9900 * time.Microsecond, 1: 10 * time.Millisecond} {
		if got := h.quantile(q); got < want || got > want+want/256 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	for d := time.Duration(1); d < time.Minute; d = d*5/4 + 1 {
		if b := bucket(d); upper(b) < d || b > 0 && upper(b-1) >= d {
			t.Errorf("%v in bucket %d, from above %v to %v", d, b, upper(b-1), upper(b))
		}
	}
	if (&histogram{}).quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
}

func TestSpread(t *testing.T) {
	check := func(want string, figures ...float64) {
		t.Helper()
		if got := spreadOf(figures).format("%.1f"); got != want {
			t.Errorf("%v: %s, want %s", figures, got, want)
		}
	}
	check("–")
	check("2.0", 2)
	check("2.5 (2.0–3.0)", 3, 2)
	check("3.0 (1.0–9.0)", 9, 1, 3)
}

func TestOptionFaults(t *testing.T) {
	for _, args := range []string{"-connections=0", "-connections=a", "-peers=apache", "-workloads=put", "-upstream=quic", "-repeats=0", "-workers=0",
		"-only=peers", "-lifetime=1500ms", "-lapses=0", "x"} {
		if _, err := parseOptions([]string{args}, io.Discard); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
}

// The stub takes a token for its own account alone, and only whole.
func TestTokenFits(t *testing.T) {
	own, other := appID(1), appID(2)
	if !tokenFits([]byte(tokenOf(own)), []byte(own)) {
		t.Error("the right token is refused")
	}
	for _, token := range []string{"", tokenOf(other), tokenOf(own)[:100], tokenOf(own) + "&"} {
		if tokenFits([]byte(token), []byte(own)) {
			t.Errorf("%q is taken", token)
		}
	}
}
