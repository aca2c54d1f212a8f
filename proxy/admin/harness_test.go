package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/metrics"
	"lingpai/proxy/forward"
	"lingpai/proxy/link"
	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

const (
	component  = wechattest.DefaultComponentAppID
	authorizer = "wxaaaaaaaaaaaaaaaa"
	direct     = "wxdddddddddddddddd"
	tokenPath  = "/cgi-bin/component/api_component_token"
)

// world is an API and Probes on a Service, and the WeChat behind it. Whatever
// they answer is searched for secrets at the end.
type world struct {
	t       *testing.T
	sim     *wechattest.Server
	store   *shakyStore
	service *tokens.Service
	metrics *metrics.Metrics
	api     *API
	probes  http.Handler
	ready   error // of Ready
	reload  error // of reload
	log     bytes.Buffer
	said    bytes.Buffer // every answer, but links
	logger  *slog.Logger
	forward *forward.Forwarder
	link    *gate
	// seen are the answers there were, as operation and status.
	seen map[string]bool
}

func (w *world) Ready() error { return w.ready }

// newWorld makes one; change may take its component away, say.
func newWorld(t *testing.T, change ...func(*tokens.Config)) *world {
	t.Helper()
	kept := memory.New()
	w := &world{t: t, metrics: metrics.New("v1", "c1", "go1"), store: &shakyStore{Store: kept}, seen: map[string]bool{}}
	knobs := wechattest.DefaultKnobs()
	knobs.TokenLatency = 0
	w.sim = wechattest.New(wechattest.Options{Seed: 1, Knobs: &knobs, Accounts: map[string]string{direct: strings.Repeat("d", 32)}})
	weChat := httptest.NewServer(w.sim)
	w.link = &gate{RoundTripper: &http.Transport{}}
	config := tokens.Config{
		Component:          &tokens.ComponentConfig{AppID: component, AppSecret: secret.New(wechattest.DefaultComponentAppSecret)},
		Accounts:           map[string]secret.String{direct: secret.New(strings.Repeat("d", 32))},
		RefreshAhead:       10 * time.Minute,
		RefreshTimeout:     2 * time.Second,
		WaitTimeout:        2 * time.Second,
		MinRefreshInterval: 30 * time.Second,
		Client:             wechat.NewClient(w.link, weChat.URL, 2*time.Second),
	}
	for _, c := range change {
		c(&config)
	}
	w.logger = slog.New(slog.NewTextHandler(&lockedBuffer{to: &w.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var st store.Store = w.store
	if config.Follower { // which reads what others write
		group := memory.NewGroup(memory.Options{})
		st, w.store.Store = group.Open(), group.Open()
	}
	var err error
	if w.service, err = tokens.NewService(config, st, 1<<20, w.metrics, w.logger); err != nil {
		t.Fatal(err)
	}
	w.forward, err = forward.New(forward.Options{Store: shakyDeliveries{kept, w.store}, Log: w.logger, Targets: []forward.Target{
		{Name: "orders", URL: "http://orders.invalid/", Events: []string{"*"}, AppIDs: []string{"*"}},
		{Name: "crm", URL: "http://crm.invalid/", Events: []string{"*"}, AppIDs: []string{"*"}, JSON: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.api = w.apiWith(Info{Deliveries: w.forward, Link: link.Config{PublicURL: "https://wx.example.com"}})
	w.probes = Probes(w.service, w, w.metrics)
	t.Cleanup(func() {
		w.service.Close(context.Background())
		w.sim.Close()
		weChat.Close()
		for _, value := range w.sim.Secrets() {
			if strings.Contains(w.said.String(), value) {
				t.Errorf("an answer holds the secret %.8s…", value)
			}
			if strings.Contains(w.log.String(), value) {
				t.Errorf("the log holds the secret %.8s…", value)
			}
		}
	})
	return w
}

// apiWith makes an API on the service of w.
func (w *world) apiWith(info Info) *API {
	info.Version, info.StoreKind, info.Names = "v1", "memory", []string{"Lingpai.Example.com:9063"}
	return New(info, w.service, func() error { return w.reload }, w.logger)
}

// gate is the way to WeChat. It can be closed for a path.
type gate struct {
	http.RoundTripper
	closed atomic.Pointer[closedGate]
}

type closedGate struct {
	path    string
	arrived func()        // called when a call waits
	open    chan struct{} // closed when calls may go on
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if c := g.closed.Load(); c != nil && c.path == r.URL.Path {
		c.arrived()
		select {
		case <-c.open:
		case <-r.Context().Done():
		}
	}
	return g.RoundTripper.RoundTrip(r)
}

type lockedBuffer struct {
	mu sync.Mutex
	to *bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.to.Write(p)
}

// give hands the service a ticket that the simulator accepts.
func (w *world) give() {
	w.t.Helper()
	if _, err := w.service.ReceiveTicket(context.Background(), secret.New(w.sim.IssueTicket()), time.Now()); err != nil {
		w.t.Fatal(err)
	}
}

// object is a JSON answer.
type object map[string]any

// at returns what stands at a dotted path.
func (o object) at(path string) any {
	var value any = map[string]any(o)
	for name := range strings.SplitSeq(path, ".") {
		next, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = next[name]
	}
	return value
}

// keys are those of the object at a dotted path, sorted.
func (o object) keys(path string) string {
	value := map[string]any(o)
	if path != "" {
		value, _ = o.at(path).(map[string]any)
	}
	var names []string
	for name := range value {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// time reads an RFC 3339 time.
func (o object) time(t *testing.T, path string) time.Time {
	t.Helper()
	text, _ := o.at(path).(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return at
}

func (w *world) do(handler http.Handler, request *http.Request) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, request)
	if _, ok := handler.(*API); ok {
		w.described(request, rec)
	}
	if !(rec.Code == 200 && request.URL.Path == "/v1/authorization-link") { // which is meant to hold a code
		w.said.Write(rec.Body.Bytes())
	}
	for _, values := range rec.Header() {
		w.said.WriteString(strings.Join(values, "\n"))
	}
	return rec
}

// call operates the API as curl would, and wants a status.
func (w *world) call(want int, method, path, body string) object {
	w.t.Helper()
	return w.callAs(context.Background(), want, method, path, body)
}

// leaving is call by somebody who leaves when WeChat is asked for weChatPath.
func (w *world) leaving(want int, method, path, body, weChatPath string) {
	w.t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	open := make(chan struct{})
	w.link.closed.Store(&closedGate{path: weChatPath, arrived: leave, open: open})
	w.callAs(ctx, want, method, path, body)
	w.link.closed.Store(nil)
	close(open)
}

func (w *world) callAs(ctx context.Context, want int, method, path, body string) object {
	w.t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body)).WithContext(ctx)
	request.Host = "127.0.0.1:9063"
	if body != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl -d says
	}
	rec := w.do(w.api, request)
	if rec.Code != want || rec.Header().Get("Content-Type") != "application/json" || rec.Header().Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s %s: %d %v %s, want %d", method, path, rec.Code, rec.Header(), rec.Body, want)
	}
	answer := object{}
	decoder := json.NewDecoder(rec.Body)
	if err := decoder.Decode(&answer); err != nil {
		w.t.Errorf("%s %s: %v", method, path, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		w.t.Errorf("%s %s: more than one object", method, path)
	}
	if text, _ := answer["error"].(string); want >= 400 && (text == "" || answer.keys("") != "error") {
		w.t.Errorf("%s %s: a fault as %v", method, path, answer)
	}
	return answer
}

// wrong is call for a fault whose text has to say something.
func (w *world) wrong(want int, method, path, body, says string) {
	w.t.Helper()
	if text, _ := w.call(want, method, path, body)["error"].(string); !strings.Contains(text, says) {
		w.t.Errorf("%s %s: %q does not say %q", method, path, text, says)
	}
}
