package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/wechat/wechattest"
)

const menuPath = "/cgi-bin/menu/get"

// fleet is several processes on one Redis.
type fleet struct {
	t      *testing.T
	wechat *wechat
	redis  *redistest.Server
	all    []*sidecar
}

// startFleet starts n processes that share a Redis which writes durably.
func startFleet(t *testing.T, w *wechat, n int, extra string) *fleet {
	t.Helper()
	f := &fleet{t: t, wechat: w, redis: redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")}
	for range n {
		f.all = append(f.all, start(t, w, binaries.race, onRedis(f.redis.URL())+extra))
	}
	return f
}

func onRedis(url string) string {
	return fmt.Sprintf("store: {kind: redis, redis_url: %q}\n", url)
}

// each runs fn for every sidecar at once.
func (f *fleet) each(fn func(i int, s *sidecar)) {
	var running sync.WaitGroup
	for i, s := range f.all {
		running.Go(func() { fn(i, s) })
	}
	running.Wait()
}

// want fails the test unless path was called n times for app ("" is any).
func (w *wechat) want(t *testing.T, path, app string, n int) {
	t.Helper()
	got := w.Count(path)
	if app != "" {
		got = w.CountFor(path, app)
	}
	if got != n {
		t.Errorf("%d calls of %s %s, want %d", got, path, app, n)
	}
}

// noOverlap fails the test if a key was refreshed by two at once.
func (w *wechat) noOverlap(t *testing.T) {
	t.Helper()
	for _, violation := range w.Violations() {
		if strings.Contains(violation, "refreshes it too") {
			t.Errorf("refreshed by two at once: %s", violation)
		}
	}
}

// Five sidecars, one Redis: together they refresh each credential once, and a
// refusal met by one is a new token for all of them at once.
func TestFleet(t *testing.T) {
	const authorizers, calls = 100, 2000
	w := newWeChat(t, func(k *wechattest.Knobs) { k.AuthorizerOverlap = 0 })
	f := startFleet(t, w, 5, "limits: {max_in_flight: 4096}")
	f.all[0].addAuthorizers(authorizers)
	f.all[0].pushTicket() // which reaches the last one
	var failed failures
	var done sync.WaitGroup
	for i := range calls {
		done.Go(func() {
			r, err := f.all[i%5].call("GET", menuPath, appID(i%authorizers), nil)
			if err != nil {
				failed.add(err.Error())
			} else if why := r.failed(); why != "" {
				failed.add(why)
			}
		})
	}
	done.Wait()
	failed.check(t, calls)
	w.want(t, componentPath, "", 1)
	for i := range authorizers {
		w.want(t, authorizerPath, appID(i), 1)
	}
	won, lost := 0.0, 0.0
	for _, s := range f.all {
		won += s.metric("lingpai_lease_total", `result="won"`)
		lost += s.metric("lingpai_lease_total", `result="lost"`)
	}
	t.Logf("%d calls, %v leases won, %v lost", calls, won, lost)

	f.refused(t, appID(7))
	f.refusedByAll(t, appID(8))
	if v := w.Violations(); len(v) > 0 {
		t.Errorf("violations: %.5q", v)
	}
}

// refused has WeChat refuse the token of app; one sidecar meets that, and 100 ms
// later all have the new one.
func (f *fleet) refused(t *testing.T, app string) {
	t.Helper()
	f.each(func(_ int, s *sidecar) { s.usable(app) }) // all have the token in memory
	refreshes := f.wechat.CountFor(authorizerPath, app)
	f.wechat.RevokeToken(wechattest.KindAuthorizer, app)
	if !f.all[2].usable(app) {
		t.Fatal("the call whose token was refused failed")
	}
	time.Sleep(100 * time.Millisecond)
	f.each(func(_ int, s *sidecar) {
		if !s.usable(app) {
			t.Error("a call failed after the refresh")
		}
	})
	f.wechat.want(t, authorizerPath, app, refreshes+1)
	for i, s := range f.all {
		want := 0.0
		if i == 2 {
			want = 1
		}
		if n := s.metric("lingpai_replays_total"); n != want {
			t.Errorf("sidecar %d sent %v calls again, want %v: it still had the former token", i, n, want)
		}
	}
}

// refusedByAll has the token refused to all of them at once.
func (f *fleet) refusedByAll(t *testing.T, app string) {
	t.Helper()
	f.each(func(_ int, s *sidecar) { s.usable(app) })
	refreshes := f.wechat.CountFor(authorizerPath, app)
	f.wechat.RevokeToken(wechattest.KindAuthorizer, app)
	var failed failures
	f.each(func(_ int, s *sidecar) {
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				if r, err := s.call("GET", menuPath, app, nil); err != nil {
					failed.add(err.Error())
				} else if why := r.failed(); why != "" {
					failed.add(why)
				}
			})
		}
		calls.Wait()
	})
	failed.check(t, 100)
	f.wechat.want(t, authorizerPath, app, refreshes+1)
}

