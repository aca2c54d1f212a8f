package tokens

import (
	"context"
	"errors"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// ReceiveTicket persists a component_verify_ticket that WeChat pushed at
// createdAt by its clock. It returns changed false for a repeat and for one
// older than the stored one. If the component's token was refused for the sake
// of the former ticket, it is tried again.
func (s *Service) ReceiveTicket(ctx context.Context, ticket secret.String, createdAt time.Time) (changed bool, err error) {
	if err := s.mayWrite(); err != nil {
		return false, err
	}
	key, ok := s.ComponentKey()
	if !ok {
		return false, ErrNoComponent
	}
	now := time.Now()
	// A wrong CreateTime must not shut out later tickets for long.
	if latest := now.Add(maxEventAhead); createdAt.After(latest) {
		createdAt = latest
	}
	repeat := false
	record, err := s.store.UpdateComponent(ctx, key.AppID, func(c *store.Component) error {
		repeat = false
		if createdAt.Before(c.TicketCreatedAt) {
			return store.ErrUnchanged
		}
		repeat = ticket.Equal(c.Ticket)
		if repeat && createdAt.Equal(c.TicketCreatedAt) {
			return store.ErrUnchanged
		}
		c.Ticket, c.TicketCreatedAt, c.TicketReceivedAt = ticket, createdAt, now
		return nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	s.metrics.VerifyTicket(record.TicketReceivedAt)
	if !repeat {
		s.troubles.mendedTicket(key)
	}
	return !repeat, nil
}

// showStored sets the gauges from what the store knows.
func (s *Service) showStored(ctx context.Context) {
	key, ok := s.ComponentKey()
	if !ok {
		return
	}
	record, err := s.store.Component(ctx, key.AppID)
	if err != nil {
		return
	}
	s.metrics.VerifyTicket(record.TicketReceivedAt)
	s.metrics.ComponentToken(record.Token.ExpiresAt)
}
