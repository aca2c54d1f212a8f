package tokens

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	storemem "lingpai/tokens/store/memory"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

const (
	pathComponent  = "/cgi-bin/component/api_component_token"
	pathAuthorizer = "/cgi-bin/component/api_authorizer_token"
	pathQueryAuth  = "/cgi-bin/component/api_query_auth"
	pathStable     = "/cgi-bin/stable_token"

	platform = wechattest.DefaultComponentAppID
	alice    = "wxaaaaaaaaaaaaaaaa"
	bob      = "wxbbbbbbbbbbbbbbbb"
	direct   = "wxdddddddddddddddd"
	direct2  = "wxdddddddddddddddf"
)

// inProcess is an http.RoundTripper that runs a handler without a network. As
// over a network, a caller that leaves does not stop the handler.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	type result struct {
		response *http.Response
		err      error
	}
	done := make(chan result, 1)
	go func() {
		w := httptest.NewRecorder()
		defer func() {
			switch v := recover(); {
			case v == nil:
				done <- result{w.Result(), nil}
			case v != any(http.ErrAbortHandler):
				panic(v)
			case w.Body.Len() == 0:
				done <- result{nil, io.EOF}
			default: // cut in the middle of the body
				response := w.Result()
				response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(w.Body.Bytes()), iotestErr{}))
				done <- result{response, nil}
			}
		}()
		p.handler.ServeHTTP(w, r)
	}()
	select {
	case got := <-done:
		return got.response, got.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// world is a Service, its store and the WeChat it speaks to.
type world struct {
	*Service
	t     *testing.T
	sim   *wechattest.Server
	disk  *faultyStore
	m     *metrics.Metrics
	log   *syncBuffer
	conf  Config
	stop  func()    // ends Run and closes the Service
	clock time.Time // when the world began
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

// inWorld runs fn in a bubble with a new world, whose simulator has no latency
// unless knobs say otherwise, and ends all of it.
func inWorld(t *testing.T, knobs func(*wechattest.Knobs), fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, knobs, 1<<20)
		w.begin()
		defer func() { // also after Fatal
			w.stop()
			w.sim.Close()
			synctest.Wait()
		}()
		fn(t, w)
		w.stop()
		if v := w.sim.Violations(); len(v) > 0 {
			t.Errorf("violations: %q", v)
		}
		w.checkNoSecrets(w.log.String())
	})
}

func newWorld(t *testing.T, change func(*wechattest.Knobs), cacheBytes int64) *world {
	knobs := wechattest.DefaultKnobs()
	knobs.TokenLatency = 0
	knobs.Quotas = nil
	if change != nil {
		change(&knobs)
	}
	w := &world{t: t, disk: &faultyStore{Store: storemem.New()}, m: metrics.New("test", "", ""), log: &syncBuffer{}, clock: time.Now()}
	w.sim = wechattest.New(wechattest.Options{
		Accounts: map[string]string{direct: "direct-secret-0123456789", direct2: "direct-secret-9876543210"},
		Seed:     1, Knobs: &knobs, JournalSize: 20_000, EventURL: "http://lingpai/wechat/events",
		Client: &http.Client{Transport: inProcess{http.HandlerFunc(w.receive)}, Timeout: 5 * time.Second},
	})
	w.conf = Config{
		Component: &ComponentConfig{AppID: platform, AppSecret: secret.New(wechattest.DefaultComponentAppSecret)},
		Accounts: map[string]secret.String{
			direct: secret.New("direct-secret-0123456789"), direct2: secret.New("direct-secret-9876543210"),
		},
		RefreshAhead: 10 * time.Minute, RefreshTimeout: 10 * time.Second, WaitTimeout: 5 * time.Second,
		MinRefreshInterval: 30 * time.Second,
		Client:             wechat.NewClient(inProcess{w.sim}, "https://api.weixin.qq.com", 10*time.Second),
	}
	w.make(cacheBytes)
	return w
}

func (w *world) make(cacheBytes int64) {
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	service, err := NewService(w.conf, w.disk, cacheBytes, w.m, log)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Service = service
	w.stop = func() { service.Close(context.Background()) }
}

