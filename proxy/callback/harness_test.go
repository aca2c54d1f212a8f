package callback

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/metrics"
	"lingpai/tokens"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

const (
	component  = wechattest.DefaultComponentAppID
	authorizer = "wxaaaaaaaaaaaaaaaa"
	otherKey   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg"
	events     = "/wechat/events"
	messages   = "/wechat/messages/" + authorizer
)

// world is a Handler with a Service behind it, and the WeChat that pushes to it.
type world struct {
	t       *testing.T
	sim     *wechattest.Server
	store   *shakyStore
	service *tokens.Service
	metrics *metrics.Metrics
	handler *Handler
	server  *httptest.Server
	log     *lines
	base    string // where the WeChat is
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, metrics: metrics.New("", "", ""), log: &lines{}, store: &shakyStore{Store: memory.New()}}
	knobs := wechattest.DefaultKnobs()
	knobs.TokenLatency, knobs.TicketAttempts, knobs.Ticket = 0, 1, wechattest.TicketNew
	w.sim = wechattest.New(wechattest.Options{Seed: 1, Knobs: &knobs})
	weChat := httptest.NewServer(w.sim)
	t.Cleanup(func() {
		w.sim.Close()
		weChat.Close()
	})
	w.base = weChat.URL
	w.service = w.newService()
	w.handler = New(settings(t), w.service, nil, w.metrics, w.log.logger())
	w.server = httptest.NewServer(w.handler)
	t.Cleanup(w.server.Close)
	w.sim.SetEventURL(w.server.URL + events)
	w.sim.SetMessageURL(w.server.URL + "/wechat/messages/$APPID$")
	return w
}

func (w *world) newService() *tokens.Service {
	w.t.Helper()
	transport := &http.Transport{}
	service, err := tokens.NewService(tokens.Config{
		Component:          &tokens.ComponentConfig{AppID: component, AppSecret: secret.New(wechattest.DefaultComponentAppSecret)},
		RefreshAhead:       10 * time.Minute,
		RefreshTimeout:     5 * time.Second,
		WaitTimeout:        5 * time.Second,
		MinRefreshInterval: 30 * time.Second,
		Client:             wechat.NewClient(transport, w.base, 5*time.Second),
	}, w.store, 1<<20, w.metrics, w.log.logger())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		service.Close(context.Background())
		transport.CloseIdleConnections()
	})
	return service
}

// run works on events until the test ends.
func (w *world) run(service *tokens.Service) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { service.Run(ctx) })
	w.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// settings fit the simulator.
func settings(t testing.TB) *Config {
	return &Config{AppID: component, Token: secret.New(wechattest.DefaultMessageToken), Keys: []msgcrypt.Key{parseKey(t, wechattest.DefaultEncodingAESKey)}}
}

func parseKey(t testing.TB, text string) msgcrypt.Key {
	t.Helper()
	key, err := msgcrypt.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// post delivers a push and returns the answer.
func (w *world) post(path string, query url.Values, body []byte) (status int, answer string) {
	w.t.Helper()
	return post(w.t, w.server.URL+path+"?"+query.Encode(), bytes.NewReader(body))
}

func post(t testing.TB, target string, body io.Reader) (status int, answer string) {
	t.Helper()
	response, err := http.Post(target, "text/xml", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// serve delivers a push without a network.
func serve(h http.Handler, path string, query url.Values, body []byte) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path+"?"+query.Encode(), bytes.NewReader(body)))
	return rec
}

// push seals an event and delivers it.
func (w *world) push(infoType string, fields ...wechattest.Field) (status int, answer string) {
	w.t.Helper()
	query, body := w.sim.BuildPush(w.sim.EventXML(infoType, fields...))
	return w.post(events, query, body)
}

// snapshot is all that the store holds.
func (w *world) snapshot() string {
	w.t.Helper()
	ctx := context.Background()
	c, _ := w.store.Store.Component(ctx, component)
	authorizers, err := w.store.Store.Authorizers(ctx, "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	pushes, err := w.store.Store.Pushes(ctx, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	text := fmt.Sprintf("%v %q %v\n", c, c.Ticket.Reveal(), c.Token.Value.Reveal())
	for _, a := range authorizers {
		text += fmt.Sprintf("%v %q %q\n", a, a.RefreshToken.Reveal(), a.Token.Value.Reveal())
	}
	for _, p := range pushes {
		text += fmt.Sprintf("%v %q\n", p, p.Message.Reveal())
	}
	return text
}

// counted returns pushes_total of a type and result.
func (w *world) counted(infoType, result string) int {
	n, _ := w.metrics.Gather("lingpai_pushes_total", map[string]string{"info_type": infoType, "result": result})
	return int(n)
}

// pending returns how many pushes wait to be worked on.
func (w *world) pending() int {
	pushes, err := w.store.Store.Pushes(context.Background(), 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(pushes)
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not come: " + what)
		}
	}
}

// shakyStore is a store that can be told to fail or to hang.
type shakyStore struct {
	store.Store
	err  atomic.Pointer[error]
	hang atomic.Pointer[chan struct{}] // writes wait for it, whatever their context says
	held atomic.Int32                  // writes that wait
}

func (s *shakyStore) fail(err error) { s.err.Store(&err) }

func (s *shakyStore) disturb() error {
	if hang := s.hang.Load(); hang != nil {
		s.held.Add(1)
		<-*hang
		s.held.Add(-1)
	}
	if err := s.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *shakyStore) UpdateComponent(ctx context.Context, appID string, fn func(*store.Component) error) (store.Component, error) {
	if err := s.disturb(); err != nil {
		return store.Component{}, err
	}
	return s.Store.UpdateComponent(ctx, appID, fn)
}

func (s *shakyStore) AddPush(ctx context.Context, p store.Push) (store.Push, bool, error) {
	if err := s.disturb(); err != nil {
		return store.Push{}, false, err
	}
	return s.Store.AddPush(ctx, p)
}

// lines keeps log lines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// noSecrets fails if a text holds a secret that the simulator ever issued.
func (w *world) noSecrets(what, text string) {
	w.t.Helper()
	for _, value := range w.sim.Secrets() {
		if strings.Contains(text, value) {
			w.t.Errorf("%s holds the secret %.8s…", what, value)
		}
	}
}
