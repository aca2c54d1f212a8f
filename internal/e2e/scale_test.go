package e2e

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/metrics"
	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis"
	"lingpai/tokens/store/redis/redistest"
	wechatclient "lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

// A hundred thousand authorizers: how long the list takes to read, how long a
// start takes with all of them in the store, and that calls at random take no more
// memory than cache.max_bytes allows.
func TestManyAuthorizers(t *testing.T) {
	authorizers, calls := 100_000, 30_000
	if testing.Short() {
		authorizers, calls = 5_000, 3_000
	}
	if raceDetector {
		calls /= 3
	}
	const cacheBytes = 4 << 20 // less than the tokens of all take
	for _, kind := range []string{"redis", "bolt"} {
		if raceDetector && kind == "bolt" {
			authorizers = min(authorizers, 20_000) // the simulator is what takes long then
		}
		t.Run(kind, func(t *testing.T) {
			w := newWeChat(t, func(k *wechattest.Knobs) {
				k.TokenLatency = 0
				k.Quotas = nil
			})
			for i := range authorizers {
				w.AddAuthorizer(appID(i))
			}
			extra := fmt.Sprintf("cache: {max_bytes: %dB}\n", cacheBytes)
			if kind == "redis" {
				extra += onRedis(redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec").URL())
			}
			s := startQuiet(t, w, binaries.release, extra)
			idle := s.ownMemory()
			s.pushTicket()
			began := time.Now()
			eventually(t, 3*time.Minute, "all authorizers are known", func() bool {
				return s.metric("lingpai_authorizers", `state="active"`) == float64(authorizers)
			})
			synced := time.Since(began)
			afterSync := s.ownMemory()

			s.stop()
			began = time.Now()
			s.run()
			if r := s.get(s.metrics + "/readyz"); r.status != 200 {
				t.Fatalf("/readyz: %d", r.status)
			}
			started := time.Since(began)
			atStart := s.ownMemory()
			s.pushTicket()

			var failed failures
			var load sync.WaitGroup
			var n atomic.Int64
			began = time.Now()
			for range 32 {
				load.Go(func() {
					for n.Add(1) <= int64(calls) {
						r, err := s.callUnkept("GET", menuPath, appID(rand.IntN(authorizers)), nil)
						if err != nil {
							failed.add(err.Error())
						} else if why := r.failed(); why != "" {
							failed.add(why)
						}
					}
				})
			}
			load.Wait()
			took := time.Since(began)
			failed.check(t, calls)
			loaded := s.ownMemory()
			t.Logf("%d authorizers in %s: list read and stored in %v, start in %v, %d calls at random in %v (%d refreshes); "+
				"own memory %d MiB idle, %d after the list; %d after the start, %d after the load, cache.max_bytes %d MiB",
				authorizers, kind, synced.Round(time.Millisecond), started.Round(time.Millisecond), calls, took.Round(time.Millisecond),
				w.Count(authorizerPath), idle>>20, afterSync>>20, atStart>>20, loaded>>20, cacheBytes>>20)
			if most := atStart + cacheBytes + 40<<20; loaded > most {
				t.Errorf("%d MiB after the load, want at most %d", loaded>>20, most>>20)
			}
			if started > 5*time.Second {
				t.Errorf("ready after %v", started)
			}
		})
	}
}

// A hundred callers of one key, through three stores on one Redis: one refresh.
func TestThreeStoresOneRefresh(t *testing.T) {
	srv := redistest.Start(t)
	w := newWeChat(t, nil)
	var services []*tokens.Service
	for range 3 {
		st, err := redis.Open(t.Context(), redis.Options{URL: secret.New(srv.URL())})
		if err != nil {
			t.Fatal(err)
		}
		client := wechatclient.NewClient(http.DefaultTransport.(*http.Transport).Clone(), w.url, 10*time.Second)
		service, err := tokens.NewService(tokens.Config{
			Component:    &tokens.ComponentConfig{AppID: wechattest.DefaultComponentAppID, AppSecret: secret.New(wechattest.DefaultComponentAppSecret)},
			RefreshAhead: 10 * time.Minute, RefreshTimeout: 10 * time.Second, WaitTimeout: 5 * time.Second, MinRefreshInterval: 30 * time.Second,
			Client: client,
		}, store.Observe(st, func(string, time.Duration, error) {}), 1<<20, metrics.New("", "", ""), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			service.Close(t.Context())
			st.Close()
		})
		services = append(services, service)
	}
	if _, err := services[0].ReceiveTicket(t.Context(), secret.New(w.IssueTicket()), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := services[0].PutAuthorizer(t.Context(), appID(0), secret.New(w.AddAuthorizer(appID(0)))); err != nil {
		t.Fatal(err)
	}
	values := make(chan string, 100)
	var calls sync.WaitGroup
	for i := range 100 {
		calls.Go(func() {
			token, err := services[i%3].Token(t.Context(), tokens.Key{Kind: tokens.Authorizer, AppID: appID(0)})
			if err != nil {
				t.Error(err)
				return
			}
			values <- token.Value().Reveal()
		})
	}
	calls.Wait()
	close(values)
	live := w.LiveTokens(wechattest.KindAuthorizer, appID(0))
	for value := range values {
		if len(live) != 1 || value != live[0] {
			t.Fatal("a caller got another token than the one that lives")
		}
	}
	w.want(t, authorizerPath, appID(0), 1)
	w.want(t, componentPath, "", 1)
	w.noOverlap(t)
}
