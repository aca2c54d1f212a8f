package sidecar

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"lingpai/tokens/wechat/wechattest"
)

// plain is the status of a GET on the proxy.
func (w *world) plain(path string) int {
	w.t.Helper()
	status, _ := w.get("proxy", path)
	return status
}

func TestReloadTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start().ready()

	if status := w.plain(callPath); status != 400 {
		t.Errorf("no account named: %d", status)
	}
	w.reloaded("default_app_id: " + authorizer)
	if status := w.plain(callPath); status != 200 {
		t.Errorf("default_app_id: %d", status)
	}

	w.reloaded("routes: [{path: /cgi-bin/menu/get, token: component}]")
	w.plain(callPath)
	calls := w.sim.CallsTo(callPath)
	if last := calls[len(calls)-1]; last.TokenKind != wechattest.KindComponent {
		t.Errorf("routes: a token of kind %q", last.TokenKind)
	}
	w.reloaded("routes: []")

	post := func(length int) int {
		t.Helper()
		response, err := w.client.Post(w.url("proxy")+callPath, "text/plain", strings.NewReader(strings.Repeat("x", length)))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		return response.StatusCode
	}
	if status := post(2 << 10); status != 200 {
		t.Errorf("before the limit: %d", status)
	}
	w.reloaded("limits: {max_body: 1KiB}")
	if status := post(2 << 10); status != 413 {
		t.Errorf("limits.max_body: %d", status)
	}
	w.reloaded("limits: {}")

	if status := w.plain(callPath + "?from_appid=" + direct); status != 404 {
		t.Errorf("an account not configured: %d", status)
	}
	w.reloaded(`accounts: [{app_id: `+direct+`, app_secret: "env:DIRECT"}]`, "cache: {max_bytes: 1MiB}")
	if status := w.plain(callPath + "?from_appid=" + direct); status != 200 {
		t.Errorf("accounts: %d", status)
	}
	for _, value := range w.sim.Secrets() {
		if strings.Contains(w.log.String(), value) {
			t.Errorf("the log holds the secret %.8s…", value)
		}
	}
}

