package e2e

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

const (
	componentPath  = "/cgi-bin/component/api_component_token"
	authorizerPath = "/cgi-bin/component/api_authorizer_token"
)

// failures collects why calls failed.
type failures struct {
	mu    sync.Mutex
	count int
	first []string
}

func (f *failures) add(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; len(f.first) < 5 {
		f.first = append(f.first, why)
	}
}

func (f *failures) check(t *testing.T, calls int) {
	t.Helper()
	if f.count > 0 {
		t.Errorf("%d of %d calls failed, such as %q", f.count, calls, f.first)
	}
}

// TestColdStart: one ticket, then 2000 concurrent calls over 200 authorizers.
func TestColdStart(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "limits: {max_in_flight: 4096}")
	const authorizers, calls = 200, 2000
	s.addAuthorizers(authorizers)
	s.pushTicket()
	var failed failures
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range calls {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			r, err := s.call("GET", "/cgi-bin/menu/get", appID(i%authorizers), nil)
			if err != nil {
				failed.add(err.Error())
			} else if why := r.failed(); why != "" {
				failed.add(why)
			}
		})
	}
	ready.Wait()
	close(begin)
	done.Wait()
	failed.check(t, calls)
	if n := w.Count(componentPath); n != 1 {
		t.Errorf("%d calls of api_component_token, want 1", n)
	}
	for i := range authorizers {
		if n := w.CountFor(authorizerPath, appID(i)); n != 1 {
			t.Errorf("%d calls of api_authorizer_token for %s, want 1", n, appID(i))
		}
	}
	if n := w.Executed("/cgi-bin/menu/get"); n != calls {
		t.Errorf("WeChat ran %d calls, want %d", n, calls)
	}
	if violations := w.Violations(); len(violations) > 0 {
		t.Errorf("violations: %q", violations)
	}
	if n := s.metric("lingpai_token_refreshes_total", `kind="authorizer"`, `reason="missing"`, `result="ok"`); n != authorizers {
		t.Errorf("lingpai_token_refreshes_total says %v, want %d", n, authorizers)
	}
}

// TestConstantLoad: lifetimes of a few seconds under load for a minute. No
// caller sees an error, and each lifetime costs one refresh.
func TestConstantLoad(t *testing.T) {
	const (
		lifetime    = 6 * time.Second
		authorizers = 20
		clients     = 16
	)
	load := time.Minute
	if testing.Short() {
		load = 15 * time.Second
	}
	w := newWeChat(t, func(k *wechattest.Knobs) {
		k.ComponentTokenLifetime = wechattest.Duration(lifetime)
		k.AuthorizerTokenLifetime = wechattest.Duration(lifetime)
		k.AuthorizerOverlap = 0 // the former token dies at once
		k.ComponentOverlap = wechattest.Duration(time.Second)
		k.RefreshToken = wechattest.RefreshTokenRotated
	})
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(authorizers)
	s.pushTicket()
	// The first calls obtain the tokens; from then on they are renewed ahead.
	for i := range authorizers {
		if r, err := s.call("GET", "/cgi-bin/menu/get", appID(i), nil); err != nil || r.failed() != "" {
			t.Fatalf("%v %s", err, r.failed())
		}
	}
	began := time.Now()
	var failed failures
	var calls atomic.Int64
	var done sync.WaitGroup
	for c := range clients {
		done.Go(func() {
			for i := c; time.Since(began) < load; i++ {
				path, app, body := "/cgi-bin/message/custom/send", appID(i%authorizers), []byte(`{"touser":"o1","msgtype":"text","text":{"content":"x"}}`)
				if i%50 == 0 {
					path, app, body = "/cgi-bin/component/api_create_preauthcode", "", []byte(`{"component_appid":"wx0123456789abcdef"}`)
				}
				r, err := s.callUnkept("POST", path, app, body)
				calls.Add(1)
				if err != nil {
					failed.add(err.Error())
				} else if why := r.failed(); why != "" {
					failed.add(path + " " + why)
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	done.Wait()
	failed.check(t, int(calls.Load()))
	// A token is renewed in the last third of its life, so the interval between
	// two renewals is at least two thirds of it.
	most := int(time.Since(began)/(lifetime*2/3)) + 2
	least := int(load / lifetime)
	check := func(name string, n int) {
		t.Helper()
		if n > most || n < least {
			t.Errorf("%s: %d refreshes in %v at a lifetime of %v, want %d to %d", name, n, load, lifetime, least, most)
		}
	}
	check("component", w.Count(componentPath))
	for i := range authorizers {
		check(appID(i), w.CountFor(authorizerPath, appID(i)))
	}
	if n := s.metric("lingpai_token_refreshes_total", `reason="rejected"`); n != 0 {
		t.Errorf("%v refreshes were forced by refusals", n)
	}
	if violations := w.Violations(); len(violations) > 0 {
		t.Errorf("violations: %.5q", violations)
	}
	t.Logf("%d calls in %v, %d component refreshes, %d of %s", calls.Load(), load, w.Count(componentPath), w.CountFor(authorizerPath, appID(0)), appID(0))
}
