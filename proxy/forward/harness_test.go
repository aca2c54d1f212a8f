package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
)

const (
	alice = "wxaaaaaaaaaaaaaaaa"
	bob   = "wxbbbbbbbbbbbbbbbb"
	key   = "target-secret-hush"
)

// inProcess is an http.RoundTripper that runs a handler without a network. As
// over a network, a caller that leaves does not stop the handler.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	done := make(chan *http.Response, 1)
	body, _ := io.ReadAll(r.Body)
	go func() {
		w := httptest.NewRecorder()
		defer func() {
			if recover() != nil { // http.ErrAbortHandler
				done <- nil
			}
		}()
		r := r.Clone(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.handler.ServeHTTP(w, r)
		done <- w.Result()
	}()
	select {
	case got := <-done:
		if got == nil {
			return nil, io.EOF
		}
		return got, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// got is a request that an app got.
type got struct {
	at     time.Time
	host   string
	header http.Header
	body   string
}

// world is a Forwarder, its store and the apps it delivers to.
type world struct {
	t     *testing.T
	f     *Forwarder
	m     *metrics.Metrics
	disk  *shaky
	log   *syncBuffer
	began time.Time

	mu  sync.Mutex
	got []got
	// app answers requests, once they are recorded; nil answers 200.
	app http.HandlerFunc
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var errDisk = errors.New("disk fault")

// kept gives the embedded field a name that no method has.
type kept = store.Deliveries

// shaky is a store that can fail.
type shaky struct {
	kept
	slow atomic.Int64 // how long a Delivery takes
	fail atomic.Pointer[func(op string) bool]
}

func (s *shaky) failing(ops ...string) {
	f := func(op string) bool {
		for _, o := range ops {
			if o == op {
				return true
			}
		}
		return false
	}
	s.fail.Store(&f)
}

func (s *shaky) fault(op string) error {
	if f := s.fail.Load(); f != nil && (*f)(op) {
		return errDisk
	}
	return nil
}

func (s *shaky) AddDeliveries(ctx context.Context, ds []store.Delivery) (int, error) {
	if err := s.fault("add"); err != nil {
		return 0, err
	}
	return s.kept.AddDeliveries(ctx, ds)
}

func (s *shaky) Delivery(ctx context.Context, seq uint64) (store.Delivery, error) {
	time.Sleep(time.Duration(s.slow.Load()))
	if err := s.fault("delivery"); err != nil {
		return store.Delivery{}, err
	}
	return s.kept.Delivery(ctx, seq)
}

func (s *shaky) FindDelivery(ctx context.Context, id string) (store.Delivery, error) {
	if err := s.fault("find"); err != nil {
		return store.Delivery{}, err
	}
	return s.kept.FindDelivery(ctx, id)
}

func (s *shaky) UpdateDelivery(ctx context.Context, seq uint64, fn func(*store.Delivery) error) (store.Delivery, error) {
	if err := s.fault("update"); err != nil {
		return store.Delivery{}, err
	}
	return s.kept.UpdateDelivery(ctx, seq, fn)
}

func (s *shaky) CountDeliveries(ctx context.Context) (store.DeliveryCounts, error) {
	if err := s.fault("count"); err != nil {
		return store.DeliveryCounts{}, err
	}
	return s.kept.CountDeliveries(ctx)
}

func (s *shaky) DeleteDelivery(ctx context.Context, seq uint64) error {
	if err := s.fault("delete"); err != nil {
		return err
	}
	return s.kept.DeleteDelivery(ctx, seq)
}

func (s *shaky) Deliveries(ctx context.Context, target string, after uint64, limit int) ([]store.Delivery, error) {
	if err := s.fault("deliveries"); err != nil {
		return nil, err
	}
	return s.kept.Deliveries(ctx, target, after, limit)
}

// inWorld runs fn in a bubble with a Forwarder to targets that does not run yet.
func inWorld(t *testing.T, targets []Target, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets)
		fn(t, w)
		for _, hush := range []string{key, "hush-code", "hush-text"} {
			if strings.Contains(w.log.String(), hush) {
				t.Errorf("the log shows %s", hush)
			}
		}
	})
}

func newWorld(t *testing.T, targets []Target) *world {
	t.Helper()
	w := &world{
		t: t, m: metrics.New("test", "", ""), log: &syncBuffer{}, began: time.Now(),
		disk: &shaky{kept: memory.New()},
	}
	f, err := New(Options{
		Targets: targets, Store: w.disk, Transport: inProcess{http.HandlerFunc(w.serve)}, Metrics: w.m,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.f = f
	return w
}

// all is a target that wants everything.
func all(name string) Target {
	return Target{Name: name, URL: "http://" + name + "/push", Secret: secret.New(key), Events: []string{"*"}, AppIDs: []string{"*"}}
}

func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.got = append(w.got, got{time.Now(), r.URL.Host, r.Header, string(body)})
	app := w.app
	w.mu.Unlock()
	if app != nil {
		app(rw, r)
	}
}

func (w *world) answer(app http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.app = app
}

func (w *world) answerStatus(status int) {
	w.answer(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(status) })
}

// run begins a Run; stop ends it.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.f.Run(ctx)
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}

// running begins a Run that ends with the test.
func (w *world) running() {
	w.t.Cleanup(w.run())
	w.settle(0)
}

// settle lets time pass, and then all come to rest.
func (w *world) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// take returns what apps have got since the last time.
func (w *world) take() []got {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.got
	w.got = nil
	return out
}

func text(n int) string {
	return fmt.Sprintf("<xml><MsgType><![CDATA[text]]></MsgType><Content>hush-text %d</Content></xml>", n)
}

func (w *world) accept(appID, xml string) {
	w.t.Helper()
	if err := w.f.Accept(w.t.Context(), Push{AppID: appID, XML: secret.New(xml)}); err != nil {
		w.t.Fatal(err)
	}
}

// bodies checks what was got, in order.
func (w *world) bodies(want ...string) []got {
	w.t.Helper()
	all := w.take()
	var have []string
	for _, g := range all {
		have = append(have, g.body)
	}
	if fmt.Sprint(have) != fmt.Sprint(want) {
		w.t.Errorf("got %d %q\nwant %d %q", len(have), have, len(want), want)
	}
	return all
}

// counts checks what the store holds.
func (w *world) counts(pending, dead int) {
	w.t.Helper()
	c, err := w.f.Counts(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, p := range c.Pending {
		n += p
	}
	if n != pending || c.Dead != dead {
		w.t.Errorf("%d pending, %d dead, want %d and %d", n, c.Dead, pending, dead)
	}
}

// counted checks a counter of the target's deliveries.
func (w *world) counted(target, result string, want float64) {
	w.t.Helper()
	if n, _ := w.m.Gather("lingpai_push_deliveries_total", map[string]string{"target": target, "result": result}); n != want {
		w.t.Errorf("%s to %s: counted %v, want %v", result, target, n, want)
	}
}

func (w *world) logged(text string) {
	w.t.Helper()
	if !strings.Contains(w.log.String(), text) {
		w.t.Errorf("the log does not say %q: %s", text, w.log.String())
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// heldBy is how many entries the Run under way holds; when all has come to rest.
func heldBy(f *Forwarder, target string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.runners[target]; r != nil {
		return r.lanes.held
	}
	return 0
}
