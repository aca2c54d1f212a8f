package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// binaries are the built programs: one as it is released, for tests that
// measure, and one for all others, with the race detector if the tests have it.
var binaries struct {
	race, release string
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lingpai-e2e-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries.race, binaries.release = filepath.Join(dir, "lingpai-race"), filepath.Join(dir, "lingpai")
	code := 1
	ok := build(binaries.release, "CGO_ENABLED=0", "-race=false", "-trimpath", "-pgo=auto")
	if raceDetector {
		ok = ok && build(binaries.race, "CGO_ENABLED=1", "-race", "-pgo=off")
	} else {
		binaries.race = binaries.release
	}
	if ok {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(output, env string, flags ...string) bool {
	args := append(append([]string{"build"}, flags...), "-o", output, "lingpai")
	command := exec.Command("go", args...)
	command.Env = append(os.Environ(), env)
	if out, err := command.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go %s: %v\n%s", strings.Join(args, " "), err, out)
		return false
	}
	return true
}

// wechat is a simulator on a listener of its own.
type wechat struct {
	*wechattest.Server
	url string
}

func newWeChat(t *testing.T, change func(*wechattest.Knobs)) *wechat {
	t.Helper()
	knobs := wechattest.DefaultKnobs()
	if change != nil {
		change(&knobs)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wechat{
		Server: wechattest.New(wechattest.Options{Knobs: &knobs, Accounts: map[string]string{directAppID: "5ec4e70fd14ec7acc0007"}}),
		url:    "http://" + listener.Addr().String(),
	}
	server := w.HTTPServer()
	go server.Serve(listener)
	t.Cleanup(func() {
		w.Close()
		server.Close()
	})
	return w
}

// directAppID is the direct account that every sidecar here is given.
const directAppID = "wxdddddddddddddddd"

// appID returns the n-th authorizer's.
func appID(n int) string { return fmt.Sprintf("wx%016x", 0xa000+n) }

// sidecar is a running lingpai process.
type sidecar struct {
	t      *testing.T
	wechat *wechat
	dir    string
	binary string
	extra  string
	level  string // of the log

	command *exec.Cmd
	exited  chan error
	log     *logBuffer
	proxy   string // http://host:port
	admin   string
	metrics string
	events  string
	client  *http.Client
	answers sync.Map // bodies that apps and operators got to see, for the leak test
}

// start runs lingpai with its store in a directory of its own, at log level
// debug. At the end of the test it is stopped and has to exit with 0, and
// nothing that it printed or answered may hold a secret.
func start(t *testing.T, w *wechat, binary, extra string) *sidecar {
	t.Helper()
	s := newSidecar(t, w, binary, extra)
	s.serve()
	return s
}

// serve runs the sidecar to the end of the test, see start.
func (s *sidecar) serve() {
	s.t.Helper()
	s.run()
	s.t.Cleanup(func() {
		s.get(s.metrics + "/metrics")
		s.get(s.admin + "/v1/status")
		s.get(s.admin + "/v1/authorizers?limit=1000")
		s.client.CloseIdleConnections()
		s.stop()
		s.checkNothingLeaked()
	})
}

// startQuiet is start at log level info, without the search for secrets, which
// takes too long where there are very many.
func startQuiet(t *testing.T, w *wechat, binary, extra string) *sidecar {
	t.Helper()
	s := newSidecar(t, w, binary, extra)
	s.level = "info"
	s.run()
	t.Cleanup(s.stop)
	return s
}

func newSidecar(t *testing.T, w *wechat, binary, extra string) *sidecar {
	return &sidecar{
		t: t, wechat: w, dir: t.TempDir(), binary: binary, extra: extra, level: "debug", log: &logBuffer{},
		client: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 600, DisableCompression: true}},
	}
}

// run starts the process, on the store there is.
func (s *sidecar) run() {
	s.t.Helper()
	s.command = s.program("serve")
	s.log.mark()
	s.command.Stdout, s.command.Stderr = s.log, s.log
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited := make(chan error, 1)
	command := s.command
	go func() { exited <- command.Wait() }()
	s.exited = exited
	s.waitStarted()
	s.wechat.SetEventURL(s.events + "/wechat/events")
	s.wechat.SetMessageURL(s.events + "/wechat/messages/$APPID$")
}

