package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
)

const example = "../../config.yaml"

// withoutCredentials clears what has no default, and the folder of the file.
func withoutCredentials(c Config) Config {
	c.Component = nil
	c.Store.Path = filepath.Base(c.Store.Path)
	return c
}

// equal compares two configurations, an empty list being no list.
func equal(a, b Config) bool {
	return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

func TestExampleHasTheDefaults(t *testing.T) {
	config, faults := Load(example, testEnv)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if got, want := withoutCredentials(config), Default(); !equal(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	c := config.Component
	if c.AppID != "wx0123456789abcdef" || c.AppSecret.Reveal() != appSecret || c.EncodingAESKey.Reveal() != aesKey || !c.PreviousEncodingAESKey.Empty() {
		t.Errorf("component %+v", c)
	}
	if want, _ := filepath.Abs("../../lingpai.db"); config.Store.Path != want {
		t.Errorf("store.path %s, want %s", config.Store.Path, want)
	}
}

// Every key stands in the example: where it belongs to a list that is empty by
// default, in an example that is valid once its # is removed.
func TestExampleHasEveryKey(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`^( *)#(- |  )`)
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		if !commented.MatchString(line) {
			continue
		}
		lines[i] = commented.ReplaceAllString(line, "$1 $2")
		if before := lines[i-1]; strings.Contains(before, ": []") {
			lines[i-1] = strings.Replace(before, ": []", ":", 1)
		}
	}
	text := strings.Join(lines, "\n")
	// With pages to return to, this has to be filled.
	file := []byte(strings.Replace(text, `return_secret: ""`, "return_secret: env:APP_SECRET", 1))
	config, faults := Parse("config.yaml", file, ".", testEnv)
	if len(faults) > 0 {
		t.Fatalf("%v\n%s", faults, file)
	}
	l := loader{places: map[string]place{}, broken: map[string]bool{}, env: testEnv}
	body, _ := l.document(file)
	l.mapping("", body, reflect.ValueOf(&config).Elem())
	keys := map[string]bool{}
	for key, at := range l.places {
		if name := key[strings.LastIndex(key, ".")+1:]; !strings.Contains(name, "[") {
			if there := string([]rune(lines[at.line-1])[at.column-1:]); !strings.HasPrefix(there, name+":") {
				t.Errorf("%s is said to be at %d:%d, where there is %q", key, at.line, at.column, there)
			}
		}
		keys[regexp.MustCompile(`\[\d+\]`).ReplaceAllString(key, "[]")] = true
	}
	for _, key := range schemaKeys() {
		if !keys[key] {
			t.Errorf("config.yaml lacks %s", key)
		}
	}
}

