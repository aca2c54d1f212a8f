package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"lingpai/internal/config"
	"lingpai/internal/sidecar"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/wechat/wechattest"
)

const (
	platformID = wechattest.DefaultComponentAppID
	shop       = "wx1111111111111111" // with an access token
	idle       = "wx2222222222222222" // without
	gone       = "wx3333333333333333" // does not authorize the platform
	stranger   = "wx4444444444444444" // not in the old system
)

// world is an old system, a WeChat, and a lingpai to be.
type world struct {
	t       *testing.T
	dir     string
	config  string
	wechat  *wechattest.Server
	refresh map[string]string // refresh tokens that WeChat has given
	access  string            // of shop
	ticket  string
	token   string // the component's
	// hidden must not be in any output.
	hidden []string

	server *redistest.Server
	client rueidis.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), refresh: map[string]string{}}
	w.wechat = wechattest.New(wechattest.Options{Seed: 1})
	server := httptest.NewServer(w.wechat)
	t.Cleanup(func() { w.wechat.Close(); server.Close() })
	secrets := map[string]string{
		"secret": wechattest.DefaultComponentAppSecret, "token": wechattest.DefaultMessageToken, "key": wechattest.DefaultEncodingAESKey,
	}
	for name, value := range secrets {
		w.file(name, value)
	}
	w.config = w.file("config.yaml", fmt.Sprintf(`
component: {app_id: %s, app_secret: "file:secret", token: "file:token", encoding_aes_key: "file:key"}
upstream: {url: %q}
store: {path: lingpai.db}
`, platformID, server.URL))
	for _, appID := range []string{shop, idle} {
		w.refresh[appID] = w.wechat.AddAuthorizer(appID)
	}
	w.refresh[gone] = "refreshtoken@@@" + strings.Repeat("g", 43)
	w.access = "77_" + strings.Repeat("a", 150)
	w.hidden = []string{w.refresh[gone], w.access}
	w.ticket = w.wechat.IssueTicket()
	w.token = w.componentToken(server.URL)
	return w
}

// componentToken is what the old system has got from WeChat.
func (w *world) componentToken(url string) string {
	w.t.Helper()
	body, _ := json.Marshal(map[string]string{
		"component_appid": platformID, "component_appsecret": wechattest.DefaultComponentAppSecret, "component_verify_ticket": w.ticket,
	})
	response, err := http.Post(url+"/cgi-bin/component/api_component_token", "application/json", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Token string `json:"component_access_token"`
	}
	if json.NewDecoder(response.Body).Decode(&answer) != nil || answer.Token == "" {
		w.t.Fatal("no component token")
	}
	return answer.Token
}

func (w *world) file(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// redis starts the old system's Redis and returns its URL.
func (w *world) redis(args ...string) string {
	w.t.Helper()
	w.server = redistest.Start(w.t, args...)
	return w.server.URL()
}

// do sends a command to the old system's Redis.
func (w *world) do(words ...string) {
	w.t.Helper()
	if w.client == nil {
		reader, err := openRedis(context.Background(), secret.New(w.server.URL()))
		if err != nil {
			w.t.Fatal(err)
		}
		w.client = reader.client
		w.t.Cleanup(reader.close)
	}
	if err := w.client.Do(context.Background(), w.client.B().Arbitrary(words...).Build()).Error(); err != nil {
		w.t.Fatal(err)
	}
}

// set writes a key that lives for ttl; 0 is for ever.
func (w *world) set(key, value string, ttl time.Duration) {
	w.t.Helper()
	words := []string{"SET", key, value}
	if ttl > 0 {
		words = append(words, "PX", fmt.Sprint(ttl.Milliseconds()))
	}
	w.do(words...)
}

// result is what a run has printed.
type result struct {
	code           int
	stdout, stderr string
}

// run runs the command, and looks for secrets in what it prints.
func (w *world) run(args ...string) result {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	c := &command{stdout: &stdout, stderr: &stderr, now: time.Now, pause: time.Microsecond}
	code := c.main(w.t.Context(), append([]string{"-config", w.config}, args...))
	r := result{code, stdout.String(), stderr.String()}
	for _, hidden := range append(w.wechat.Secrets(), w.hidden...) {
		if strings.Contains(r.stdout+r.stderr, hidden) {
			w.t.Errorf("a secret is in the output of %q:\n%s%s", args, r.stdout, r.stderr)
		}
	}
	return r
}

// want runs the command and checks its exit code.
func (w *world) want(code int, args ...string) result {
	w.t.Helper()
	r := w.run(args...)
	if r.code != code {
		w.t.Fatalf("exit code %d, want %d, of %q:\n%s%s", r.code, code, args, r.stdout, r.stderr)
	}
	return r
}

// report is want with -json.
func (w *world) report(code int, args ...string) report {
	w.t.Helper()
	r := w.want(code, append(args, "-json")...)
	var out report
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		w.t.Fatalf("%v:\n%s", err, r.stdout)
	}
	return out
}

// open opens lingpai's store.
func (w *world) open() store.Store {
	w.t.Helper()
	conf, faults := config.Load(w.config, nil)
	if err := faults.Err(); err != nil {
		w.t.Fatal(err)
	}
	s, err := sidecar.OpenStore(conf.Store, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// content is all that a store has.
type content struct {
	component   store.Component
	authorizers map[string]store.Authorizer
}

func (w *world) content() content {
	w.t.Helper()
	if _, err := os.Stat(filepath.Join(w.dir, "lingpai.db")); errors.Is(err, os.ErrNotExist) {
		return content{}
	}
	s := w.open()
	defer s.Close()
	out := content{authorizers: map[string]store.Authorizer{}}
	var err error
	if out.component, err = s.Component(w.t.Context(), platformID); err != nil && !errors.Is(err, store.ErrNotFound) {
		w.t.Fatal(err)
	}
	page, err := s.Authorizers(w.t.Context(), "", 100_000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, a := range page {
		out.authorizers[a.AppID] = a
	}
	return out
}

// put writes an authorizer into the store.
func (w *world) put(a store.Authorizer) {
	w.t.Helper()
	s := w.open()
	defer s.Close()
	if _, err := s.UpdateAuthorizer(w.t.Context(), a.AppID, func(into *store.Authorizer) error { *into = a; return nil }); err != nil {
		w.t.Fatal(err)
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s\n got %+v\nwant %+v", what, got, want)
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}