// program is a command of lingpai with the sidecar's configuration.
func (s *sidecar) program(name string, args ...string) *exec.Cmd {
	s.t.Helper()
	file := filepath.Join(s.dir, "config.yaml")
	text := fmt.Sprintf(`
listen: {proxy: "127.0.0.1:0", callback: "127.0.0.1:0", metrics: "127.0.0.1:0", admin: "127.0.0.1:0"}
component:
  app_id: %s
  app_secret: env:E2E_APP_SECRET
  token: env:E2E_MESSAGE_TOKEN
  encoding_aes_key: env:E2E_AES_KEY
accounts:
  - {app_id: %s, app_secret: env:E2E_ACCOUNT_SECRET}
upstream: {url: "%s"}
log: {level: %s}
%s`, wechattest.DefaultComponentAppID, directAppID, s.wechat.url, s.level, s.extra)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	command := exec.Command(s.binary, append([]string{name, "-config", file}, args...)...)
	command.Env = append(os.Environ(),
		"E2E_APP_SECRET="+wechattest.DefaultComponentAppSecret, "E2E_MESSAGE_TOKEN="+wechattest.DefaultMessageToken,
		"E2E_AES_KEY="+wechattest.DefaultEncodingAESKey, "E2E_ACCOUNT_SECRET=5ec4e70fd14ec7acc0007",
		"E2E_FORWARD_SECRET="+forwardSecret)
	return command
}

// waitStarted reads the addresses off the log.
func (s *sidecar) waitStarted() {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		for line := range strings.Lines(s.log.sinceMark()) {
			var started struct{ Msg, Proxy, Callback, Metrics, Admin string }
			if json.Unmarshal([]byte(line), &started) == nil && started.Msg == "started" {
				s.proxy, s.events = "http://"+started.Proxy, "http://"+started.Callback
				s.metrics, s.admin = "http://"+started.Metrics, "http://"+started.Admin
				return
			}
		}
		select {
		case err := <-s.exited:
			s.t.Fatalf("lingpai ended: %v\n%s", err, s.log.sinceMark())
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.t.Fatalf("lingpai did not start:\n%s", s.log.sinceMark())
}

// kill ends the process without a word.
func (s *sidecar) kill() {
	s.command.Process.Kill()
	<-s.exited
	s.client.CloseIdleConnections()
}

// stop asks the process to end and checks that it drained.
func (s *sidecar) stop() {
	s.t.Helper()
	s.command.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-s.exited:
		if err != nil {
			s.t.Errorf("exit after SIGTERM: %v\n%s", err, tail(s.log.sinceMark()))
		}
	case <-time.After(40 * time.Second):
		s.command.Process.Signal(syscall.SIGQUIT)
		s.t.Errorf("no exit after SIGTERM\n%s", tail(s.log.sinceMark()))
		<-s.exited
	}
}

func tail(log string) string {
	return log[max(len(log)-4000, 0):]
}

// checkNothingLeaked looks for every secret that the simulator knows, in the
// log and in what apps and operators got to see. The answers of WeChat that
// hold one by their nature are not kept, see call.
func (s *sidecar) checkNothingLeaked() {
	s.t.Helper()
	log := s.log.all()
	if strings.Contains(log, "DATA RACE") {
		s.t.Errorf("data race:\n%s", log[strings.Index(log, "DATA RACE"):][:min(4000, len(log)-strings.Index(log, "DATA RACE"))])
	}
	seen := []string{log}
	s.answers.Range(func(body, _ any) bool {
		seen = append(seen, body.(string))
		return true
	})
	all := strings.Join(seen, "\n")
	secrets := s.wechat.Secrets()
	if len(secrets) < 4 {
		s.t.Errorf("the simulator knows only %d secrets", len(secrets))
	}
	for _, secret := range secrets {
		if len(secret) >= 8 && strings.Contains(all, secret) {
			s.t.Errorf("a secret of %d characters that begins with %.12q leaked", len(secret), secret)
		}
	}
}

