package tokens

import (
	"context"
	"errors"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// codeLifetime is taken for that of an authorization code whose push does
	// not tell it.
	codeLifetime = time.Hour
	// maxCodeLifetime bounds what a push may tell.
	maxCodeLifetime = 24 * time.Hour
	// maxExchangeBackoff bounds the time between two attempts at an exchange.
	maxExchangeBackoff = time.Minute
	// maxEventAhead bounds how far a CreateTime may lie ahead of our clock, so
	// that a wrong one does not shut out later pushes for long.
	maxEventAhead = 5 * time.Minute
)

// decides reports whether an event settles what its account's authorization is.
func decides(e wechat.Event) bool {
	switch e.InfoType {
	case wechat.InfoTypeUnauthorized:
		return true
	case wechat.InfoTypeAuthorized, wechat.InfoTypeUpdateAuthorized, wechat.InfoTypeFastRegister:
		return !e.Code.Empty()
	}
	return false
}

// eventTime is when an event happened, for the order of events: its CreateTime
// as far as that can be true.
func eventTime(push store.Push, event wechat.Event) time.Time {
	if event.CreateTime.IsZero() {
		return push.ReceivedAt
	}
	if latest := push.ReceivedAt.Add(maxEventAhead); event.CreateTime.After(latest) {
		return latest
	}
	return event.CreateTime
}

// apply does what an event asks for. again above 0 is when to try that again,
// after failures earlier attempts and this one. An error means that the store
// failed.
func (s *Service) apply(ctx context.Context, push store.Push, event wechat.Event, failures int) (result string, again time.Duration, err error) {
	if !decides(event) {
		return "ok", 0, nil // notify_third_fasteregister of a failed registration, for one
	}
	at := eventTime(push, event)
	if event.InfoType == wechat.InfoTypeUnauthorized {
		result, err = s.applyUnauthorized(ctx, push, event, at)
		return result, 0, err
	}
	record, err := s.store.Authorizer(ctx, event.AuthorizerID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", 0, err
	}
	if result := stale(record, at, push.Digest); result != "" {
		return result, 0, nil
	}
	return s.applyAuthorized(ctx, authorization{push, event, at, record.Token.Generation}, failures)
}

// authorization is an event that brings a code.
type authorization struct {
	push  store.Push
	event wechat.Event
	at    time.Time
	// generation is that of the account's token before the exchange.
	generation uint64
}

// stale says whether an event of that time and digest changes nothing any more:
// "" if it does, "repeat" or "superseded" if not.
func stale(record store.Authorizer, at time.Time, digest string) string {
	switch {
	case record.EventDigest != "" && record.EventDigest == digest:
		return "repeat"
	case at.Before(record.EventAt):
		return "superseded"
	}
	return ""
}