// begin starts the background work.
func (w *world) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	service := w.Service
	running.Go(func() { service.Run(ctx) })
	w.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		closing, done := context.WithTimeout(context.Background(), 30*time.Second)
		defer done()
		service.Close(closing)
	})
}

// restart ends the Service and begins another on the same store.
func (w *world) restart() {
	w.stop()
	w.make(1 << 20)
	w.begin()
}

// receive is the receiver of pushes, as far as these tests need one.
func (w *world) receive(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	envelope, err := wechat.ParseEnvelope(body)
	if err != nil {
		http.Error(rw, "", http.StatusBadRequest)
		return
	}
	key, _ := msgcrypt.ParseKey(wechattest.DefaultEncodingAESKey)
	message, _, err := key.Decrypt(envelope.Encrypt)
	if err != nil {
		http.Error(rw, "", http.StatusForbidden)
		return
	}
	event, err := wechat.ParseEvent(message)
	if err == nil && event.InfoType == wechat.InfoTypeTicket {
		_, err = w.ReceiveTicket(r.Context(), event.Ticket, event.CreateTime)
	} else if err == nil {
		_, err = w.ReceiveEvent(r.Context(), pushOf(message))
	}
	if err != nil {
		http.Error(rw, "", http.StatusInternalServerError)
		return
	}
	io.WriteString(rw, "success")
}

func pushOf(message []byte) store.Push {
	sum := sha256.Sum256(message)
	return store.Push{Digest: hex.EncodeToString(sum[:]), ReceivedAt: time.Now(), Message: secret.New(string(message))}
}

// ticket gives the Service a ticket.
func (w *world) ticket() {
	w.t.Helper()
	if _, err := w.ReceiveTicket(w.t.Context(), secret.New(w.sim.IssueTicket()), time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

// add makes an authorizer known to both sides.
func (w *world) add(appID string) {
	w.t.Helper()
	if _, err := w.PutAuthorizer(w.t.Context(), appID, secret.New(w.sim.AddAuthorizer(appID))); err != nil {
		w.t.Fatal(err)
	}
}

// ready gives the Service a ticket and alice.
func (w *world) ready() {
	w.t.Helper()
	w.ticket()
	w.add(alice)
}

// dueOf is when the renewal of t begins by itself.
func dueOf(t *Token) time.Time { return time.Unix(0, t.renewAt.Load()) }

func of(appID string) Key { return Key{Authorizer, appID} }

// token returns a token or fails the test.
func (w *world) token(key Key) *Token {
	w.t.Helper()
	t, err := w.Token(w.t.Context(), key)
	if err != nil {
		w.t.Fatalf("%s after %s: %v", key, time.Since(w.clock), err)
	}
	if !t.Usable(time.Now()) {
		w.t.Fatalf("%s: a token that ended at %s was handed out at %s", key, t.ExpiresAt(), time.Now())
	}
	return t
}

// later asks for a token now and returns it when it is called.
func (w *world) later(key Key) func() *Token {
	type result struct {
		token *Token
		err   error
	}
	done := make(chan result, 1)
	go func() {
		token, err := w.Token(w.t.Context(), key)
		done <- result{token, err}
	}()
	return func() *Token {
		w.t.Helper()
		got := <-done
		if got.err != nil {
			w.t.Fatal(got.err)
		}
		return got.token
	}
}

// refused returns the error of a call for a token.
func (w *world) refused(key Key) error {
	w.t.Helper()
	t, err := w.Token(w.t.Context(), key)
	if err == nil {
		w.t.Fatalf("%s: got generation %d, want an error", key, t.Generation)
	}
	w.checkNoSecrets(err.Error())
	return err
}

// unavailable is refused for *Unavailable.
func (w *world) unavailable(key Key) *Unavailable {
	w.t.Helper()
	err := w.refused(key)
	u, ok := errors.AsType[*Unavailable](err)
	if !ok {
		w.t.Fatalf("%s: %v, want *Unavailable", key, err)
	}
	if u.Err != nil {
		w.checkNoSecrets(u.Err.Error())
	}
	return u
}

// live fails the test unless WeChat accepts t.
func (w *world) live(t *Token) {
	w.t.Helper()
	kind := map[Kind]wechattest.TokenKind{
		Component: wechattest.KindComponent, Authorizer: wechattest.KindAuthorizer, Account: wechattest.KindAccount,
	}[t.Kind()]
	for _, value := range w.sim.LiveTokens(kind, t.AppID()) {
		if value == t.Value().Reveal() {
			return
		}
	}
	w.t.Fatalf("%s: generation %d is dead at WeChat after %s", t.Key(), t.Generation, time.Since(w.clock))
}

func (w *world) count(path string, want int) {
	w.t.Helper()
	if got := w.sim.Count(path); got != want {
		w.t.Errorf("%s was called %d times, want %d", path, got, want)
	}
}

func (w *world) checkNoSecrets(text string) {
	w.t.Helper()
	for _, value := range w.sim.Secrets() {
		if strings.Contains(text, value) {
			i := strings.Index(text, value)
			w.t.Fatalf("a secret is in the text: …%s…", text[max(0, i-200):i])
		}
	}
}

func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	set := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		set[labels[i]] = labels[i+1]
	}
	v, ok := w.m.Gather("lingpai_"+name, set)
	if !ok {
		w.t.Fatalf("no series %s %v", name, labels)
	}
	return v
}

