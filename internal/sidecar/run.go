package sidecar

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
)

// Run serves until ctx ends, then drains: no more calls are accepted, those
// under way may end within drain_timeout, what WeChat has answered is stored.
// It returns nil after a drain, and an error if a listener failed.
func (s *Sidecar) Run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.Background())
	defer stopWork()
	var running sync.WaitGroup
	running.Go(func() { s.tokens.Run(work) })
	if s.apps != nil {
		running.Go(func() { s.tokens.Lead(work, "deliveries", s.apps.Run) })
	}
	servers := s.servers()
	failed := make(chan error, 1+len(servers)) // for all, so that none waits
	go func() { failed <- fmt.Errorf("listen.proxy: %w", cmp.Or(s.server.Serve(), net.ErrClosed)) }()
	for _, h := range servers {
		go func() { failed <- h.serve() }()
	}
	s.ready.Store(true)
	s.mu.Lock() // a reload may come this early
	kind := s.config.Store.Kind
	s.mu.Unlock()
	s.log.Info("started", "version", s.options.Version, "proxy", s.address("proxy"), "callback", s.address("callback"),
		"metrics", s.address("metrics"), "admin", s.address("admin"), "store", kind)

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

// drain ends everything, the probes last, so that an orchestrator sees the
// drain until its end.
func (s *Sidecar) drain(stopWork context.CancelFunc, running *sync.WaitGroup) {
	s.mu.Lock() // a reload under way ends first
	s.stopping.Store(true)
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
		s.proxy.Close()
	})
	for _, h := range s.https {
		draining.Go(func() { h.shut(deadline) })
	}
	draining.Wait()
	stopWork()
	running.Wait()
	s.tokens.Close(deadline)
	s.coexistence.end() // after it: the last tokens are published too
	if err := s.store.Close(); err != nil {
		s.log.Error("store not closed", "error", err)
	}
	if s.probes != nil {
		s.probes.shut(deadline)
	}
	s.log.Info("stopped")
}
