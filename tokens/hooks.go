package tokens

import (
	"context"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// Hooks are told what becomes of pushes. A nil one is not called.
type Hooks struct {
	// Worked is called when an event has been worked on, in the order of its
	// authorizer's events, and before it is forgotten. After an error it is called
	// again later; it may be called again for the same push after a restart.
	Worked func(ctx context.Context, push store.Push, event wechat.Event) error
	// Pushes is called when another process has stored pushes or deliveries.
	Pushes func()
}

// SetHooks has hooks called from now on; call it before Run.
func (s *Service) SetHooks(h Hooks) { s.hooks = h }

// Lead runs fn while this process leads in what name stands for among those that
// share the store, from the beginning whenever it comes to lead, until ctx ends.
// fn must return when its context ends.
func (s *Service) Lead(ctx context.Context, name string, fn func(context.Context)) {
	s.leading(ctx, name, fn)
}