func (w *world) state(appID string, want store.State) store.Authorizer {
	w.t.Helper()
	record, err := w.disk.Store.Authorizer(w.t.Context(), appID)
	if err != nil {
		w.t.Fatal(err)
	}
	if record.State != want {
		w.t.Fatalf("%s is %s, want %s", appID, record.State, want)
	}
	return record
}

// fail puts a fault to work.
func (w *world) fail(path string, errcode, times int) {
	w.sim.AddFault(wechattest.Fault{Path: path, Kind: wechattest.FaultErrcode, Errcode: errcode, Times: times})
}

// refuse is what a call does whose token WeChat refused.
func (w *world) refuse(t *Token) (*Token, error) { return w.Rejected(w.t.Context(), t, 40001) }

// faultyStore is a store that fails or is slow when told to.
type faultyStore struct {
	store.Store
	mu     sync.Mutex
	writes error         // of writes
	reads  error         // of reads
	delay  time.Duration // of reads of authorizers
}

func (f *faultyStore) set(reads, writes error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads, f.writes = reads, writes
}

func (f *faultyStore) readError() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

func (f *faultyStore) writeError() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

func (f *faultyStore) Component(ctx context.Context, appID string) (store.Component, error) {
	if err := f.readError(); err != nil {
		return store.Component{}, err
	}
	return f.Store.Component(ctx, appID)
}

func (f *faultyStore) Authorizer(ctx context.Context, appID string) (store.Authorizer, error) {
	if err := f.readError(); err != nil {
		return store.Authorizer{}, err
	}
	record, err := f.Store.Authorizer(ctx, appID)
	f.mu.Lock()
	delay := f.delay
	f.mu.Unlock()
	time.Sleep(delay) // what was read grows old
	return record, err
}

func (f *faultyStore) UpdateComponent(ctx context.Context, appID string, fn func(*store.Component) error) (store.Component, error) {
	if err := f.writeError(); err != nil {
		return store.Component{}, err
	}
	return f.Store.UpdateComponent(ctx, appID, fn)
}

func (f *faultyStore) UpdateAuthorizer(ctx context.Context, appID string, fn func(*store.Authorizer) error) (store.Authorizer, error) {
	if err := f.writeError(); err != nil {
		return store.Authorizer{}, err
	}
	return f.Store.UpdateAuthorizer(ctx, appID, fn)
}

func (f *faultyStore) Pushes(ctx context.Context, after uint64, limit int) ([]store.Push, error) {
	if err := f.readError(); err != nil {
		return nil, err
	}
	return f.Store.Pushes(ctx, after, limit)
}

func (f *faultyStore) DeletePush(ctx context.Context, seq uint64) error {
	if err := f.writeError(); err != nil {
		return err
	}
	return f.Store.DeletePush(ctx, seq)
}

var errDisk = errors.New("disk is full")

func appID(i int) string { return fmt.Sprintf("wx%016x", 0xabc0000+i) }
