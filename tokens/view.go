package tokens

import (
	"context"
	"errors"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// TokenState is the state of a token as operators see it.
type TokenState string

// The states of a token.
const (
	StateFresh   TokenState = "fresh"
	StateStale   TokenState = "stale"   // valid but due for renewal
	StateMissing TokenState = "missing" // none, or expired
)

// TokenView is what operators see of a token. It holds no secret.
type TokenView struct {
	State       TokenState
	ExpiresAt   time.Time
	RefreshedAt time.Time
	Generation  uint64
}

// ComponentView is what operators see of the platform.
type ComponentView struct {
	AppID            string
	TicketReceivedAt time.Time // zero: none yet
	Token            TokenView
}

// AuthorizerView is what operators see of an authorizer.
type AuthorizerView struct {
	AppID           string
	State           store.State
	Token           TokenView
	HasRefreshToken bool
	AuthorizedAt    time.Time
	Scopes          []int
}

func (s *Service) viewToken(kind Kind, t store.Token) TokenView {
	now := time.Now()
	v := TokenView{State: StateMissing, ExpiresAt: t.ExpiresAt, RefreshedAt: t.RefreshedAt, Generation: t.Generation}
	switch {
	case !usable(t, now):
	case now.Before(dueAt(kind, t.RefreshedAt, t.ExpiresAt, s.config.Load().RefreshAhead, 0)):
		v.State = StateFresh
	default:
		v.State = StateStale
	}
	return v
}

// Component returns the platform's state; ErrNoComponent if none is configured.
func (s *Service) Component(ctx context.Context) (ComponentView, error) {
	key, ok := s.ComponentKey()
	if !ok {
		return ComponentView{}, ErrNoComponent
	}
	record, err := s.store.Component(ctx, key.AppID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return ComponentView{}, err
	}
	return ComponentView{
		AppID:            key.AppID,
		TicketReceivedAt: record.TicketReceivedAt,
		Token:            s.viewToken(Component, record.Token),
	}, nil
}

func (s *Service) viewAuthorizer(a store.Authorizer) AuthorizerView {
	return AuthorizerView{
		AppID:           a.AppID,
		State:           a.State,
		Token:           s.viewToken(Authorizer, a.Token),
		HasRefreshToken: !a.RefreshToken.Empty(),
		AuthorizedAt:    a.AuthorizedAt,
		Scopes:          a.Scopes,
	}
}

// Authorizer returns an authorizer's state; store.ErrNotFound if there is none.
func (s *Service) Authorizer(ctx context.Context, appID string) (AuthorizerView, error) {
	record, err := s.store.Authorizer(ctx, appID)
	if err != nil {
		return AuthorizerView{}, err
	}
	return s.viewAuthorizer(record), nil
}

// Authorizers returns up to limit authorizers behind the app id after, in
// order.
func (s *Service) Authorizers(ctx context.Context, after string, limit int) ([]AuthorizerView, error) {
	records, err := s.store.Authorizers(ctx, after, limit)
	if err != nil {
		return nil, err
	}
	views := make([]AuthorizerView, len(records))
	for i, record := range records {
		views[i] = s.viewAuthorizer(record)
	}
	return views, nil
}

// Counts returns how many authorizers there are in each state.
func (s *Service) Counts(ctx context.Context) (store.Counts, error) {
	return s.store.CountAuthorizers(ctx)
}

// PutAuthorizer adds an authorizer by its refresh token, or replaces the
// refresh token of one there is.
func (s *Service) PutAuthorizer(ctx context.Context, appID string, refreshToken secret.String) (AuthorizerView, error) {
	if err := s.mayWrite(); err != nil {
		return AuthorizerView{}, err
	}
	if refreshToken.Empty() {
		return AuthorizerView{}, errors.New("the refresh token is empty")
	}
	now := time.Now()
	record, err := s.store.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
		a.State = store.StateActive
		a.RefreshToken = refreshToken
		a.AuthorizedAt = now
		a.Token = store.Token{Generation: s.next(*a)}
		return nil
	})
	if err != nil {
		return AuthorizerView{}, err
	}
	s.troubles.mended(Key{Authorizer, appID})
	s.dropFromMemory(ctx, appID)
	return s.viewAuthorizer(record), nil
}

