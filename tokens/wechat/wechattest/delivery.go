package wechattest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// delivery is how the event of an authorization goes out.
type delivery struct {
	push
	times int // 0: not at all
	delay time.Duration
	later bool
}

// maxHeld bounds the memory of events that wait to be released.
const maxHeld = 10_000

// ErrNoHeldEvent means that no held event has the number asked for.
var ErrNoHeldEvent = errors.New("no such held event")

// heldEvent is an event that waits to be released.
type heldEvent struct {
	id int
	at time.Time
	p  push
}

// HeldEvent is an event that waits for ReleaseEvent.
type HeldEvent struct {
	ID       int       `json:"id"`
	HeldAt   time.Time `json:"held_at"`
	InfoType string    `json:"info_type"`
	AppID    string    `json:"app_id"`
}

// planEvent decides by Knobs.PushOrder how the event of an authorization goes
// out, and holds it back if it has to wait: authorized, updateauthorized, or ""
// for none.
func (s *Server) planEvent(event string, out *Authorization, c consent) delivery {
	if event == "" || c.noPush || s.eventURL == "" {
		return delivery{}
	}
	d := delivery{times: 1, delay: c.pushDelay, push: s.event(event, out.AppID, s.knobs.EventAttempts, []Field{
		{Name: "AuthorizerAppid", Value: out.AppID},
		{Name: "AuthorizationCode", Value: out.EventCode},
		{Name: "AuthorizationCodeExpiredTime", Value: fmt.Sprint(out.ExpiresAt.Unix()), Number: true},
		{Name: "PreAuthCode", Value: out.PreAuthCode},
	})}
	switch s.knobs.PushOrder {
	case OrderRedirectFirst:
		d.delay = max(d.delay, time.Second)
	case OrderEventLate:
		d.delay = max(d.delay, time.Duration(s.knobs.EventDelay))
	case OrderEventTwice:
		d.times = 2
	case OrderEventLost:
		d.times = 0
	case OrderEventHeld:
		d.times = 0
		s.lastHeld++
		out.HeldEvent = s.lastHeld
		if len(s.held) >= maxHeld {
			s.held = slices.Delete(s.held, 0, 1)
		}
		s.held = append(s.held, heldEvent{s.lastHeld, time.Now(), d.push})
	}
	if d.later = d.times > 0 && d.delay > 0; d.later {
		s.pushes.Add(1)
	}
	return d
}

// carryOut delivers what planEvent decided and tells the outcome in out.
func (s *Server) carryOut(ctx context.Context, d delivery, out *Authorization) {
	if d.later {
		go s.deliverLater(d)
		return
	}
	for range d.times {
		_, err := s.deliver(ctx, d.push)
		out.Pushed = err == nil
		if err != nil {
			out.PushError = err.Error()
		}
	}
}

// deliverLater pushes after a delay, unless the simulator is closed first.
func (s *Server) deliverLater(d delivery) {
	defer s.pushes.Done()
	s.sleep(s.ctx, d.delay)
	for range d.times {
		s.deliver(s.ctx, d.push) // what became of it is in Pushes
	}
}

// HeldEvents returns the events that OrderEventHeld keeps back, oldest first.
func (s *Server) HeldEvents() []HeldEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []HeldEvent{}
	for _, h := range s.held {
		out = append(out, HeldEvent{h.id, h.at, h.p.kind, h.p.appID})
	}
	return out
}

// ReleaseEvent pushes a held event, sealed anew, and returns the last attempt.
// An event leaves the list whatever becomes of it.
func (s *Server) ReleaseEvent(ctx context.Context, id int) (PushRecord, error) {
	s.mu.Lock()
	i := slices.IndexFunc(s.held, func(h heldEvent) bool { return h.id == id })
	if i < 0 {
		s.mu.Unlock()
		return PushRecord{}, fmt.Errorf("%w: %d", ErrNoHeldEvent, id)
	}
	p := s.held[i].p
	s.held = slices.Delete(s.held, i, i+1)
	s.mu.Unlock()
	return s.deliver(ctx, p)
}