// result is the answer to a call.
type result struct {
	status  int
	errcode int
	body    string
	header  http.Header
}

// failed says why a call is no success: "" if it is one.
func (r result) failed() string {
	if r.status == 200 && r.errcode == 0 {
		return ""
	}
	return fmt.Sprintf("status %d: %s", r.status, tail(r.body))
}

// do sends a request to the sidecar and reads the answer.
func (s *sidecar) do(request *http.Request) (result, error) {
	response, err := s.client.Do(request)
	if err != nil {
		return result{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return result{}, err
	}
	r := result{status: response.StatusCode, body: string(body), header: response.Header}
	var errcode struct{ Errcode int }
	json.Unmarshal(body, &errcode)
	r.errcode = errcode.Errcode
	s.answers.Store(r.body, nil)
	return r, nil
}

// call makes a call for an app.
func (s *sidecar) call(method, path, app string, body []byte) (result, error) {
	request, err := http.NewRequest(method, s.proxy+path, bytes.NewReader(body))
	if err != nil {
		return result{}, err
	}
	if app != "" {
		request.Header.Set("X-Wechat-Appid", app)
	}
	return s.do(request)
}

// get fetches a URL and fails the test if that cannot be done.
func (s *sidecar) get(url string) result {
	s.t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := s.do(request)
	if err != nil {
		s.t.Fatalf("GET %s: %v", url, err)
	}
	return r
}

// post sends JSON to the operator API and fails the test unless it is answered
// 200.
func (s *sidecar) post(path, body string) result {
	s.t.Helper()
	request, err := http.NewRequest(http.MethodPost, s.admin+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	r, err := s.do(request)
	if err != nil || r.status != 200 {
		s.t.Fatalf("POST %s: %v, %d %s", path, err, r.status, r.body)
	}
	return r
}

// unmarshal reads JSON that the sidecar answered.
func (s *sidecar) unmarshal(text string, into any) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		s.t.Fatalf("%v: %s", err, tail(text))
	}
}

// pushTicket has WeChat push a ticket.
func (s *sidecar) pushTicket() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.wechat.PushTicket(ctx); err != nil {
		s.t.Fatalf("push a ticket: %v", err)
	}
}

// addAuthorizers makes n authorizers known to both sides.
func (s *sidecar) addAuthorizers(n int) {
	s.t.Helper()
	for i := range n {
		refreshToken := s.wechat.AddAuthorizer(appID(i))
		s.post("/v1/authorizers", fmt.Sprintf(`{"app_id":%q,"refresh_token":%q}`, appID(i), refreshToken))
	}
}

// metric returns the sum of a metric's series that hold all of the labels.
func (s *sidecar) metric(name string, labels ...string) float64 {
	s.t.Helper()
	sum, found := 0.0, false
	scanner := bufio.NewScanner(strings.NewReader(s.get(s.metrics + "/metrics").body))
	for scanner.Scan() {
		series, value, ok := strings.Cut(scanner.Text(), "} ")
		if !ok {
			series, value, ok = strings.Cut(scanner.Text(), " ")
		}
		if !ok || !strings.HasPrefix(series, name) || len(series) > len(name) && series[len(name)] != '{' {
			continue
		}
		matches := true
		for _, label := range labels {
			matches = matches && strings.Contains(series, label)
		}
		if !matches {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); err != nil {
			s.t.Fatalf("%s: %v", scanner.Text(), err)
		}
		sum, found = sum+v, true
	}
	if !found {
		s.t.Fatalf("no metric %s %v", name, labels)
	}
	return sum
}

// eventually polls until a condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %v: %s", within, what)
}

// logBuffer collects what a process prints, over several runs of it.
type logBuffer struct {
	mu    sync.Mutex
	data  bytes.Buffer
	since int
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *logBuffer) mark() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = b.data.Len()
}

func (b *logBuffer) sinceMark() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.data.Bytes()[b.since:])
}

func (b *logBuffer) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}
