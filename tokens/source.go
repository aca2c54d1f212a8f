package tokens

import (
	"context"
	"errors"
	"strings"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

var (
	// errSuperseded means that the stored token is no longer the one a refresh
	// was to replace, or the configuration not the one it was made with: look
	// again.
	errSuperseded = errors.New("superseded")
	// errOvertaken means that an event stored tokens of its own while WeChat
	// answered a refresh. Which of both WeChat issued last, and so which of them
	// lives, is not known: only one more refresh makes that certain.
	errOvertaken = errors.New("overtaken by an event")
	// errComponentReplaced means that WeChat refused the component's token with
	// which it was asked, and that there is another one: look again.
	errComponentReplaced = errors.New("the component's token was replaced")
)

// source is one kind of credential: where its token is stored and how WeChat is
// asked for another. Flights, back-off, memory and metrics are the same for all.
type source interface {
	// stored reads the token as the store has it; it may have expired.
	// authorizedAt is when the account authorized the platform, zero for what is
	// no authorizer.
	stored(ctx context.Context, appID string) (t store.Token, authorizedAt time.Time, err error)
	// fetch asks WeChat for a token in place of current.
	fetch(ctx context.Context, appID string, current store.Token, why reason) (grant, error)
	// save persists what fetch has brought, if generation is still the stored
	// one; else errOvertaken.
	save(ctx context.Context, appID string, generation uint64, g grant) error
}

func (s *Service) source(kind Kind) source {
	switch kind {
	case Component:
		return componentSource{s}
	case Account:
		return accountSource{s}
	default:
		return authorizerSource{s}
	}
}

// ticketLifetime is how long a component_verify_ticket is accepted.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/component_verify_ticket.html
const ticketLifetime = 12 * time.Hour

// noTicket is the state of a platform before WeChat's first push.
var noTicket = &Unavailable{
	Detail: "there is no component_verify_ticket yet: WeChat pushes one about every 10 minutes to /wechat/events; " +
		"if none comes, check the authorization event URL in WeChat's console and POST /v1/component/start-push-ticket",
	RetryAfter: 30 * time.Second,
}

type componentSource struct{ *Service }

func (s componentSource) stored(ctx context.Context, appID string) (t store.Token, authorizedAt time.Time, err error) {
	if c := s.config.Load().Component; c == nil || c.AppID != appID {
		return t, authorizedAt, ErrNoComponent
	}
	record, err := s.store.Component(ctx, appID)
	if errors.Is(err, store.ErrNotFound) {
		return t, authorizedAt, nil
	}
	if err == nil && s.shared != nil {
		s.survivors.keep(record)
	}
	return record.Token, authorizedAt, err
}

func (s componentSource) fetch(ctx context.Context, appID string, _ store.Token, _ reason) (grant, error) {
	config := s.config.Load()
	if config.Component == nil || config.Component.AppID != appID {
		return grant{}, ErrNoComponent
	}
	record, err := s.store.Component(ctx, appID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return grant{}, err
	}
	now := time.Now()
	if record.Ticket.Empty() || now.Sub(record.TicketReceivedAt) > ticketLifetime {
		return grant{}, noTicket
	}
	t, err := config.Client.ComponentToken(ctx, appID, config.Component.AppSecret, record.Ticket)
	return grant{token: t.Value, refreshedAt: now, expiresAt: now.Add(t.ExpiresIn)}, err
}

func (s componentSource) save(ctx context.Context, appID string, generation uint64, g grant) error {
	_, err := s.store.UpdateComponent(ctx, appID, func(c *store.Component) error {
		return s.replace(&c.Token, generation, g)
	})
	return err
}

// replace puts a grant in the place of the token of generation.
func (s *Service) replace(t *store.Token, generation uint64, g grant) error {
	if t.Generation != generation {
		return errOvertaken
	}
	*t = store.Token{Value: g.token, ExpiresAt: g.expiresAt, RefreshedAt: g.refreshedAt, Generation: s.following(generation)}
	return nil
}

type authorizerSource struct{ *Service }

func (s authorizerSource) stored(ctx context.Context, appID string) (t store.Token, authorizedAt time.Time, err error) {
	record, err := s.store.Authorizer(ctx, appID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return t, authorizedAt, ErrUnknown
	case err != nil:
		return t, authorizedAt, err
	case record.State == store.StateUnauthorized:
		return t, authorizedAt, ErrReauthorize
	case record.State == store.StateReauthorize && !usable(record.Token, time.Now()):
		return t, authorizedAt, ErrReauthorize
	}
	return record.Token, record.AuthorizedAt, nil
}

func (s authorizerSource) fetch(ctx context.Context, appID string, _ store.Token, _ reason) (grant, error) {
	record, err := s.store.Authorizer(ctx, appID)
	if errors.Is(err, store.ErrNotFound) {
		return grant{}, ErrUnknown
	}
	if err != nil {
		return grant{}, err
	}
	if record.State != store.StateActive || record.RefreshToken.Empty() {
		return grant{}, ErrReauthorize
	}
	var g grant
	err = s.asComponentInTurn(ctx, func(component *Token) error {
		now := time.Now()
		brought, err := s.config.Load().Client.AuthorizerToken(ctx, component.Value(), component.AppID(), appID, record.RefreshToken)
		g = grant{
			token:        brought.AccessToken.Value,
			refreshedAt:  now,
			expiresAt:    now.Add(brought.AccessToken.ExpiresIn),
			refreshToken: brought.RefreshToken,
		}
		return err
	})
	return g, err
}

func (s authorizerSource) save(ctx context.Context, appID string, generation uint64, g grant) error {
	_, err := s.store.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
		if a.State != store.StateActive {
			return errOvertaken
		}
		if err := s.replace(&a.Token, generation, g); err != nil {
			return err
		}
		if !g.refreshToken.Empty() {
			a.RefreshToken = g.refreshToken
		}
		return nil
	})
	return err
}