// Every line with a key says what it is about.
func TestExampleIsCommented(t *testing.T) {
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`^[a-z_]+:$`)
	key := regexp.MustCompile(`^ *(#- |#  )?[a-z_]+:( |$)`)
	for i, line := range strings.Split(string(data), "\n") {
		if key.MatchString(line) && !section.MatchString(line) && !strings.Contains(line, " # ") && !strings.Contains(line, "hosts:") {
			t.Errorf("line %d has no comment: %s", i+1, line)
		}
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	config, faults := Parse("config.yaml", []byte(account), "/etc/lingpai", testEnv)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	config.Accounts = nil
	if got, want := withoutCredentials(config), Default(); !equal(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestValues(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app-secret"), []byte(appSecret+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lingpai.yaml")
	if err := os.WriteFile(path, []byte(`
listen: {proxy: unix:run/proxy.sock, admin: "", names: ["LingPai:80", "lingpai:9060"]}
accounts:
  - app_id: wxaaaa0001
    app_secret: file:app-secret
default_app_id: wxaaaa0001
upstream:
  url: http://LOCALHOST:9070/
  hosts:
    - API.weixin.qq.com:80
    - mp.weixin.qq.com=https://MP.weixin.qq.com/
  timeout: 1m30s
  max_connections: 7
routes: [{path: /x, token: component}]
cache: {max_bytes: 2GiB}
replay: {max_body: 1500 kB}
limits: {max_body: 3MB}
store: {path: data/l.db, redis_url: "redis://a:6379"}
callback:
  public_url: https://WX.example.com/lingpai/
  return_urls: [https://App.example.com, https://app.example.com/x]
  return_secret: env:APP_SECRET
  login_url: http://localhost:9070
  trusted_proxies: [10.0.0.7, fd00::/8]
  release_test: true
  forward:
    - {name: a, url: "http://app:8080/push", secret: env:APP_SECRET}
    - {name: b, url: "http://app:8080/push", secret: env:APP_SECRET, events: [subscribe], app_ids: [wxaaaa0001], format: json, reply: true}
log: {level: debug, format: text}
drain_timeout: 500ms
`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, faults := Load(path, testEnv)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	want := Default()
	want.Listen = Listen{Proxy: "unix:" + dir + "/run/proxy.sock", Callback: "0.0.0.0:9061", Metrics: "0.0.0.0:9062", Names: []string{"lingpai", "lingpai:9060"}}
	want.Accounts = []Account{{"wxaaaa0001", secret.New(appSecret)}}
	want.DefaultAppID = "wxaaaa0001"
	want.Upstream.URL = "http://localhost:9070"
	want.Upstream.Hosts = []Host{{"api.weixin.qq.com", "http://localhost:9070"}, {"mp.weixin.qq.com", "https://mp.weixin.qq.com"}}
	want.Upstream.Timeout = 90 * time.Second
	want.Upstream.MaxConnections = 7
	want.Routes = []Route{{Path: "/x", Token: "component"}}
	want.Cache.MaxBytes = 2 << 30
	want.Replay.MaxBody = 1_500_000
	want.Limits.MaxBody = 3_000_000
	want.Store.Path = dir + "/data/l.db"
	want.Store.RedisURL = secret.New("redis://a:6379")
	want.Callback = Callback{
		PublicURL:      "https://wx.example.com/lingpai",
		ReturnURLs:     []string{"https://app.example.com/", "https://app.example.com/x"},
		ReturnSecret:   secret.New(appSecret),
		LoginURL:       "http://localhost:9070",
		TrustedProxies: []string{"10.0.0.7", "fd00::/8"},
		ReleaseTest:    true,
		Forward: []Forward{
			{"a", "http://app:8080/push", secret.New(appSecret), []string{"*"}, []string{"*"}, "xml", false},
			{"b", "http://app:8080/push", secret.New(appSecret), []string{"subscribe"}, []string{"wxaaaa0001"}, "json", true},
		},
	}
	want.Log = Log{"debug", "text"}
	want.DrainTimeout = 500 * time.Millisecond
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestDiff(t *testing.T) {
	a := Default()
	if got := a.Diff(Default()); len(got) != 0 {
		t.Errorf("no difference, got %v", got)
	}
	b := Default()
	b.Listen.Admin = ""
	b.Listen.Names = []string{"lingpai"}
	b.Store.RedisURL = secret.New("redis://a")
	b.Upstream.Timeout = time.Second
	if got, want := a.Diff(b), []string{"listen.admin", "listen.names", "store.redis_url"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	b = Default()
	b.Listen.Names, b.Store.EncryptionKeys = []string{}, []secret.String{}
	if got := a.Diff(b); len(got) != 0 {
		t.Errorf("an empty list is no list, got %v", got)
	}
}

func TestReport(t *testing.T) {
	for want, faults := range map[string]Faults{
		"c.yaml is valid\n": nil,
		"c.yaml:3:5: log.level: wrong\n1 fault in c.yaml\n":       {{"c.yaml", "log.level", 3, 5, "wrong"}},
		"c.yaml: gone\nc.yaml:1:1: no text\n2 faults in c.yaml\n": {{File: "c.yaml", Message: "gone"}, {"c.yaml", "", 1, 1, "no text"}},
	} {
		var b strings.Builder
		Report(&b, "c.yaml", faults)
		if b.String() != want {
			t.Errorf("got\n%swant\n%s", &b, want)
		}
	}
	if Faults(nil).Err() != nil || (Faults{{}}).Err() == nil {
		t.Error("Err is nil for no faults alone")
	}
}
