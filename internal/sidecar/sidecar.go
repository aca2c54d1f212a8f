// Package sidecar wires one running lingpai: store, tokens, data plane,
// callbacks, operator API and probes, on their listeners, from start to drain.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lingpai/internal/config"
	"lingpai/metrics"
	"lingpai/proxy"
	"lingpai/proxy/admin"
	"lingpai/proxy/authorize"
	"lingpai/proxy/callback"
	"lingpai/tokens"
	"lingpai/tokens/store"
	"lingpai/tokens/store/bolt"
	"lingpai/tokens/store/memory"
	"lingpai/tokens/store/redis"
)

// Options is what a Sidecar is made from beside its configuration.
type Options struct {
	// Load reads the configuration anew, for a reload; nil refuses reloads.
	Load func() (config.Config, error)
	// Log takes the log lines.
	Log io.Writer
	// Version, Commit and GoVersion say what runs.
	Version, Commit, GoVersion string
}

// Sidecar is one running lingpai. Make one with New, then call Run once.
type Sidecar struct {
	options Options
	log     *slog.Logger
	handler *logHandler
	metrics *metrics.Metrics
	store   store.Store
	tokens  *tokens.Service

	proxy    *proxy.Proxy
	server   *proxy.Server
	callback *callback.Handler
	admin    *admin.API
	https    []*httpServer // callback and admin
	probes   *httpServer   // last to go

	mu       sync.Mutex // guards config; held through a reload
	config   config.Config
	ready    atomic.Bool
	stopping atomic.Bool
	listener net.Listener // of the proxy

	coexistence coexistence // guarded by mu
	apps        *apps       // nil for a follower
	pages       atomic.Pointer[authorize.Handler]
}

// ErrConfig marks errors that a person mends in the configuration.
var ErrConfig = errors.New("configuration")

// New opens the store and all listeners. It starts nothing yet; an error leaves
// nothing open.
func New(c config.Config, options Options) (_ *Sidecar, err error) {
	s := &Sidecar{options: options, config: c}
	s.handler = newLogHandler(options.Log, c.Log)
	s.log = slog.New(s.handler)
	s.metrics = metrics.New(options.Version, options.Commit, options.GoVersion)
	parts, err := newSettings(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	opened, err := OpenStore(c.Store, s.log)
	if err != nil {
		return nil, err
	}
	s.store = store.Observe(opened, s.metrics.StoreOperation)
	s.metrics.StoreUp(true)
	if s.tokens, err = tokens.NewService(parts.tokens, s.store, tokenBytes(c.Cache), s.metrics, s.log); err != nil {
		return nil, err
	}
	s.metrics.AuthorizerCounts(s.countStates)
	publisher, changed, err := s.coexistence.prepare(s, c)
	if err != nil {
		return nil, err
	}
	if changed {
		s.coexistence.replace(s.tokens, publisher, c, s.log)
	}
	if s.apps, err = s.newApps(c); err != nil {
		return nil, err
	}
	if s.apps != nil {
		s.tokens.SetHooks(tokens.Hooks{Worked: s.apps.worked, Pushes: s.apps.Wake})
	}
	if err = s.configurePages(parts.pages); err != nil {
		return nil, err
	}
	if err = s.listen(c, parts); err != nil {
		return nil, err
	}
	return s, nil
}

// openTimeout bounds the opening of a store.
const openTimeout = 15 * time.Second

// OpenStore opens the store of a configuration, with its keys. log is told of
// settings of a Redis server that may lose records; nil is nobody.
func OpenStore(c config.Store, log *slog.Logger) (store.Store, error) {
	codec, err := store.NewCodec(c.EncryptionKeys...)
	if err != nil {
		return nil, fmt.Errorf("%w: store.encryption_keys: %w", ErrConfig, err)
	}
	var opened store.Store
	switch c.Kind {
	case "memory":
		return memory.Open(memory.Options{Codec: codec}), nil
	case "redis":
		opened, err = openRedis(c, codec, log)
	default:
		opened, err = bolt.Open(c.Path, bolt.Options{Codec: codec})
	}
	if errors.Is(err, store.ErrKey) {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err != nil {
		return nil, err // not opened, which would be a nil pointer in an interface
	}
	return opened, nil
}

func openRedis(c config.Store, codec store.Codec, log *slog.Logger) (store.Store, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	return redis.Open(ctx, redis.Options{URL: c.RedisURL, Codec: codec, KeyPrefix: c.KeyPrefix, ReadOnly: c.Follower(), Log: log})
}

// listen opens the listeners and what is served on them.
func (s *Sidecar) listen(c config.Config, parts settings) error {
	listener, err := open(c.Listen.Proxy)
	if err != nil {
		return fmt.Errorf("listen.proxy: %w", err)
	}
	s.listener = listener
	if s.proxy, err = proxy.New(parts.proxy, listener.Addr(), s.tokens, s.metrics, s.log); err != nil {
		listener.Close()
		return err
	}
	s.server = proxy.NewServer(s.proxy, listener, parts.server)
	var takers callback.Apps
	if s.apps != nil {
		takers = s.apps
	}
	s.callback = callback.New(parts.callback, s.tokens, takers, s.metrics, s.log)
	info := admin.Info{Version: s.options.Version, StoreKind: c.Store.Kind, Names: c.Listen.Names, Link: linkOf(c)}
	if s.apps != nil {
		info.Deliveries = s.apps.Forwarder
	}
	s.admin = admin.New(info, s.tokens, s.Reload, s.log)
	for _, l := range []struct {
		name, address string
		handler       http.Handler
	}{
		{"callback", c.Listen.Callback, s.strangers()},
		{"admin", c.Listen.Admin, s.admin},
		{"metrics", c.Listen.Metrics, admin.Probes(s.tokens, s, s.metrics)},
	} {
		if l.address == "" {
			continue
		}
		served, err := newHTTPServer(l.name, l.address, l.handler, s.log)
		if err != nil {
			return err
		}
		if l.name == "metrics" {
			s.probes = served
		} else {
			s.https = append(s.https, served)
		}
	}
	return nil
}

// abandon closes what New has opened before it failed.
func (s *Sidecar) abandon() {
	for _, h := range s.servers() {
		h.listener.Close()
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if s.server != nil {
		s.server.Shutdown(ended)
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
	if s.tokens != nil {
		s.tokens.Close(ended)
	}
	s.coexistence.end()
	if s.store != nil {
		s.store.Close()
	}
}

// servers returns the net/http servers there are.
func (s *Sidecar) servers() []*httpServer {
	servers := slices.Clone(s.https)
	if s.probes != nil {
		servers = append(servers, s.probes)
	}
	return servers
}

// Addr returns the address of the listener proxy, callback, metrics or admin;
// nil if it is switched off.
func (s *Sidecar) Addr(name string) net.Addr {
	if name == "proxy" {
		return s.listener.Addr()
	}
	for _, h := range s.servers() {
		if h.name == name {
			return h.listener.Addr()
		}
	}
	return nil
}

// Ready implements admin.Health.
func (s *Sidecar) Ready() error {
	if !s.ready.Load() {
		return errors.New("starting or stopping")
	}
	return nil
}

// countStates is asked at each scrape.
func (s *Sidecar) countStates() map[string]int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	counts, err := s.tokens.Counts(ctx)
	if err != nil {
		return nil
	}
	return map[string]int{
		string(store.StateActive):       counts.Active,
		string(store.StateReauthorize):  counts.Reauthorize,
		string(store.StateUnauthorized): counts.Unauthorized,
	}
}
