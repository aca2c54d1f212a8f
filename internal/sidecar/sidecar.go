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
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lingpai/internal/config"
	"lingpai/metrics"
	"lingpai/proxy"
	"lingpai/proxy/admin"
	"lingpai/proxy/callback"
	"lingpai/tokens"
	"lingpai/tokens/store"
	"lingpai/tokens/store/bolt"
	"lingpai/tokens/store/memory"
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
	https    []*httpServer // callback and admin
	probes   *httpServer   // last to go

	mu        sync.Mutex // guards config during a reload
	config    config.Config
	ready     atomic.Bool
	proxyAddr net.Addr
}

// httpServer is a net/http server on a listener of its own.
type httpServer struct {
	name     string
	listener net.Listener
	server   *http.Server
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
	opened, err := openStore(c.Store)
	if err != nil {
		return nil, err
	}
	s.store = store.Observe(opened, s.metrics.StoreOperation)
	s.metrics.StoreUp(true)
	if s.tokens, err = tokens.NewService(parts.tokens, s.store, c.Cache.MaxBytes, s.metrics, s.log); err != nil {
		return nil, err
	}
	s.metrics.AuthorizerCounts(s.countStates)
	if err = s.listen(c, parts); err != nil {
		return nil, err
	}
	return s, nil
}

func openStore(c config.Store) (store.Store, error) {
	switch c.Kind {
	case "memory":
		return memory.New(), nil
	case "bolt":
		if len(c.EncryptionKeys) > 0 {
			return nil, fmt.Errorf("%w: store.encryption_keys: this version does not encrypt its store yet; leave the list empty", ErrConfig)
		}
		return bolt.Open(c.Path, bolt.Options{})
	}
	return nil, fmt.Errorf("%w: store.kind: this version knows bolt and memory; %s comes with a later one", ErrConfig, c.Kind)
}

// listen opens the listeners and what is served on them.
func (s *Sidecar) listen(c config.Config, parts settings) error {
	listener, err := open(c.Listen.Proxy)
	if err != nil {
		return fmt.Errorf("listen.proxy: %w", err)
	}
	s.proxyAddr = listener.Addr()
	if s.proxy, err = proxy.New(parts.proxy, listener.Addr(), s.tokens, s.metrics, s.log); err != nil {
		listener.Close()
		return err
	}
	s.server = proxy.NewServer(s.proxy, listener, parts.server)
	s.callback = callback.New(parts.callback, s.tokens, s.metrics, s.log)
	info := admin.Info{Version: s.options.Version, StoreKind: c.Store.Kind}
	for _, l := range []struct {
		name, address string
		handler       http.Handler
	}{
		{"callback", c.Listen.Callback, s.callback},
		{"admin", c.Listen.Admin, admin.New(info, s.tokens, s.Reload, s.log)},
		{"metrics", c.Listen.Metrics, admin.Probes(s.tokens, s, s.metrics)},
	} {
		if l.address == "" {
			continue
		}
		served, err := newHTTPServer(l.name, l.address, l.handler)
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

func newHTTPServer(name, address string, handler http.Handler) (*httpServer, error) {
	listener, err := open(address)
	if err != nil {
		return nil, fmt.Errorf("listen.%s: %w", name, err)
	}
	return &httpServer{name, listener, &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // it quotes strangers
	}}, nil
}

// open listens on host:port or unix:/path. A socket that a former process left
// behind is taken over, one that is served is not.
func open(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s is in use by another process", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		os.Remove(path)
	}
	return net.Listen("unix", path)
}

