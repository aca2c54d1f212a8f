package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"lingpai/internal/config"
	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/wxjava"
)

// coexistence publishes the current tokens for services that look for them where
// their SDK keeps them. The zero value publishes nothing.
type coexistence struct {
	config    config.Coexistence
	component string
	running   sync.WaitGroup
	stop      context.CancelFunc // nil if nothing is published
}

// prepare returns what is to be published to from now on, nil for nothing, and
// false if that is as it was.
func (c *coexistence) prepare(s *Sidecar, to config.Config) (publisher *wxjava.Publisher, changed bool, err error) {
	component := ""
	if to.Component != nil {
		component = to.Component.AppID
	}
	if c.config == to.Coexistence && c.component == component {
		return nil, false, nil
	}
	if to.Coexistence.WxJavaRedisURL.Empty() {
		return nil, true, nil
	}
	publisher, err = wxjava.New(wxjava.Options{
		URL:       to.Coexistence.WxJavaRedisURL,
		KeyPrefix: to.Coexistence.WxJavaKeyPrefix,
		Component: component,
		Log:       s.log,
		Observe:   s.metrics.Published,
		Foreign:   s.foreign,
	})
	if err != nil {
		return nil, false, fmt.Errorf("%w: coexistence: %w", ErrConfig, err)
	}
	return publisher, true, nil
}

// replace publishes to publisher from now on, and nowhere else.
func (c *coexistence) replace(service *tokens.Service, publisher *wxjava.Publisher, to config.Config, log *slog.Logger) {
	c.end()
	c.config, c.component = to.Coexistence, ""
	if to.Component != nil {
		c.component = to.Component.AppID
	}
	if publisher == nil {
		service.SetMirror(nil)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.running.Go(func() { publisher.Run(ctx) })
	service.SetMirror(publisher)
	log.Info("current tokens are published for services with WxJava", "key_prefix", to.Coexistence.WxJavaKeyPrefix)
}

// end writes what waits, within seconds, and ends.
func (c *coexistence) end() {
	if c.stop != nil {
		c.stop()
		c.running.Wait()
		c.stop = nil
	}
}

// foreign is told of a token that a service has put in the place of ours.
func (s *Sidecar) foreign(kind, appID string, held secret.String) {
	key := tokens.Key{Kind: tokens.Authorizer, AppID: appID}
	if kind == wxjava.Component {
		own, ok := s.tokens.ComponentKey()
		if !ok {
			return
		}
		key = own
	}
	s.tokens.ForeignToken(context.Background(), key, held)
}
