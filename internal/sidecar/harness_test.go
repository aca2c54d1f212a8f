package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/internal/config"
	"lingpai/tokens/wechat/wechattest"
)

const (
	component  = wechattest.DefaultComponentAppID
	authorizer = "wxaaaaaaaaaaaaaaaa"
	direct     = "wxdddddddddddddddd"
	tokenPath  = "/cgi-bin/component/api_component_token"
	callPath   = "/cgi-bin/menu/get"
)

// world is a Sidecar made from a file, and the WeChat that it serves.
type world struct {
	t       *testing.T
	sim     *wechattest.Server
	weChat  *httptest.Server
	dir     string
	file    map[string]string // sections of the file by their first key
	secrets map[string]string
	log     *lines
	sidecar *Sidecar
	stop    context.CancelFunc
	ended   chan error
	client  *http.Client
}

// newWorld makes a file with port 0 everywhere; sections replace its own.
func newWorld(t *testing.T, sections ...string) *world {
	t.Helper()
	knobs := wechattest.DefaultKnobs()
	knobs.TokenLatency, knobs.TicketAttempts = 0, 1
	w := &world{
		t: t, dir: t.TempDir(), log: &lines{}, client: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second},
		sim: wechattest.New(wechattest.Options{Seed: 1, Knobs: &knobs, Accounts: map[string]string{direct: strings.Repeat("d", 32)}}),
		secrets: map[string]string{
			"SECRET": wechattest.DefaultComponentAppSecret, "TOKEN": wechattest.DefaultMessageToken,
			"KEY": wechattest.DefaultEncodingAESKey, "DIRECT": strings.Repeat("d", 32),
		},
	}
	w.weChat = httptest.NewServer(w.sim)
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		w.sim.Close()
		w.weChat.Close()
	})
	w.file = map[string]string{}
	w.set(`listen: {proxy: "127.0.0.1:0", callback: "127.0.0.1:0", metrics: "127.0.0.1:0", admin: "127.0.0.1:0"}`,
		`component: {app_id: `+component+`, app_secret: "env:SECRET", token: "env:TOKEN", encoding_aes_key: "env:KEY"}`,
		`upstream: {url: "`+w.weChat.URL+`"}`, `store: {kind: memory}`, `log: {level: debug, format: text}`, `drain_timeout: 10s`)
	w.set(sections...)
	return w
}

// set replaces sections of the file.
func (w *world) set(sections ...string) {
	for _, section := range sections {
		key, _, _ := strings.Cut(section, ":")
		w.file[key] = section
	}
	text := ""
	for _, section := range w.file {
		text += section + "\n"
	}
	w.write(text)
}

func (w *world) write(text string) {
	w.t.Helper()
	// Written anew and renamed, as a file is that may be read at any time.
	path := filepath.Join(w.dir, "config.yaml")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) load() (config.Config, error) {
	c, faults := config.Load(filepath.Join(w.dir, "config.yaml"), func(name string) (string, bool) {
		value, ok := w.secrets[name]
		return value, ok
	})
	return c, faults.Err()
}

// open makes the Sidecar.
func (w *world) open() (*Sidecar, error) {
	w.t.Helper()
	c, err := w.load()
	if err != nil {
		w.t.Fatal(err)
	}
	return New(c, Options{Load: w.load, Log: w.log, Version: "v1", Commit: "c1", GoVersion: "go1"})
}

// start makes and runs it; the test's end stops it.
func (w *world) start() *world {
	w.t.Helper()
	var err error
	if w.sidecar, err = w.open(); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended, s := make(chan error, 1), w.sidecar
	w.stop, w.ended = cancel, ended
	go func() {
		ended <- s.Run(ctx)
		close(ended)
	}()
	w.t.Cleanup(func() {
		cancel()
		for range ended {
		}
	})
	if w.sidecar.Addr("callback") != nil {
		w.sim.SetEventURL(w.url("callback") + "/wechat/events")
	}
	return w
}

// wait returns what Run returned.
func (w *world) wait() error {
	w.t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(20 * time.Second):
		w.t.Fatal("Run does not return")
		return nil
	}
}

func (w *world) url(listener string) string { return "http://" + w.sidecar.Addr(listener).String() }

// ready pushes a ticket and has an account authorize, until it can be called for.
func (w *world) ready() *world {
	w.t.Helper()
	if err := w.sim.PushTicket(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	if a, err := w.sim.Authorize(context.Background(), authorizer); err != nil || !a.Pushed {
		w.t.Fatal(a.PushError, err)
	}
	eventually(w.t, "the authorizer", func() bool {
		status, _ := w.get("admin", "/v1/authorizers/"+authorizer)
		return status == 200
	})
	return w
}

// get asks a listener.
func (w *world) get(listener, path string) (status int, body string) {
	w.t.Helper()
	status, body, err := w.try(http.MethodGet, listener, path)
	if err != nil {
		w.t.Fatal(err)
	}
	return status, body
}

func (w *world) try(method, listener, path string) (status int, body string, err error) {
	request, err := http.NewRequest(method, w.url(listener)+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := w.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// call makes a call for the authorizer.
func (w *world) call() (status int, body string, err error) {
	return w.try(http.MethodGet, "proxy", callPath+"?from_appid="+authorizer)
}

// reload asks for a reload and returns the status and what was wrong.
func (w *world) reload() (status int, fault string) {
	w.t.Helper()
	status, body, err := w.try(http.MethodPost, "admin", "/v1/reload")
	if err != nil {
		w.t.Fatal(err)
	}
	var answer struct{ Error string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		w.t.Fatal(err)
	}
	return status, answer.Error
}

func (w *world) reloaded(sections ...string) {
	w.t.Helper()
	w.set(sections...)
	if status, fault := w.reload(); status != 200 {
		w.t.Fatalf("%d %s", status, fault)
	}
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not come: " + what)
		}
	}
}

// refused reports whether nobody listens at an address.
func refused(addr net.Addr) bool {
	conn, err := net.DialTimeout(addr.Network(), addr.String(), time.Second)
	if err == nil {
		conn.Close()
	}
	return err != nil
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

// raw opens a connection and sends text on it.
func (w *world) raw(listener, format string, args ...any) net.Conn {
	w.t.Helper()
	addr := w.sidecar.Addr(listener)
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, format, args...)
	return conn
}