// A refresher is killed between WeChat's answer and the write, again and again,
// while WeChat rotates the refresh token: no authorizer is lost in the end, and
// none was refreshed by two at once.
func TestFleetRefresherKilled(t *testing.T) {
	t.Parallel()
	rounds := 50
	if testing.Short() {
		rounds = 10
	}
	w := newWeChat(t, func(k *wechattest.Knobs) {
		k.RefreshToken = wechattest.RefreshTokenRotated
		k.RefreshTokenGrace = 0
		k.AuthorizerOverlap = 0
	})
	f := startFleet(t, w, 3, "tokens: {refresh_timeout: 1s, min_refresh_interval: 1s}")
	f.all[0].addAuthorizers(rounds + 1)
	f.all[0].pushTicket()
	for i := range rounds + 1 {
		if !f.all[i%3].usable(appID(i)) {
			t.Fatal("not usable at the start")
		}
	}
	began := len(w.CallsTo(authorizerPath))
	for round := range rounds {
		victim, app := f.all[round%3], appID(round)
		// WeChat has rotated the token and takes its time to say so.
		fault := w.AddFault(wechattest.Fault{Path: authorizerPath, AppID: app, Kind: wechattest.FaultDelay, AfterEffect: true, Delay: wechattest.Duration(500 * time.Millisecond)})
		w.RevokeToken(wechattest.KindAuthorizer, app)
		executed := w.ExecutedFor(authorizerPath, app)
		calling := make(chan struct{})
		go func() {
			defer close(calling)
			victim.callUnkept("GET", menuPath, app, nil) // fails with its process
		}()
		eventually(t, 5*time.Second, "the refresh runs", func() bool { return w.ExecutedFor(authorizerPath, app) > executed })
		victim.kill()
		<-calling
		w.RemoveFault(fault)
		victim.run()
		// Meanwhile another one serves others.
		if !f.all[(round+1)%3].usable(appID(rounds)) {
			t.Errorf("round %d: another authorizer is not usable", round)
		}
	}
	healed := time.Now()
	var waiting sync.WaitGroup
	for i := range rounds {
		waiting.Go(func() {
			for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
				r, err := f.all[i%3].callUnkept("GET", menuPath, appID(i), nil)
				if err == nil && r.failed() == "" {
					return
				}
				if time.Now().After(deadline) {
					t.Errorf("%s is lost: %v %s", appID(i), err, r.failed())
					return
				}
			}
		})
	}
	waiting.Wait()
	w.noOverlap(t)
	t.Logf("%d refreshers killed, %d refreshes in all, all authorizers usable %v after the last", rounds, len(w.CallsTo(authorizerPath))-began, time.Since(healed).Round(time.Millisecond))
}

// relay passes connections on to a Unix socket, and can hold back what is sent.
type relay struct {
	listener net.Listener
	target   string
	mu       sync.Mutex // held while traffic to the target is held back
	sent     atomic.Int64
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(client)
		}
	}()
	return r
}

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", r.target)
	if err != nil {
		return
	}
	defer server.Close()
	go io.Copy(client, server)
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		if n > 0 {
			r.mu.Lock()
			server.Write(buffer[:n])
			r.mu.Unlock()
			r.sent.Add(int64(n))
		}
		if err != nil {
			return
		}
	}
}

