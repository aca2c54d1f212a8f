package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// forwardSecret signs what is forwarded to apps here.
const forwardSecret = "5ec4e7-0f-the-app-f0rward1ng"

// takes is an app that takes pushes, half of the time.
type takes struct {
	t      *testing.T
	server *httptest.Server
	fails  atomic.Bool
	mu     sync.Mutex
	got    map[string][]int // numbers of the messages taken, by account
	ids    map[string]string
	seen   map[string]bool

	different int
}

func newTakes(t *testing.T) *takes {
	a := &takes{t: t, got: map[string][]int{}, ids: map[string]string{}, seen: map[string]bool{}}
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	return a
}

// ServeHTTP checks a delivery as an app has to.
func (a *takes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil { // cut by a kill
		return
	}
	mac := hmac.New(sha256.New, []byte(forwardSecret))
	mac.Write([]byte(r.Header.Get("X-Lingpai-Timestamp") + "."))
	mac.Write(body)
	if signature := "sha256=" + hex.EncodeToString(mac.Sum(nil)); r.Header.Get("X-Lingpai-Signature") != signature {
		a.t.Error("the signature of a delivery does not hold")
	}
	if a.fails.Load() && rand.IntN(2) == 0 {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	var message struct{ Content, ToUserName string }
	if err := json.Unmarshal(body, &message); err != nil {
		a.t.Errorf("%v: %s", err, body)
		return
	}
	n, err := strconv.Atoi(message.Content)
	if err != nil {
		return // no message of this test
	}
	app, id := r.Header.Get("X-Lingpai-Appid"), r.Header.Get("X-Lingpai-Delivery")
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.ids[id]; ok && known != app+message.Content {
		a.t.Errorf("two pushes have the id %s", id)
	}
	a.ids[id] = app + message.Content
	if a.got[app] = append(a.got[app], n); !a.seen[app+"/"+message.Content] {
		a.seen[app+"/"+message.Content] = true
		a.different++
	}
}

// taken is how many different messages were.
func (a *takes) taken() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.different
}

