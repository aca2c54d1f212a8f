package importer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"lingpai/internal/config"
	"lingpai/internal/sidecar"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// listPage is how many authorizers WeChat gives at a time.
	listPage = 500
	// maxListPages bounds a reading of the list.
	maxListPages = 3000
	// infoWorkers is how many calls of api_get_authorizer_info run at a time.
	infoWorkers = 8
	// callAttempts is how often a call is made that WeChat was too busy for, or
	// that got no answer. Both calls change nothing.
	callAttempts = 4
)

// verifier asks WeChat about authorizers.
type verifier struct {
	client    *wechat.Client
	component config.Component
	pause     time.Duration // before the first repetition; it doubles

	token secret.String // the component's that WeChat accepts
	total int           // authorizers by WeChat's count
	// refused are tokens that WeChat did not accept.
	refused map[string]bool

	list     map[string]listed // nil: not read
	complete bool              // as many as WeChat says there are
	listedAs int               // entries read
}

// listed is an entry of WeChat's list.
type listed struct {
	refreshToken secret.String
	authorizedAt int64
}

func newVerifier(c config.Config) (*verifier, error) {
	t, err := sidecar.Transport(c.Upstream)
	if err != nil {
		return nil, usagef("%w", err)
	}
	t.MaxIdleConnsPerHost = infoWorkers
	return &verifier{
		client:    wechat.NewClient(t, c.Upstream.URL, c.Tokens.RefreshTimeout),
		component: *c.Component,
		pause:     time.Second,
		refused:   map[string]bool{},
	}, nil
}

func (v *verifier) close() { v.client.CloseIdleConnections() }

// errNoToken means that WeChat accepts none of the component tokens at hand.
var errNoToken = errors.New("no component token that WeChat accepts now")

// choose finds out which of some component tokens WeChat accepts, and how many
// authorizers there are.
func (v *verifier) choose(ctx context.Context, candidates ...secret.String) error {
	for _, token := range candidates {
		if token.Empty() || v.refused[token.Reveal()] {
			continue
		}
		err := v.call(ctx, func() error {
			var err error
			_, v.total, err = v.client.AuthorizerList(ctx, token, v.component.AppID, 0, 1)
			return err
		})
		switch {
		case err == nil:
			v.token = token
			return nil
		case classOf(err) != wechat.ClassBadToken:
			return err
		}
		v.refused[token.Reveal()] = true
	}
	return errNoToken
}

// classOf is the class of WeChat's errcode, if err is one.
func classOf(err error) wechat.Class {
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		return e.Class()
	}
	return wechat.ClassOther
}

