package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"lingpai/internal/config"
	"lingpai/proxy/authorize"
	"lingpai/proxy/callback"
	"lingpai/proxy/forward"
	"lingpai/proxy/link"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// apps takes pushes on to the apps of callback.forward.
type apps struct {
	*forward.Forwarder
	sidecar *Sidecar
}

// Accept implements callback.Apps.
func (a apps) Accept(ctx context.Context, m callback.Message) error {
	return a.accept(ctx, forward.Push(m))
}

// Reply implements callback.Apps.
func (a apps) Reply(ctx context.Context, m callback.Message) ([]byte, bool) {
	return a.Forwarder.Reply(ctx, forward.Push(m))
}

// worked passes an event on that was worked on.
func (a apps) worked(ctx context.Context, push store.Push, event wechat.Event) error {
	return a.accept(ctx, forward.Push{Digest: push.Digest, AppID: event.AuthorizerID, ReceivedAt: push.ReceivedAt, XML: push.Message})
}

// accept drops what can never be forwarded: WeChat would push it again in vain.
func (a apps) accept(ctx context.Context, push forward.Push) error {
	err := a.Forwarder.Accept(ctx, push)
	if errors.Is(err, forward.ErrMalformed) {
		a.sidecar.log.Warn("a push is not forwarded: it is no XML document that is understood", "app_id", push.AppID)
		return nil
	}
	return err
}

// newApps returns what forwards pushes; nil for a follower, which gets none.
func (s *Sidecar) newApps(c config.Config) (*apps, error) {
	if c.Store.Follower() {
		return nil, nil
	}
	kept, ok := s.store.(store.Deliveries)
	if !ok {
		return nil, errors.New("this store keeps no deliveries")
	}
	f, err := forward.New(forward.Options{Targets: targetsOf(c), Store: kept, Metrics: s.metrics, Log: s.log})
	if err != nil {
		return nil, fmt.Errorf("%w: callback.forward: %w", ErrConfig, err)
	}
	return &apps{f, s}, nil
}

func targetsOf(c config.Config) []forward.Target {
	targets := make([]forward.Target, len(c.Callback.Forward))
	for i, f := range c.Callback.Forward {
		targets[i] = forward.Target{Name: f.Name, URL: f.URL, Secret: f.Secret, Events: f.Events, AppIDs: f.AppIDs, JSON: f.Format == "json", Reply: f.Reply}
	}
	return targets
}

// linkOf is where authorization links lead.
func linkOf(c config.Config) link.Config {
	return link.Config{PublicURL: c.Callback.PublicURL, LoginURL: c.Callback.LoginURL}
}

// pagesOf is the configuration of the authorization pages; nil for a sidecar that
// cannot have an account authorize.
func pagesOf(c config.Config) (*authorize.Config, error) {
	if c.Component == nil || c.Store.Follower() {
		return nil, nil
	}
	pages := &authorize.Config{
		PublicURL:    c.Callback.PublicURL,
		ReturnURLs:   c.Callback.ReturnURLs,
		ReturnSecret: c.Callback.ReturnSecret,
		StateSecret:  c.Component.AppSecret,
		LoginURL:     c.Callback.LoginURL,
	}
	for _, text := range c.Callback.TrustedProxies {
		prefix, err := config.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("callback.trusted_proxies: %w", err)
		}
		pages.TrustedProxies = append(pages.TrustedProxies, prefix)
	}
	return pages, nil
}

// configurePages takes over how the authorization pages work; nil: there are none,
// as long as there is no platform. Those there are say so then themselves.
func (s *Sidecar) configurePages(c *authorize.Config) error {
	if c == nil {
		return nil
	}
	if pages := s.pages.Load(); pages != nil {
		return pages.Reconfigure(*c)
	}
	pages, err := authorize.New(*c, s.tokens, s.log)
	if err != nil {
		return fmt.Errorf("%w: callback: %w", ErrConfig, err)
	}
	s.pages.Store(pages)
	return nil
}

// strangers serves listen.callback: WeChat's pushes and the authorization pages.
func (s *Sidecar) strangers() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.callback)
	pages := func(w http.ResponseWriter, r *http.Request) {
		if pages := s.pages.Load(); pages != nil {
			pages.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}
	mux.HandleFunc(authorize.Path, pages)
	mux.HandleFunc(authorize.PathDone, pages)
	return mux
}