// Ten thousand messages, an app that fails half of the time, and lingpai killed
// twice: what was acknowledged is delivered at least once, in order for each
// account, and WeChat is answered in time.
func TestForwardingKilled(t *testing.T) {
	t.Parallel() // it mostly waits
	accounts, each := 2000, 5
	if testing.Short() {
		accounts, each = 100, 3
	}
	w := newWeChat(t, nil)
	app := newTakes(t)
	app.fails.Store(true)
	s := startQuiet(t, w, binaries.release, fmt.Sprintf(`
callback:
  forward:
  - {name: app, url: "%s/push", secret: env:E2E_FORWARD_SECRET, format: json}
`, app.server.URL))
	idle := s.ownMemory()
	acknowledged := make([][]int, accounts)
	var slowest atomic.Int64
	var sent atomic.Int32
	var up sync.RWMutex // held while lingpai is up
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	push := func(account int, message []byte) (ok bool) {
		up.RLock()
		target := s.events + "/wechat/messages/" + appID(account) + "?"
		up.RUnlock()
		query, body := w.BuildPush(message) // sealed anew each time, as WeChat does
		began := time.Now()
		response, err := client.Post(target+query.Encode(), "text/xml", bytes.NewReader(body))
		if err != nil {
			return false
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		took := int64(time.Since(began))
		for {
			if so := slowest.Load(); took <= so || slowest.CompareAndSwap(so, took) {
				break
			}
		}
		return err == nil && string(answer) == "success"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var pushing sync.WaitGroup
	slots := make(chan struct{}, 32)
	for account := range accounts {
		pushing.Go(func() {
			for n := range each {
				message := w.TextMessage(appID(account), "o1", strconv.Itoa(n))
				// WeChat pushes again what is not acknowledged.
				for ctx.Err() == nil {
					slots <- struct{}{}
					ok := push(account, message)
					<-slots
					if ok {
						acknowledged[account] = append(acknowledged[account], n)
						sent.Add(1)
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	total := accounts * each
	for kill := range 2 {
		eventually(t, time.Minute, "a part is pushed", func() bool { return int(sent.Load()) > total*(kill+1)/3 })
		up.Lock()
		s.kill()
		s.run()
		up.Unlock()
	}
	pushing.Wait()
	pushed := time.Now()
	loaded := s.ownMemory()
	eventually(t, 3*time.Minute, "all are delivered", func() bool { return app.taken() >= total })
	if n := app.taken(); n != total {
		t.Errorf("%d different messages were delivered, %d pushed", n, total)
	}
	deliveries := 0
	for account := range accounts {
		got := app.got[appID(account)]
		deliveries += len(got)
		// A repeat is allowed, and may set back by the one that was under way.
		last := -1
		for _, n := range got {
			if n > last+1 {
				t.Fatalf("%s: %d came after %d: %v", appID(account), n, last, got)
			}
			last = max(last, n)
		}
		if last != each-1 || len(acknowledged[account]) != each {
			t.Errorf("%s: %d of %d acknowledged, the last delivered is %d", appID(account), len(acknowledged[account]), each, last)
		}
	}
	if took := time.Duration(slowest.Load()); took > 5*time.Second {
		t.Errorf("WeChat waited %v for an answer", took)
	}
	if loaded > idle+64<<20 {
		t.Errorf("%d MiB with everything queued, %d idle", loaded>>20, idle>>20)
	}
	t.Logf("%d pushes, 2 kills: slowest answer %v, %d deliveries taken, all %v after the last push; own memory %d MiB, %d idle",
		total, time.Duration(slowest.Load()).Round(time.Millisecond), deliveries, time.Since(pushed).Round(time.Millisecond), loaded>>20, idle>>20)
}

// The app of the README, as it is printed there, gets an authorization and a
// message, and answers the message: WeChat reads the answer with an implementation
// of its own.
func TestAppOfTheReadme(t *testing.T) {
	python := need(t, "python3", "install Python 3")
	document, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(document), "```python\n")
	script, _, end := strings.Cut(script, "```")
	if !found || !end {
		t.Fatal("the README has no script")
	}
	if lines := strings.Count(script, "\n"); lines > 25 {
		t.Errorf("the script has %d lines", lines)
	}
	file := t.TempDir() + "/app.py"
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	out := &logBuffer{}
	app := exec.Command(python, "-u", file, port)
	app.Env = append(os.Environ(), "LINGPAI_FORWARD_SECRET="+forwardSecret)
	app.Stdout, app.Stderr = out, out
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		app.Process.Kill()
		app.Wait()
	})
	eventually(t, 20*time.Second, "the app listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})

	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, fmt.Sprintf(`
callback:
  forward:
  - {name: app, url: "http://127.0.0.1:%s/", secret: env:E2E_FORWARD_SECRET, format: json, reply: true}
`, port))
	s.pushTicket()
	if _, err := w.Authorize(t.Context(), appID(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the app hears of the authorization", func() bool {
		return strings.Contains(out.all(), "authorized") && strings.Contains(out.all(), appID(0))
	})
	record, err := w.PushMessage(t.Context(), appID(0), w.TextMessage(appID(0), "o1", "hello"))
	if err != nil {
		t.Fatal(err)
	}
	reply := record.Reply
	if !strings.Contains(reply, "You said: hello") {
		t.Errorf("WeChat reads %q", reply)
	}
	t.Run("wechat-crypto", func(t *testing.T) { readByAnother(t, s, w) })
	for _, secret := range w.Secrets() {
		if len(secret) >= 8 && strings.Contains(out.all(), secret) {
			t.Errorf("the app got a secret that begins with %.10q", secret)
		}
	}
}

// readByAnother has the npm package wechat-crypto read a synchronous reply.
func readByAnother(t *testing.T, s *sidecar, w *wechat) {
	query, body := w.BuildPush(w.TextMessage(appID(0), "o1", "again"))
	response, err := http.Post(s.events+"/wechat/messages/"+appID(0)+"?"+query.Encode(), "text/xml", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%d %v", response.StatusCode, err)
	}
	dir := installSDKs(t)
	script := exec.Command(need(t, "node", "install Node.js 20"), "wechat-crypto.js", wechattest.DefaultMessageToken, wechattest.DefaultEncodingAESKey, wechattest.DefaultComponentAppID)
	script.Dir = dir
	script.Stdin = bytes.NewReader(answer)
	read, err := script.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, read)
	}
	if !strings.Contains(string(read), "You said: again") {
		t.Errorf("it reads %s", read)
	}
}

// freePort is free at the time.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// WeChat's release test passes against the whole program.
func TestReleaseTest(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "callback: {release_test: true}")
	s.pushTicket()
	report, err := w.RunReleaseTest(t.Context(), wechattest.ReleaseTest{WithEvent: true})
	if err != nil {
		t.Fatal(err)
	}
	if !report.Passed || len(report.Cases) < 4 {
		t.Errorf("%+v", report)
	}
}