// call makes a call that may be repeated.
func (v *verifier) call(ctx context.Context, do func() error) error {
	pause := v.pause
	for attempt := 1; ; attempt++ {
		err := do()
		_, lost := errors.AsType[*wechat.TransportError](err)
		class := classOf(err)
		if !lost && class != wechat.ClassBusy && class != wechat.ClassMinuteQuota || attempt == callAttempts {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause *= 2
	}
}

// readList reads WeChat's list of authorizers.
func (v *verifier) readList(ctx context.Context, reached func(done, of int)) error {
	list := make(map[string]listed, v.total)
	for page := range maxListPages {
		var entries []wechat.ListedAuthorizer
		err := v.call(ctx, func() error {
			var err error
			entries, v.total, err = v.client.AuthorizerList(ctx, v.token, v.component.AppID, page*listPage, listPage)
			return err
		})
		if err != nil {
			return fmt.Errorf("WeChat's list of authorizers: %w", err)
		}
		for _, e := range entries {
			l := listed{refreshToken: e.RefreshToken}
			if !e.AuthorizedAt.IsZero() {
				l.authorizedAt = e.AuthorizedAt.Unix()
			}
			list[e.AppID] = l
		}
		v.listedAs += len(entries)
		reached(v.listedAs, v.total)
		if len(entries) < listPage || v.listedAs >= v.total {
			break
		}
	}
	v.list, v.complete = list, v.listedAs >= v.total
	return nil
}

// verify asks WeChat about rows that are not malformed: the list if it was read,
// else one by one. What it finds is noted in them.
func (v *verifier) verify(ctx context.Context, rows []*candidate) error {
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(infoWorkers)
	for _, c := range rows {
		if v.list != nil {
			if l, ok := v.list[c.appID]; ok {
				at := time.Time{}
				if l.authorizedAt > 0 {
					at = time.Unix(l.authorizedAt, 0)
				}
				c.confirm(l.refreshToken, at, nil)
				continue
			}
			if v.complete {
				c.set(outcomeUnauthorized, "not in WeChat's list of authorizers")
				continue
			}
		}
		workers.Go(func() error { return v.ask(ctx, c) })
	}
	return workers.Wait()
}

// ofAccount are errcodes that only a person can mend, and that are about one
// account here, not about the platform.
var ofAccount = map[int]bool{40013: true, 48004: true, 50002: true}

// ask calls api_get_authorizer_info. The error ends the run: it is about the
// platform, not about the account.
func (v *verifier) ask(ctx context.Context, c *candidate) error {
	var info wechat.AuthorizerInfo
	err := v.call(ctx, func() error {
		var err error
		info, _, err = v.client.AuthorizerInfo(ctx, v.token, v.component.AppID, c.appID)
		if err == nil && info.AppID != c.appID {
			err = &wechat.TransportError{Endpoint: "api_get_authorizer_info", Err: wechat.ErrBrokenAnswer}
		}
		return err
	})
	if err == nil {
		c.confirm(info.RefreshToken, time.Time{}, info.Scopes)
		return nil
	}
	refusal, ok := errors.AsType[*wechat.Error](err)
	if !ok {
		return err
	}
	switch class := refusal.Class(); {
	case class == wechat.ClassNotAuthorized:
		c.set(outcomeUnauthorized, "errcode 61003: the account does not authorize the platform")
	case class == wechat.ClassOther, ofAccount[refusal.Code]:
		c.set(outcomeRefused, fmt.Sprintf("errcode %d", refusal.Code))
	default:
		return err
	}
	c.errcode = refusal.Code
	return nil
}

// newComponentToken asks WeChat for a component token, and stores it before it
// is used: the former one is dead within minutes.
func (v *verifier) newComponentToken(ctx context.Context, s store.Store, ticket secret.String, ticketAt, now time.Time) error {
	if ticket.Empty() {
		return errors.New("a new component token needs a component_verify_ticket, and neither the old system nor the store has one: " +
			"let the sidecar receive one (10 minutes), then run this again")
	}
	appID := v.component.AppID
	if shared, ok := s.(store.Shared); ok {
		lease, err := shared.Lease(ctx, "refresh/component/"+appID, time.Minute)
		if errors.Is(err, store.ErrLeased) {
			return errors.New("a sidecar is getting a component token right now: run this again")
		}
		if err != nil {
			return err
		}
		defer lease.Release(context.WithoutCancel(ctx))
	}
	began := time.Now()
	t, err := v.client.ComponentToken(ctx, appID, v.component.AppSecret, ticket)
	if err != nil {
		return fmt.Errorf("new component token: %w", err)
	}
	_, err = s.UpdateComponent(context.WithoutCancel(ctx), appID, func(c *store.Component) error {
		if c.TicketReceivedAt.Before(ticketAt) {
			c.Ticket, c.TicketReceivedAt, c.TicketCreatedAt = ticket, ticketAt, time.Time{}
		}
		c.Token = store.Token{
			Value: t.Value, ExpiresAt: began.Add(t.ExpiresIn), RefreshedAt: began,
			Generation: following(s, c.Token.Generation, now),
		}
		return nil
	})
	if err != nil {
		return err
	}
	return v.choose(ctx, t.Value)
}

// listSource is WeChat's list as a source. It is read when the verifier has
// read it.
type listSource struct{ v *verifier }

func (l listSource) platform(context.Context) (platform, error) { return platform{}, nil }
func (l listSource) hint(context.Context) string                { return "" }
func (l listSource) close()                                     {}

func (l listSource) authorizers(ctx context.Context, each func([]row) error) error {
	out := batcher{each: each}
	for appID, e := range l.v.list {
		r := row{appID: appID, refreshToken: e.refreshToken}
		if e.authorizedAt > 0 {
			r.authorizedAt = time.Unix(e.authorizedAt, 0)
		}
		if err := out.add(r); err != nil {
			return err
		}
	}
	return out.flush()
}
