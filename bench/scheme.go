package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// The ways in which programs without a sidecar keep tokens, for the stampede.

// newScheme returns a way to get an account's token.
func newScheme(spec goProxySpec, client *fasthttp.HostClient) func(app string) (string, error) {
	fetch := func(app string) (string, time.Duration, error) { return fetchToken(spec.Upstream, client, app) }
	if spec.Scheme == "wxcomponent" {
		return (&wxcomponent{fetch: fetch, lifetime: spec.Lifetime, cached: map[string]keptToken{}, stored: map[string]keptToken{}}).retrying
	}
	return (&naive{fetch: fetch, kept: map[string]keptToken{}}).token
}

type keptToken struct {
	token string
	until time.Time
}

func (k keptToken) valid() bool { return time.Now().Before(k.until) }

// naive looks at the expiry before each call and gets a new token if need be;
// callers do not know of each other.
type naive struct {
	fetch func(string) (string, time.Duration, error)
	mu    sync.Mutex
	kept  map[string]keptToken
}

func (n *naive) token(app string) (string, error) {
	n.mu.Lock()
	kept := n.kept[app]
	n.mu.Unlock()
	if kept.valid() {
		return kept.token, nil
	}
	asked := time.Now()
	token, lifetime, err := n.fetch(app)
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	n.kept[app] = keptToken{token, asked.Add(lifetime)}
	n.mu.Unlock()
	return token, nil
}

// wxcomponent does as wxcloudrun-wxcomponent's comm/wx/token.go: a record in the
// database, above it a cache for five minutes; near the end, one look in a hundred
// starts a renewal; one caller renews under a lock, the others wait 200 ms and look
// again, and the third failure is final. Its times, made for two hours, are
// shortened as the token's lifetime is, the 200 ms and the count are not.
// The database here costs nothing.
type wxcomponent struct {
	fetch    func(string) (string, time.Duration, error)
	lifetime time.Duration
	lock     sync.Mutex // only ever tried

	mu             sync.Mutex
	cached, stored map[string]keptToken
}

var errLock = errors.New("lock fail")

func (w *wxcomponent) retrying(app string) (token string, err error) {
	for range 3 {
		if token, err = w.token(app); !errors.Is(err, errLock) {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	return token, err
}

func (w *wxcomponent) token(app string) (string, error) {
	fiveMinutes := w.lifetime / 24
	w.mu.Lock()
	cached, stored := w.cached[app], w.stored[app]
	w.mu.Unlock()
	if cached.valid() {
		return cached.token, nil
	}
	until := time.Now().Add(fiveMinutes)
	if stored.valid() {
		if stored.until.Before(until) {
			if rand.IntN(100) == 0 {
				go w.update(app)
			}
			until = stored.until
		}
		w.cache(app, stored.token, until)
		return stored.token, nil
	}
	token, err := w.update(app)
	if err == nil {
		w.cache(app, token, until)
	}
	return token, err
}

func (w *wxcomponent) update(app string) (string, error) {
	if !w.lock.TryLock() {
		return "", errLock
	}
	defer w.lock.Unlock()
	token, _, err := w.fetch(app)
	if err != nil {
		return "", err
	}
	oneMinute := w.lifetime / 120
	w.mu.Lock()
	w.stored[app] = keptToken{token, time.Now().Add(w.lifetime - oneMinute)}
	w.mu.Unlock()
	return token, nil
}

func (w *wxcomponent) cache(app, token string, until time.Time) {
	w.mu.Lock()
	w.cached[app] = keptToken{token, until}
	w.mu.Unlock()
}

// fetchToken asks the stub for a token.
func fetchToken(host string, client *fasthttp.HostClient, app string) (string, time.Duration, error) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI("http://" + host + "/cgi-bin/component/api_authorizer_token")
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetBodyString(fmt.Sprintf(`{"authorizer_appid":%q}`, app))
	if err := client.Do(request, response); err != nil {
		return "", 0, err
	}
	var answer struct {
		Token     string `json:"authorizer_access_token"`
		ExpiresIn int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(response.Body(), &answer); err != nil {
		return "", 0, err
	}
	return answer.Token, time.Duration(answer.ExpiresIn) * time.Second, nil
}