func TestReloadOfTheComponent(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start().ready()
	refresh := func() int {
		t.Helper()
		status, _, err := w.try(http.MethodPost, "admin", "/v1/component/refresh")
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	w.sim.SetComponentAppSecret("another0another0another0another0")
	if status := refresh(); status != 503 {
		t.Errorf("with the former secret: %d", status)
	}
	w.secrets["SECRET"] = "another0another0another0another0"
	w.reloaded()
	if status := refresh(); status != 200 {
		t.Errorf("app_secret: %d", status)
	}

	// The key is being changed: the former one still opens, then no longer.
	const key = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg"
	w.secrets["KEY"], w.secrets["FORMER"] = key, wechattest.DefaultEncodingAESKey
	component := w.file["component"]
	w.reloaded(strings.Replace(component, "}", `, previous_encoding_aes_key: "env:FORMER"}`, 1))
	if err := w.sim.PushTicket(context.Background()); err != nil {
		t.Errorf("the former key: %v", err)
	}
	w.reloaded(component)
	if err := w.sim.PushTicket(context.Background()); err == nil {
		t.Error("a key that is configured no longer opens")
	}
	if err := w.sim.SetMessageSecurity(wechattest.DefaultMessageToken, key); err != nil {
		t.Fatal(err)
	}
	if err := w.sim.SetKnobs(func(k *wechattest.Knobs) { k.PushPauseAfterFailed = 0 }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a push with the new key", func() bool { return w.sim.PushTicket(context.Background()) == nil })

	// Without component, pushes are refused.
	w.file["component"] = ""
	w.reloaded(`accounts: [{app_id: ` + direct + `, app_secret: "env:DIRECT"}]`)
	if status, _, err := w.try(http.MethodPost, "callback", "/wechat/events"); status != 403 || err != nil {
		t.Errorf("%d %v", status, err)
	}
	if _, body := w.get("admin", "/v1/status"); !strings.Contains(body, `"component":null`) {
		t.Error(body)
	}
}

func TestReloadOfTheLog(t *testing.T) {
	w := newWorld(t).start()
	derived := w.sidecar.log.With("part", "x").WithGroup("g")
	w.reloaded("log: {level: warn, format: json}")
	mark := len(w.log.String())
	derived.Info("quiet")
	derived.Warn("loud", "n", 1)
	w.sidecar.log.Debug("quiet")
	if got := w.log.String()[mark:]; strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"loud","part":"x","g":{"n":1}}`) {
		t.Error(got)
	}
	w.reloaded("log: {level: debug, format: text}")
	mark = len(w.log.String())
	derived.Debug("fine", "n", 2)
	if got := w.log.String()[mark:]; !strings.Contains(got, "msg=fine part=x g.n=2") {
		t.Error(got)
	}
}

func TestReloadKeepsListenAndStore(t *testing.T) {
	w := newWorld(t).start().ready()
	before := w.sidecar.Addr("proxy").String()
	w.reloaded(`listen: {proxy: "127.0.0.1:1", callback: "127.0.0.1:0", metrics: "", admin: "127.0.0.1:0", names: [x]}`, `store: {kind: bolt, path: other.db}`)
	log := w.log.String()
	if !strings.Contains(log, "need a restart") || !strings.Contains(log, "listen.proxy listen.metrics listen.names store.kind store.path") {
		t.Error(log)
	}
	if got := w.sidecar.Addr("proxy").String(); got != before {
		t.Errorf("%s, was %s", got, before)
	}
	if status, _, err := w.call(); status != 200 || err != nil {
		t.Errorf("%d %v", status, err)
	}
	if _, body := w.get("admin", "/v1/status"); !strings.Contains(body, `"kind":"memory"`) {
		t.Error(body)
	}
}

func TestBrokenReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "default_app_id: "+authorizer).start().ready()
	f := func(text string, says ...string) {
		t.Helper()
		w.write(text)
		status, fault := w.reload()
		for _, s := range says {
			if status != 422 || !strings.Contains(fault, s) {
				t.Errorf("%d %q does not say %q", status, fault, s)
			}
		}
		if status := w.plain(callPath); status != 200 {
			t.Errorf("the running configuration is gone: %d", status)
		}
	}
	f("", "component: is missing")
	f("{", "not valid YAML")
	f("routes: [{path: x}]\nupstream: {timeout: 5}\n", "routes[0].path:", "upstream.timeout:")
	f(strings.ReplaceAll(w.file["component"], "env:SECRET", "env:NOWHERE"), "component.app_secret:", "NOWHERE")
	if !strings.Contains(w.log.String(), "the running one stays") {
		t.Error(w.log)
	}
	w.reloaded()
	none, err := New(must(w.load()), Options{Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := none.Reload(); err == nil {
		t.Error("reloaded without a file")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := none.Run(ended); err != nil {
		t.Error(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Calls go on while one reload follows the other.
func TestReloadsUnderTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start().ready()
	var calls, reloads sync.WaitGroup
	var done atomic.Bool
	var made, failed atomic.Int32
	for range 4 {
		calls.Go(func() {
			for !done.Load() {
				made.Add(1)
				if status, body, err := w.call(); status != 200 || err != nil {
					if failed.Add(1) < 5 {
						t.Errorf("%d %s %v", status, body, err)
					}
				}
			}
		})
	}
	const enough = 40 // calls beside the reloads, however slow the machine
	last := 0
	for i := 0; i < 10 || made.Load() < enough && i < 1000; i++ {
		last = i
		w.set(fmt.Sprintf("default_app_id: wx%016d", i), fmt.Sprintf("cache: {max_bytes: %dMiB}", 1+i%3), fmt.Sprintf("limits: {max_header: %dKiB}", 16+i))
		for range 3 {
			reloads.Go(func() {
				if err := w.sidecar.Reload(); err != nil {
					t.Error(err)
				}
			})
		}
		reloads.Wait()
	}
	done.Store(true)
	calls.Wait()
	if made.Load() < enough {
		t.Errorf("only %d calls", made.Load())
	}
	if got := w.sidecar.config.DefaultAppID; got != fmt.Sprintf("wx%016d", last) {
		t.Errorf("the last file is not in force: %s", got)
	}
	if n := w.sim.Count(tokenPath); n != 1 {
		t.Errorf("%d component tokens", n)
	}
}