// asComponent calls fn with the component's token. A refusal of a platform
// call speaks of that token, not of what the call is about: then fn is called
// once more with another one. If none is to be had, the refusal stands, so that
// the next call for the same thing is put off too.
func (s *Service) asComponent(ctx context.Context, fn func(*Token) error) error {
	component, err := s.ComponentToken(ctx)
	if err != nil {
		return err
	}
	err = fn(component)
	if e, ok := errors.AsType[*wechat.Error](err); ok && wechat.BadToken(e.Code) {
		if component, refreshErr := s.Rejected(ctx, component, e.Code); refreshErr == nil {
			return fn(component)
		}
	}
	return err
}

// asComponentInTurn is asComponent for a refresh that has a turn. A turn lasts
// for one call: if other processes wait for theirs, the second one needs another.
func (s *Service) asComponentInTurn(ctx context.Context, fn func(*Token) error) error {
	again := false
	return s.asComponent(ctx, func(component *Token) error {
		if again && s.shared != nil {
			return errComponentReplaced
		}
		again = true
		return fn(component)
	})
}

// markReauthorize notes that an authorizer's refresh token is dead, unless the
// record has changed since generation. It reports whether it did.
func (s *Service) markReauthorize(ctx context.Context, appID string, generation uint64) bool {
	_, err := s.store.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
		if a.Token.Generation != generation || a.State != store.StateActive {
			return store.ErrUnchanged
		}
		a.State = store.StateReauthorize
		return nil
	})
	return err == nil
}

// dropRefused forgets the token t of an authorizer that has to authorize again:
// a valid one serves to its end, but WeChat has refused this one, and the next
// call is to be told why.
func (s *Service) dropRefused(ctx context.Context, t *Token) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_, err := s.store.UpdateAuthorizer(ctx, t.AppID(), func(a *store.Authorizer) error {
		if a.State != store.StateReauthorize || a.Token.Generation != t.Generation {
			return store.ErrUnchanged
		}
		a.Token = store.Token{Generation: a.Token.Generation + 1}
		return nil
	})
	if err == nil {
		s.dropFromMemory(ctx, t.AppID())
	}
}

type accountSource struct{ *Service }

func (s accountSource) stored(ctx context.Context, appID string) (t store.Token, authorizedAt time.Time, err error) {
	if _, ok := s.config.Load().Accounts[appID]; !ok {
		return t, authorizedAt, ErrUnknown
	}
	record, err := s.store.Account(ctx, appID)
	if errors.Is(err, store.ErrNotFound) {
		return t, authorizedAt, nil
	}
	return record.Token, authorizedAt, err
}

func (s accountSource) fetch(ctx context.Context, appID string, current store.Token, why reason) (grant, error) {
	config := s.config.Load()
	appSecret, ok := config.Accounts[appID]
	if !ok {
		return grant{}, ErrUnknown
	}
	now := time.Now()
	t, err := config.Client.StableToken(ctx, appID, appSecret, false)
	if err == nil && (why == reasonRejected || why == reasonManual) && t.Value.Equal(current.Value) {
		// The token was refused, yet WeChat gives out the same: only force
		// makes another, 20 times a day at most.
		now = time.Now()
		t, err = config.Client.StableToken(ctx, appID, appSecret, true)
		if e, ok := errors.AsType[*wechat.Error](err); ok {
			// It is the force that is refused: renewal goes on without it.
			u := unavailable(Key{Account, appID}, e, config.MinRefreshInterval)
			u.Detail = "WeChat gives out the same token and " + strings.TrimPrefix(u.Detail, "WeChat ")
			return grant{}, u
		}
	}
	return grant{token: t.Value, refreshedAt: now, expiresAt: now.Add(t.ExpiresIn)}, err
}

func (s accountSource) save(ctx context.Context, appID string, generation uint64, g grant) error {
	_, err := s.store.UpdateAccount(ctx, appID, func(a *store.Account) error {
		return s.replace(&a.Token, generation, g)
	})
	return err
}