// DeleteAuthorizer forgets an authorizer and returns what it was;
// store.ErrNotFound if there is none. WeChat is not told: there is no call for
// that.
func (s *Service) DeleteAuthorizer(ctx context.Context, appID string) (AuthorizerView, error) {
	if err := s.mayWrite(); err != nil {
		return AuthorizerView{}, err
	}
	record, err := s.store.Authorizer(ctx, appID)
	if err != nil {
		return AuthorizerView{}, err
	}
	// Ended first: a refresh under way cannot change it between the two steps.
	ended, err := s.store.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
		a.State = store.StateUnauthorized
		a.Token = store.Token{Generation: a.Token.Generation + 1}
		return nil
	})
	if err != nil {
		return AuthorizerView{}, err
	}
	s.retired.note(ended)
	if err := s.store.DeleteAuthorizer(ctx, appID); err != nil {
		return AuthorizerView{}, err
	}
	s.troubles.mended(Key{Authorizer, appID})
	s.dropFromMemory(ctx, appID)
	return s.viewAuthorizer(record), nil
}

// StartPushTicket asks WeChat to push tickets, and returns its errmsg.
func (s *Service) StartPushTicket(ctx context.Context) (string, error) {
	if err := s.mayWrite(); err != nil {
		return "", err
	}
	config := s.config.Load()
	if config.Component == nil {
		return "", ErrNoComponent
	}
	return config.Client.StartPushTicket(ctx, config.Component.AppID, config.Component.AppSecret)
}

// ClearQuota clears the platform's call quotas.
func (s *Service) ClearQuota(ctx context.Context) error {
	if err := s.mayWrite(); err != nil {
		return err
	}
	config := s.config.Load()
	if config.Component == nil {
		return ErrNoComponent
	}
	err := config.Client.ClearQuota(ctx, config.Component.AppID, config.Component.AppSecret)
	if err == nil {
		s.troubles.clear()
	}
	return err
}

// Obtainable returns nil if a call could get the component's token now (any
// direct account's, if no component is configured), else why not.
func (s *Service) Obtainable(ctx context.Context) error {
	if key, ok := s.ComponentKey(); ok {
		return s.componentObtainable(ctx, key)
	}
	err := error(ErrNoComponent)
	for appID := range s.config.Load().Accounts {
		if err = s.accountObtainable(ctx, Key{Account, appID}); err == nil {
			return nil
		}
	}
	return err
}

func (s *Service) accountObtainable(ctx context.Context, key Key) error {
	now := time.Now()
	if t := s.memory.get(key); t != nil && t.Usable(now) {
		return nil
	}
	stored, _, err := s.source(key.Kind).stored(ctx, key.AppID)
	if err != nil {
		return s.storeError(err)
	}
	if wait, err := s.troubles.blocked(key, now); err != nil && !usable(stored, now) {
		return unavailable(key, err, wait)
	}
	return nil
}

func (s *Service) componentObtainable(ctx context.Context, key Key) error {
	now := time.Now()
	if t := s.memory.get(key); t != nil && t.Usable(now) {
		return nil
	}
	record, err := s.store.Component(ctx, key.AppID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return s.storeError(err)
	}
	if usable(record.Token, now) {
		return nil
	}
	if wait, err := s.troubles.blocked(key, now); err != nil {
		return unavailable(key, err, wait)
	}
	if record.Ticket.Empty() || now.Sub(record.TicketReceivedAt) > ticketLifetime {
		return noTicket
	}
	return nil
}

// Ping reports whether the store works.
func (s *Service) Ping(ctx context.Context) error { return s.store.Ping(ctx) }