// A refresher that is frozen with WeChat's answer in hand, and woken when its
// lease is long over, cannot overwrite the newer token that another has stored.
func TestFleetRefresherFrozen(t *testing.T) {
	t.Parallel()
	w := newWeChat(t, nil)
	const extra = "tokens: {refresh_timeout: 1s, min_refresh_interval: 1s}"
	f := startFleet(t, w, 1, extra)
	between := newRelay(t, f.redis.Socket())
	frozen := start(t, w, binaries.race, onRedis("redis://"+between.listener.Addr().String())+extra)
	other := f.all[0]
	other.addAuthorizers(1)
	other.pushTicket()
	app := appID(0)
	if !frozen.usable(app) || !other.usable(app) {
		t.Fatal("not usable at the start")
	}
	first := other.generation(app)

	w.AddFault(wechattest.Fault{Path: authorizerPath, Kind: wechattest.FaultDelay, AfterEffect: true, Times: 1, Delay: wechattest.Duration(300 * time.Millisecond)})
	executed := w.ExecutedFor(authorizerPath, app)
	calling := make(chan struct{})
	go func() {
		defer close(calling)
		request := frozen.admin + "/v1/authorizers/" + app + "/refresh"
		if r, err := frozen.client.Post(request, "application/json", nil); err == nil {
			r.Body.Close()
		}
	}()
	eventually(t, 5*time.Second, "the refresh runs", func() bool { return w.ExecutedFor(authorizerPath, app) > executed })
	between.mu.Lock() // the write will not get through
	time.Sleep(600 * time.Millisecond)
	frozen.command.Process.Signal(syscall.SIGSTOP)
	held := between.sent.Load()

	// Its lease keeps the other one from refreshing until it is over.
	began := time.Now()
	other.post("/v1/authorizers/"+app+"/refresh", "")
	if waited := time.Since(began); waited < 3*time.Second {
		t.Errorf("the other one refreshed after %v, within the lease", waited)
	}
	newer := other.generation(app)
	if newer <= first {
		t.Fatalf("generation %d after %d", newer, first)
	}
	between.mu.Unlock()
	eventually(t, 10*time.Second, "the late write gets through", func() bool { return between.sent.Load() > held })
	if got := other.generation(app); got < newer {
		t.Errorf("generation %d: the late write overwrote %d", got, newer)
	}
	frozen.command.Process.Signal(syscall.SIGCONT)
	<-calling
	for _, s := range []*sidecar{frozen, other} {
		eventually(t, 10*time.Second, "both work", func() bool { return s.usable(app) })
		if got := s.generation(app); got < newer {
			t.Errorf("generation %d after %d", got, newer)
		}
	}
	w.noOverlap(t)
}

// generation is that of an authorizer's token.
func (s *sidecar) generation(app string) uint64 {
	s.t.Helper()
	var a struct {
		Token struct{ Generation uint64 } `json:"token"`
	}
	s.unmarshal(s.get(s.admin+"/v1/authorizers/"+app).body, &a)
	return a.Token.Generation
}

// Redis is gone for a while, under load, and comes back with nothing: no call
// fails, and every authorizer comes back from WeChat's list.
func TestFleetOutlivesRedis(t *testing.T) {
	t.Parallel() // it mostly waits
	const authorizers = 60
	outage := time.Minute
	if testing.Short() {
		outage = 5 * time.Second
	}
	w := newWeChat(t, nil)
	f := startFleet(t, w, 3, "")
	f.all[0].addAuthorizers(authorizers)
	f.all[0].pushTicket()
	f.each(func(_ int, s *sidecar) {
		for i := range authorizers {
			if !s.usable(appID(i)) {
				t.Error("not usable at the start")
			}
		}
		s.callUnkept("POST", "/cgi-bin/component/api_create_preauthcode", "", []byte(`{}`))
	})
	ctx, cancel := context.WithCancel(context.Background())
	var failed failures
	var calls atomic.Int64
	var load sync.WaitGroup
	for c := range 12 {
		load.Go(func() {
			for i := c; ctx.Err() == nil; i++ {
				calls.Add(1)
				if r, err := f.all[c%3].callUnkept("GET", menuPath, appID(i%authorizers), nil); err != nil {
					failed.add(err.Error())
				} else if why := r.failed(); why != "" {
					failed.add(why)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	time.Sleep(time.Second)
	f.redis.Kill()
	time.Sleep(outage / 2)
	for _, s := range f.all {
		if r := s.get(s.metrics + "/readyz?verbose"); r.status != 200 || !strings.Contains(r.body, "store") {
			t.Errorf("/readyz?verbose: %d %s", r.status, r.body)
		}
		if up := s.metric("lingpai_store_up"); up != 0 {
			t.Error("lingpai_store_up is 1")
		}
	}
	time.Sleep(outage / 2)
	f.redis.Wipe()
	f.redis.Start()
	back := time.Now()
	eventually(t, 30*time.Second, "all authorizers are known again", func() bool {
		return f.all[0].metric("lingpai_authorizers", `state="active"`) == authorizers
	})
	recovered := time.Since(back)
	time.Sleep(3 * time.Second)
	cancel()
	load.Wait()
	failed.check(t, int(calls.Load()))
	w.want(t, componentPath, "", 1)
	if n := w.Count("/cgi-bin/component/api_get_authorizer_list"); n != 1 {
		t.Errorf("the list was read %d times", n)
	}
	refreshes := w.Count(authorizerPath) - authorizers
	// The refresh tokens are there too.
	w.RevokeAll()
	f.all[0].pushTicket()
	for i := range authorizers {
		eventually(t, 20*time.Second, appID(i)+" can be refreshed", func() bool { return f.all[i%3].usable(appID(i)) })
	}
	w.noOverlap(t)
	t.Logf("%d calls, %d failed, in an outage of %v; all authorizers known %v after it, with %d refreshes", calls.Load(), failed.count, outage, recovered.Round(time.Millisecond), refreshes)
}
