package sidecar

import (
	"errors"
)

// Reload reads the configuration anew and takes over everything but listen and
// store. An error leaves the running configuration in force. Reloads run one
// after the other, each with the file as it is then.
func (s *Sidecar) Reload() error {
	if s.options.Load == nil {
		return errors.New("there is no configuration file to reload")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return errors.New("lingpai is stopping")
	}
	if err := s.reload(); err != nil {
		s.log.Error("configuration not reloaded: the running one stays", "error", err)
		return err
	}
	s.log.Info("configuration reloaded")
	return nil
}

// reload is called with mu held.
func (s *Sidecar) reload() error {
	c, err := s.options.Load()
	if err != nil {
		return err
	}
	changed := s.config.Diff(c)
	c.Listen, c.Store = s.config.Listen, s.config.Store
	parts, err := newSettings(c)
	if err != nil {
		return err
	}
	publisher, published, err := s.coexistence.prepare(s, c)
	if err != nil {
		return err
	}
	if err := s.configurePages(parts.pages); err != nil {
		return err
	}
	if s.apps != nil {
		if err := s.apps.Reconfigure(targetsOf(c)); err != nil {
			return err
		}
	}
	if err := s.proxy.Reconfigure(parts.proxy); err != nil {
		return err
	}
	// From here on nothing can fail.
	s.server.Reconfigure(parts.server)
	s.tokens.Reconfigure(parts.tokens)
	s.tokens.SetCacheBytes(tokenBytes(c.Cache))
	s.callback.Reconfigure(parts.callback)
	s.admin.Reconfigure(linkOf(c))
	if published {
		s.coexistence.replace(s.tokens, publisher, c, s.log)
	}
	s.handler.set(c.Log)
	s.config = c
	if len(changed) > 0 {
		s.log.Warn("changed keys that need a restart are not taken over", "keys", changed)
	}
	return nil
}