// abandon closes what New has opened before it failed.
func (s *Sidecar) abandon() {
	for _, h := range append(s.https, s.probes) {
		if h != nil {
			h.listener.Close()
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if s.server != nil {
		s.server.Shutdown(ended)
	}
	if s.tokens != nil {
		s.tokens.Close(ended)
	}
	if s.store != nil {
		s.store.Close()
	}
}

// Addr returns the address of the listener proxy, callback, metrics or admin;
// nil if it is switched off.
func (s *Sidecar) Addr(name string) net.Addr {
	if name == "proxy" {
		return s.proxyAddr
	}
	for _, h := range append(s.https, s.probes) {
		if h != nil && h.name == name {
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

// Run serves until ctx ends, then drains: no more calls are accepted, those
// under way may end within drain_timeout, what WeChat has answered is stored.
// It returns nil after a drain, and an error if a listener failed.
func (s *Sidecar) Run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.Background())
	defer stopWork()
	var running sync.WaitGroup
	running.Go(func() { s.tokens.Run(work) })
	failed := make(chan error, 4)
	go func() { failed <- s.server.Serve() }()
	for _, h := range append(s.https, s.probes) {
		if h != nil {
			go func() { failed <- fmt.Errorf("listen.%s: %w", h.name, h.server.Serve(h.listener)) }()
		}
	}
	s.ready.Store(true)
	s.log.Info("started", "version", s.options.Version, "proxy", s.address("proxy"), "callback", s.address("callback"),
		"metrics", s.address("metrics"), "admin", s.address("admin"), "store", s.config.Store.Kind)

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		s.log.Error("a listener failed, stopping", "error", err)
	}
	s.ready.Store(false)
	s.drain(stopWork, &running)
	return err
}

func (s *Sidecar) address(name string) string {
	if addr := s.Addr(name); addr != nil {
		return addr.String()
	}
	return "off"
}

// drain ends everything, the store last but for the probes.
func (s *Sidecar) drain(stopWork context.CancelFunc, running *sync.WaitGroup) {
	s.mu.Lock()
	timeout := s.config.DrainTimeout
	s.mu.Unlock()
	s.log.Info("stopping: calls under way may end", "drain_timeout", timeout.String(), "in_flight", s.proxy.InFlight())
	deadline, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var draining sync.WaitGroup
	draining.Go(func() {
		if err := s.server.Shutdown(deadline); err != nil {
			s.log.Warn("calls still under way were cut", "in_flight", s.proxy.InFlight())
		}
		s.proxy.CloseIdle()
	})
	for _, h := range s.https {
		draining.Go(func() { h.shut(deadline) })
	}
	draining.Wait()
	stopWork()
	running.Wait()
	s.tokens.Close(deadline)
	if err := s.store.Close(); err != nil {
		s.log.Error("store not closed", "error", err)
	}
	if s.probes != nil {
		s.probes.shut(deadline)
	}
	s.log.Info("stopped")
}

func (h *httpServer) shut(ctx context.Context) {
	if h.server.Shutdown(ctx) != nil {
		h.server.Close()
	}
}

// Reload reads the configuration anew and takes over everything but listen and
// store. An error leaves the running configuration in force.
func (s *Sidecar) Reload() error {
	if s.options.Load == nil {
		return errors.New("there is no configuration file to reload")
	}
	c, err := s.options.Load()
	if err != nil {
		s.log.Error("configuration not reloaded: the running one stays", "error", err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if changed := s.config.Diff(c); len(changed) > 0 {
		s.log.Warn("changed keys that need a restart are not taken over", "keys", changed)
	}
	c.Listen, c.Store = s.config.Listen, s.config.Store
	parts, err := newSettings(c)
	if err == nil {
		err = s.proxy.Reconfigure(parts.proxy)
	}
	if err != nil {
		s.log.Error("configuration not reloaded: the running one stays", "error", err)
		return err
	}
	s.server.Reconfigure(parts.server)
	s.tokens.Reconfigure(parts.tokens)
	s.tokens.SetCacheBytes(c.Cache.MaxBytes)
	s.callback.Reconfigure(parts.callback)
	s.handler.set(c.Log)
	s.config = c
	s.log.Info("configuration reloaded")
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
