package sidecar

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
)

func TestServes(t *testing.T) {
	w := newWorld(t).start().ready()
	if status, body, err := w.call(); status != 200 || err != nil || strings.Contains(body, "errcode\":4") {
		t.Errorf("%d %s %v", status, body, err)
	}
	for _, path := range []string{"/livez", "/readyz", "/tokenz", "/metrics"} {
		if status, body := w.get("metrics", path); status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if _, body := w.get("metrics", "/metrics"); !strings.Contains(body, `lingpai_authorizers{state="active"} 1`) || !strings.Contains(body, `version="v1"`) {
		t.Error("metrics lack the counts or the build")
	}
	if status, body := w.get("admin", "/v1/status"); status != 200 || !strings.Contains(body, `"kind":"memory"`) {
		t.Errorf("%d %s", status, body)
	}
	// Each listener serves its own paths only: the callback is open to strangers.
	for _, c := range [][2]string{{"callback", "/v1/status"}, {"callback", "/metrics"}, {"callback", callPath}, {"metrics", "/v1/status"}, {"admin", "/metrics"}, {"admin", callPath}} {
		if status, _ := w.get(c[0], c[1]); status != 404 {
			t.Errorf("%s on %s: %d", c[1], c[0], status)
		}
	}
	w.stop()
	if err := w.wait(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"proxy", "callback", "metrics", "admin"} {
		if !refused(w.sidecar.Addr(name)) {
			t.Errorf("%s is still open", name)
		}
	}
	log := w.log.String()
	if !strings.Contains(log, "msg=started") || !strings.Contains(log, "msg=stopped") {
		t.Error(log)
	}
	for _, value := range w.sim.Secrets() {
		if strings.Contains(log, value) {
			t.Errorf("the log holds the secret %.8s…", value)
		}
	}
}

func TestUnixSockets(t *testing.T) {
	w := newWorld(t, `listen: {proxy: "unix:proxy.sock", callback: "", metrics: "", admin: "unix:admin.sock"}`)
	// A process that was killed leaves its socket behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(w.dir, "admin.sock")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	w.start()
	for name, path := range map[string]string{"proxy": "/_lingpai/x", "admin": "/v1/status"} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(w.dir, name+".sock"))
		}}}
		response, err := client.Get("http://localhost" + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if want := map[string]int{"proxy": 404, "admin": 200}[name]; response.StatusCode != want {
			t.Errorf("%s: %d", name, response.StatusCode)
		}
	}
	if w.sidecar.Addr("callback") != nil || w.sidecar.Addr("metrics") != nil {
		t.Error("a listener that is off is open")
	}
	eventually(t, "a line on the listeners", func() bool { return strings.Contains(w.log.String(), "callback=off metrics=off") })
	if _, err := w.open(); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second one on the same socket: %v", err)
	}
	w.stop()
	if err := w.wait(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"proxy", "admin"} {
		if _, err := os.Lstat(filepath.Join(w.dir, name+".sock")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s.sock is left: %v", name, err)
		}
	}
}

// What is no socket is never removed.
func TestUnixSocketOverAFile(t *testing.T) {
	w := newWorld(t, `listen: {proxy: "unix:proxy.sock", callback: "", metrics: "", admin: ""}`)
	path := filepath.Join(w.dir, "proxy.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.open(); err == nil || !strings.Contains(err.Error(), "listen.proxy") {
		t.Errorf("%v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("the file is gone")
	}
}

// An error of New leaves nothing open: neither ports nor the store.
func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	before := goroutines()
	for _, name := range []string{"proxy", "callback", "metrics", "admin"} {
		addresses := map[string]string{}
		section := "listen: {"
		for _, other := range []string{"proxy", "callback", "metrics", "admin"} {
			addresses[other] = free()
			if other == name {
				addresses[other] = taken.Addr().String()
			}
			section += other + `: "` + addresses[other] + `", `
		}
		w := newWorld(t, section+"}", `store: {kind: bolt, path: lingpai.db}`)
		if _, err := w.open(); err == nil || !strings.Contains(err.Error(), "listen."+name) || errors.Is(err, ErrConfig) {
			t.Errorf("%s taken: %v", name, err)
		}
		for other, address := range addresses {
			if other == name {
				continue
			}
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Errorf("%s taken, %s left open: %v", name, other, err)
				continue
			}
			l.Close()
		}
		w.set(`listen: {proxy: "127.0.0.1:0", callback: "", metrics: "", admin: ""}`)
		w.start() // the store is free
		w.stop()
		if err := w.wait(); err != nil {
			t.Error(err)
		}
	}
	noLeak(t, before)
}

func TestStoreLocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `store: {kind: bolt, path: lingpai.db}`).start()
	_, err := w.open()
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "lingpai.db") || !strings.Contains(err.Error(), "another process") || errors.Is(err, ErrConfig) {
		t.Errorf("%v", err)
	}
}

// Without its Redis a sidecar does not start, and says which one it looked for.
func TestRedisUnreachable(t *testing.T) {
	w := newWorld(t, `store: {kind: redis, redis_url: "env:REDIS"}`)
	w.secrets["REDIS"] = "redis://:pa55w0rd@127.0.0.1:1"
	_, err := w.open()
	if err == nil || errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), "pa55") {
		t.Errorf("%v", err)
	}
}

func TestRedis(t *testing.T) {
	srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	w := newWorld(t, `store: {kind: redis, redis_url: "`+srv.URL()+`"}`).start().ready()
	if status, body, err := w.call(); status != 200 || err != nil || strings.Contains(body, "errcode\":4") {
		t.Errorf("%d %s %v", status, body, err)
	}
	if status, body := w.get("admin", "/v1/status"); status != 200 || !strings.Contains(body, `"kind":"redis"`) {
		t.Errorf("%d %s", status, body)
	}
	if _, body := w.get("metrics", "/metrics"); strings.Contains(body, `lingpai_lease_total{result="won"} 0`) {
		t.Error("the leases are not counted")
	}
	w.stop()
	if err := w.wait(); err != nil {
		t.Error(err)
	}
}

// An encrypted store opens with its key only, and what is wrong is found at
// start.
func TestEncryptedStore(t *testing.T) {
	w := newWorld(t, `store: {kind: bolt, path: lingpai.db, encryption_keys: ["env:STORE"]}`)
	key := store.NewKey().Reveal()
	w.secrets["STORE"] = key
	w.start().ready()
	w.stop()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(w.dir, "lingpai.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range append(w.sim.Secrets(), key) {
		if strings.Contains(string(file), base64.StdEncoding.EncodeToString([]byte(value[:len(value)/3*3]))) || strings.Contains(string(file), value) {
			t.Errorf("the file holds the secret %.8s…", value)
		}
	}
	refused := func(what string) {
		t.Helper()
		if _, err := w.open(); !errors.Is(err, ErrConfig) || !errors.Is(err, store.ErrKey) || !strings.Contains(err.Error(), "lingpai.db") {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.secrets["STORE"] = store.NewKey().Reveal()
	refused("another key")
	w.set(`store: {kind: bolt, path: lingpai.db}`)
	refused("no key")
	w.set(`store: {kind: bolt, path: lingpai.db, encryption_keys: ["env:NEW", "env:STORE"]}`)
	w.secrets["NEW"], w.secrets["STORE"] = store.NewKey().Reveal(), key
	w.start().ready()
	w.stop()
	if err := w.wait(); err != nil {
		t.Error(err)
	}
}

// Whatever an environment says of proxies is meant for apps, and for lingpai's
// own calls only upstream.egress_proxy counts.
func TestProxiesOfTheEnvironment(t *testing.T) {
	asked := make(chan string, 100)
	trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.URL.Host }))
	defer trap.Close()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, trap.URL)
	}
	// Not a loopback name: net/http would spare that.
	w := newWorld(t, `upstream: {url: "http://wechat.invalid", connect_timeout: 500ms}`, `tokens: {refresh_timeout: 1s}`).start()
	w.sim.PushTicket(context.Background())
	if status, _, err := w.try(http.MethodPost, "admin", "/v1/component/refresh"); status != 503 || err != nil {
		t.Errorf("%d %v", status, err)
	}
	w.try(http.MethodGet, "proxy", "/cgi-bin/x?from_appid="+authorizer)
	if len(asked) != 0 {
		t.Errorf("the environment's proxy was asked for %s", <-asked)
	}

	relay := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Host
		w.sim.ServeHTTP(rw, r)
	}))
	defer relay.Close()
	w.reloaded(`upstream: {url: "http://wechat.invalid", egress_proxy: "` + relay.URL + `"}`)
	if status, body, err := w.try(http.MethodPost, "admin", "/v1/component/refresh"); status != 200 || err != nil {
		t.Errorf("%d %s %v", status, body, err)
	}
	if len(asked) == 0 || <-asked != "wechat.invalid" {
		t.Error("upstream.egress_proxy was not asked")
	}
}
