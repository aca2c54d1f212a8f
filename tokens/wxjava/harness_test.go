package wxjava

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store/redis/redistest"
)

const (
	platform = "wxcccc0001"
	merchant = "wxaaaa0001"

	componentKey = "wx:open:wechat_component_access_token:wxcccc0001"
	merchantKey  = "wx:open:wechat_authorizer_access_token:wxcccc0001:wxaaaa0001"
)

// fixture is a Publisher and what it told.
type fixture struct {
	*Publisher
	log buffer

	mu      sync.Mutex
	results map[string]int
	foreign []string
}

func newFixture(t testing.TB, url string, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{results: map[string]int{}}
	opts := Options{
		URL:       secret.New(url),
		KeyPrefix: "wx:open",
		Component: platform,
		Log:       slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observe: func(result string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.results[result]++
		},
		Foreign: func(kind, appID string, held secret.String) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.foreign = append(f.foreign, kind+" "+appID+" "+held.Reveal())
		},
	}
	for _, c := range change {
		c(&opts)
	}
	p, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	f.Publisher = p
	return f
}

// running is newFixture with Run until the end of the test.
func running(t testing.TB, url string, change ...func(*Options)) *fixture {
	t.Helper()
	f := newFixture(t, url, change...)
	stop := f.start(t)
	t.Cleanup(stop)
	return f
}

// start starts Run; stop ends it and waits.
func (f *fixture) start(t testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	return func() {
		t.Helper()
		cancel()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("Run does not end with its context")
		}
	}
}

func (f *fixture) count(result string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.results[result]
}

// settled is how many values have been worked on, whatever became of them.
func (f *fixture) settled() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for result, count := range f.results {
		if result != ResultError {
			n += count
		}
	}
	return n
}

func (f *fixture) foreigners() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.foreign...)
}

// publish is Publish of a fresh token, and waits until it is worked on.
func (f *fixture) publish(t testing.TB, kind, appID, value string) {
	t.Helper()
	before := f.settled()
	f.Publish(kind, appID, secret.New(value), inTwoHours())
	eventually(t, value+" is worked on", func() bool { return f.settled() > before })
}

func inTwoHours() time.Time { return time.Now().Add(2 * time.Hour) }

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// get is the plain text at a key, "" if there is none.
func get(t testing.TB, srv *redistest.Server, key string) string {
	t.Helper()
	_, text, _ := strings.Cut(srv.Must("GET "+key), "\r\n")
	return strings.TrimSuffix(text, "\r\n")
}

// number is the answer to a command that answers one.
func number(t testing.TB, srv *redistest.Server, command string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.Trim(srv.Must(command), ":\r\n"), 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return n
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

// goroutines are the stacks of those that this package or its library runs.
func goroutines() []string {
	all := make([]byte, 1<<20)
	all = all[:runtime.Stack(all, true)]
	var ours []string
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		if strings.Contains(stack, "rueidis") || strings.Contains(stack, "wxjava.(*Publisher)") || strings.Contains(stack, "store/redis.") {
			ours = append(ours, stack)
		}
	}
	return ours
}