func (s *Service) applyUnauthorized(ctx context.Context, push store.Push, event wechat.Event, at time.Time) (result string, err error) {
	if event.AuthorizerID == "" {
		return "malformed", nil
	}
	_, err = s.store.UpdateAuthorizer(ctx, event.AuthorizerID, func(a *store.Authorizer) error {
		if result = stale(*a, at, push.Digest); result != "" {
			return store.ErrUnchanged
		}
		// An authorization that no event brought is not in the order of events:
		// but this event is older than it by more than clocks differ.
		if at.Before(a.AuthorizedAt.Add(-maxEventAhead)) {
			result = "superseded"
			return store.ErrUnchanged
		}
		// An account never heard of is noted too: its authorization may be a
		// push that comes late.
		a.State = store.StateUnauthorized
		a.RefreshToken = secret.String{}
		a.Token = store.Token{Generation: s.next(*a)}
		a.EventAt, a.EventDigest = at, push.Digest
		return nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		return result, nil
	}
	if err != nil {
		return "", err
	}
	s.dropFromMemory(ctx, event.AuthorizerID)
	s.log.Info("authorizer ended its authorization", "app_id", event.AuthorizerID)
	return "ok", nil
}

// applyAuthorized exchanges the code. That is to be tried again until the code
// is spent or expired.
func (s *Service) applyAuthorized(ctx context.Context, a authorization, failures int) (result string, again time.Duration, err error) {
	event := a.event
	spent := <-s.spend(event.Code, &a, func() (wechat.Grant, error) { return s.exchange(event.Code) })
	if spent.Err == nil {
		result, err = s.settleEvent(ctx, a, spent.Val.(spending))
		return result, 0, err
	}
	err = spent.Err
	if classOf(err) == wechat.ClassCode {
		if result, err := s.settleSpent(ctx, a); result != "" || err != nil {
			return result, 0, err
		}
	}
	now := time.Now()
	deadline := codeDeadline(event.CodeExpires, a.push.ReceivedAt)
	if classOf(err) == wechat.ClassCode && s.listed(ctx, a) {
		return "ok", 0, nil
	}
	if classOf(err) == wechat.ClassCode || !now.Before(deadline) {
		s.log.Error("an authorization code could not be exchanged and is spent or expired: "+
			"unless the account works, its administrator must authorize again", "app_id", event.AuthorizerID,
			"info_type", event.InfoType, "error", err)
		return "error", 0, nil
	}
	again = min(backoff(err, failures+1, now, jitter()), maxExchangeBackoff)
	again = max(min(again, deadline.Sub(now)-time.Second), time.Second/2) // once more before the end
	s.log.Warn("an authorization code is not exchanged yet, trying again", "app_id", event.AuthorizerID,
		"error", err, "retry_after", again.Round(time.Millisecond).String(), "until", deadline.UTC())
	return "", again, nil
}

// settleSpent notes an event whose code is worth nothing because the app has
// spent the other one of the same authorization, that of the redirect: both are
// spent together. result is "" if nothing says so.
func (s *Service) settleSpent(ctx context.Context, a authorization) (result string, err error) {
	if a.event.AuthorizerID == "" {
		return "", nil
	}
	_, err = s.store.UpdateAuthorizer(ctx, a.event.AuthorizerID, func(record *store.Authorizer) error {
		since := record.AuthorizedAt.Truncate(time.Second)
		if record.State != store.StateActive || record.RefreshToken.Empty() || since.Before(a.at.Truncate(time.Second)) {
			return store.ErrUnchanged
		}
		if result = stale(*record, a.at, a.push.Digest); result != "" {
			return store.ErrUnchanged
		}
		result = "repeat"
		record.EventAt, record.EventDigest = a.at, a.push.Digest
		return nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		err = nil
	}
	return result, err
}

// settleEvent notes an event whose code has been spent: for it, which stored
// everything, or before it, for an app that called api_query_auth or for another
// push of the same code. Then only the order of events is to be noted, since the
// tokens may have been renewed meanwhile.
func (s *Service) settleEvent(ctx context.Context, a authorization, spent spending) (result string, err error) {
	if spent.event == a.push.Digest {
		return spent.result, nil
	}
	_, err = s.store.UpdateAuthorizer(ctx, spent.brought.AppID, func(record *store.Authorizer) error {
		if result = stale(*record, a.at, a.push.Digest); result != "" {
			return store.ErrUnchanged
		}
		result = "repeat"
		record.EventAt, record.EventDigest = a.at, a.push.Digest
		return nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		err = nil
	}
	return result, err
}

// exchange asks WeChat what a code brings, as work that Close waits for. It is
// not given up when Run ends: the answer brings what cannot be had again.
func (s *Service) exchange(code secret.String) (wechat.Grant, error) {
	ctx, cancel := context.WithTimeout(s.base, flightTimeout(s.config.Load()))
	defer cancel()
	var brought wechat.Grant
	began := time.Now()
	err := s.asComponent(ctx, func(component *Token) error {
		var err error
		began = time.Now()
		brought, err = s.config.Load().Client.QueryAuth(ctx, component.Value(), component.AppID(), code)
		return err
	})
	if !notAsked(err) {
		s.metrics.Refresh(metrics.Authorizer, string(reasonEvent), time.Since(began), err)
	}
	return brought, err
}

// saveAuthorization replaces all of an authorizer's tokens in one write. auth is
// nil if no event brought the code.
func (s *Service) saveAuthorization(ctx context.Context, auth *authorization, began time.Time, brought wechat.Grant) (result string, err error) {
	var before store.Token
	var saved store.Authorizer
	// The code is spent: what it brought is persisted even while stopping, and
	// tried again as long as the store fails.
	for failures := 1; ; failures++ {
		saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
		saved, err = s.store.UpdateAuthorizer(saving, brought.AppID, func(a *store.Authorizer) error {
			if auth != nil {
				if result = stale(*a, auth.at, auth.push.Digest); result == "superseded" {
					return store.ErrUnchanged
				}
			}
			result, before = "ok", a.Token
			*a = s.authorized(*a, auth, began, brought)
			return nil
		})
		cancel()
		if err == nil || errors.Is(err, store.ErrUnchanged) || ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			break
		}
		s.log.Error("the tokens of an authorization are not stored yet, trying again", "app_id", brought.AppID, "error", err)
		sleep(ctx, backoff(err, failures, time.Now(), 0))
	}
	if errors.Is(err, store.ErrUnchanged) {
		return result, nil
	}
	if err != nil {
		return "", err
	}
	s.troubles.mended(Key{Authorizer, brought.AppID})
	s.dropFromMemory(ctx, brought.AppID)
	s.log.Info("authorizer authorized", "app_id", brought.AppID)
	if !saved.Token.Value.Empty() && s.crossed(auth, began, before) {
		s.settle(Key{Authorizer, brought.AppID}, saved.Token.Generation)
	}
	return result, nil
}

// crossed reports whether a refresh that stored the token before may have run
// beside the exchange that replaces it. Which account a code is for shows only
// after an app's exchange: then the time of the refresh tells.
func (s *Service) crossed(auth *authorization, began time.Time, before store.Token) bool {
	if auth != nil {
		return before.Generation != auth.generation
	}
	return before.RefreshedAt.Add(s.config.Load().RefreshTimeout).After(began)
}

// settle refreshes the token that an exchange brought if a refresh was stored
// meanwhile: which of both WeChat issued last, and so which of them lives, is not
// known (see errOvertaken).
func (s *Service) settle(key Key, generation uint64) {
	if _, err := s.await(s.base, key, generation, reasonExpiring); err != nil {
		s.log.Debug("token not renewed after an exchange, the present one serves on", "app_id", key.AppID, "error", err)
	}
}

// authorized is the record of an authorizer after an authorization.
func (s *Service) authorized(old store.Authorizer, auth *authorization, began time.Time, brought wechat.Grant) store.Authorizer {
	a := store.Authorizer{
		AppID:        brought.AppID,
		State:        store.StateActive,
		RefreshToken: brought.RefreshToken,
		AuthorizedAt: began,
		EventAt:      old.EventAt,
		EventDigest:  old.EventDigest,
		Scopes:       brought.Scopes,
		Token:        store.Token{Generation: s.next(old)},
	}
	if auth != nil {
		a.AuthorizedAt, a.EventAt, a.EventDigest = auth.at, auth.at, auth.push.Digest
	}
	if a.RefreshToken.Empty() {
		a.RefreshToken = old.RefreshToken // an empty one never replaces one
	}
	if !brought.AccessToken.Value.Empty() {
		a.Token.Value = brought.AccessToken.Value
		a.Token.RefreshedAt = began
		a.Token.ExpiresAt = began.Add(brought.AccessToken.ExpiresIn)
	}
	return a
}

// codeDeadline is when an authorization code ends.
func codeDeadline(told, receivedAt time.Time) time.Time {
	if told.Before(receivedAt) {
		return receivedAt.Add(codeLifetime)
	}
	if latest := receivedAt.Add(maxCodeLifetime); told.After(latest) {
		return latest
	}
	return told
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
