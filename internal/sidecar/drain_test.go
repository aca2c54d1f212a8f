package sidecar

import (
	"bufio"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// goroutines are the stacks of those that run, but for the permanent ones of
// fasthttp and of the test itself.
func goroutines() map[string]int {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	found := map[string]int{}
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		_, frames, _ := strings.Cut(stack, "\n")
		permanent := strings.Contains(frames, "valyala/fasthttp.(*workerPool).Start") || strings.Contains(frames, "fasthttp.updateServerDate") ||
			strings.Contains(frames, "fasthttp.init") || strings.Contains(frames, "testing.")
		if permanent {
			continue
		}
		created := frames[strings.LastIndex(strings.TrimSpace(frames), "created by")+1:]
		created, _, _ = strings.Cut(created, " in goroutine")
		found[created]++
	}
	return found
}

// noLeak waits until no more goroutines run than before.
func noLeak(t *testing.T, before map[string]int) {
	t.Helper()
	var more string
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		more = ""
		for stack, n := range goroutines() {
			if n > before[stack] && strings.Contains(stack, "lingpai/") {
				more += stack + "\n"
			}
		}
		if more == "" {
			return
		}
	}
	t.Errorf("goroutines left:\n%s", more)
}

// slow makes the simulator take that long for calls of apps.
func (w *world) slow(d time.Duration) {
	w.sim.AddFault(wechattest.Fault{Path: callPath, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(d)})
}

// under begins a call and waits until WeChat has it.
func (w *world) under() (answered chan int) {
	w.t.Helper()
	n := w.sim.Count(callPath)
	answered = make(chan int, 1)
	go func() {
		status, _, _ := w.call()
		answered <- status
	}()
	eventually(w.t, "the call at WeChat", func() bool { return w.sim.Count(callPath) > n })
	return answered
}

func TestDrainLetsCallsEnd(t *testing.T) {
	before := goroutines()
	w := newWorld(t).start().ready()
	w.slow(time.Second)
	answered := w.under()
	w.stop()
	eventually(t, "the drain", func() bool {
		status, _ := w.get("metrics", "/readyz")
		return status == 503
	})
	if status, body := w.get("metrics", "/metrics"); status != 200 || !strings.Contains(body, "lingpai_in_flight_requests 1") {
		t.Errorf("/metrics while draining: %d", status)
	}
	if status, _ := w.get("metrics", "/livez"); status != 200 {
		t.Errorf("/livez while draining: %d", status)
	}
	for _, name := range []string{"proxy", "callback", "admin"} {
		eventually(t, name+" closed", func() bool { return refused(w.sidecar.Addr(name)) })
	}
	if len(w.ended) > 0 {
		t.Error("Run returned before the call")
	}
	if status := <-answered; status != 200 {
		t.Errorf("the call under way: %d", status)
	}
	if err := w.wait(); err != nil {
		t.Error(err)
	}
	if err := w.sidecar.Reload(); err == nil {
		t.Error("a reload after the drain was accepted")
	}
	w.client.CloseIdleConnections()
	w.sim.Close()
	w.weChat.Close()
	noLeak(t, before)
}

// Calls that began under former limits are calls under way as well.
func TestDrainAfterAReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start().ready()
	w.slow(time.Second)
	answered := w.under()
	w.reloaded("limits: {max_header: 32KiB}")
	w.stop()
	if status := <-answered; status != 200 {
		t.Errorf("the call under way: %d", status)
	}
	if err := w.wait(); err != nil {
		t.Error(err)
	}
}

func TestDrainCutsWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "drain_timeout: 300ms").start().ready()
	w.slow(10 * time.Second)
	answered := w.under()
	began := time.Now()
	w.stop()
	if err := w.wait(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 250*time.Millisecond || took > 3*time.Second {
		t.Errorf("drained in %v", took)
	}
	if status := <-answered; status == 200 {
		t.Error("the call was answered")
	}
	if !strings.Contains(w.log.String(), "were cut") {
		t.Error("the log does not say that calls were cut")
	}
}

// Clients that keep connections, or have just opened one, do not hold it up.
func TestDrainWithIdleClients(t *testing.T) {
	for _, name := range []string{"proxy", "callback", "metrics", "admin"} {
		for state, text := range map[string]string{"kept": "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "new": ""} {
			if state == "new" && (name == "metrics" || name == "admin") {
				continue // as callback
			}
			t.Run(name+" "+state, func(t *testing.T) {
				t.Parallel()
				// Until limits.header_timeout the proxy takes one that has sent
				// nothing for a call under way.
				w := newWorld(t, "limits: {header_timeout: 1s}").start()
				conn := w.raw(name, "%s", text)
				if text != "" {
					response, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Fatal(err)
					}
					response.Body.Close()
				}
				began := time.Now()
				w.stop()
				if err := w.wait(); err != nil {
					t.Error(err)
				}
				// net/http takes a connection that has sent nothing for idle after 5 s.
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("drained in %v", took)
				}
			})
		}
	}
}

func TestFailingListener(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"proxy", "callback", "metrics", "admin"} {
		w := newWorld(t).start()
		eventually(t, "the start", func() bool { return strings.Contains(w.log.String(), "msg=started") })
		var listener net.Listener = w.sidecar.listener
		for _, h := range w.sidecar.servers() {
			if h.name == name {
				listener = h.listener
			}
		}
		listener.Close()
		if err := w.wait(); err == nil || !strings.Contains(err.Error(), "listen."+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What was acknowledged before the drain is there after a restart.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `store: {kind: bolt, path: lingpai.db}`).start().ready()
	if status, _, err := w.call(); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	w.stop()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	w.start()
	if status, body, err := w.call(); status != 200 || err != nil {
		t.Errorf("%d %s %v", status, body, err)
	}
	if n := w.sim.Count(tokenPath); n != 1 {
		t.Errorf("%d component tokens", n)
	}
}
