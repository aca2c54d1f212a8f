package admin

import (
	"context"
	"net/http"
	"sync"
)

// status answers 200 whatever fails: what it shows is then the answer.
func (a *API) status(r *http.Request) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), probeWithin)
	defer cancel()
	s := statusBody{Version: a.info.Version, Store: storeBody{Kind: a.info.StoreKind}}
	key, configured := a.tokens.ComponentKey()
	if configured {
		s.Component = &componentBody{AppID: key.AppID}
	}
	if a.store.ask(ctx, a.tokens.Ping) != nil {
		return s, nil
	}
	s.Store.OK = true
	if configured {
		v, err := a.tokens.Component(ctx)
		if err == nil {
			*s.Component = showComponent(v)
		}
		s.Store.OK = err == nil
	}
	counts, err := a.tokens.Counts(ctx)
	if err != nil {
		s.Store.OK = false
		return s, nil
	}
	shown := countsBody(counts)
	s.Authorizers = &shown
	return s, nil
}

func (a *API) reloadConfig(r *http.Request) (any, error) {
	if err := a.reload(); err != nil {
		return nil, &problem{status: http.StatusUnprocessableEntity, message: err.Error()}
	}
	return a.status(r)
}

// storeCheck asks whether the store works, one question at a time, and waits
// for the answer no longer than the caller may: a disk that hangs heeds no
// context. The zero value is ready. Safe for concurrent use.
type storeCheck struct {
	mu  sync.Mutex
	run *storeAnswer // the question under way
}

type storeAnswer struct {
	done chan struct{}
	err  error // once done is closed
}

func (c *storeCheck) ask(ctx context.Context, ping func(context.Context) error) error {
	c.mu.Lock()
	run := c.run
	if run == nil {
		run = &storeAnswer{done: make(chan struct{})}
		c.run = run
		// Others may join: the question must not end with the first caller.
		asking := context.WithoutCancel(ctx)
		go func() {
			asking, cancel := context.WithTimeout(asking, probeWithin)
			defer cancel()
			run.err = ping(asking)
			c.mu.Lock()
			c.run = nil
			c.mu.Unlock()
			close(run.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-run.done:
		return run.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
