package tokens

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// linkWait is how long a visitor waits for what the push of the same
	// authorization brings, when the visitor's own code brings nothing.
	linkWait = 3 * time.Second
	// infoTimeout bounds the question what an account is called: its name is an
	// ornament.
	infoTimeout = 3 * time.Second
	// visitorTries is how often a visitor's code is sent to WeChat.
	visitorTries = 2
)

// Link names an authorization link, of which there is one for each pre_auth_code.
// It is no secret: nobody gets the pre_auth_code out of it.
type Link string

// LinkOf returns the name of the link that a pre_auth_code is in.
func LinkOf(preAuthCode secret.String) Link {
	digest := sha256.Sum256([]byte(preAuthCode.Reveal()))
	return Link(base64.RawURLEncoding.EncodeToString(digest[:]))
}

// noted is where something beside a code is remembered among the codes. It is
// made by another hash function than a code's digest, so that no code that a
// stranger makes up is found there.
func noted(what, of string) codeDigest { return sha512.Sum512_256([]byte(what + "/" + of)) }

// PreAuthCode obtains a pre_auth_code for one visitor. It is good for one
// authorization, for expiresIn from now, and must not be given to two. Errors:
// Token's, ErrFollower, *wechat.Error, *wechat.TransportError.
func (s *Service) PreAuthCode(ctx context.Context) (code secret.String, expiresIn time.Duration, err error) {
	if err := s.mayWrite(); err != nil {
		return code, 0, err // the code that it leads to could not be exchanged
	}
	err = s.asComponent(ctx, func(component *Token) error {
		var err error
		code, expiresIn, err = s.config.Load().Client.PreAuthCode(ctx, component.Value(), component.AppID())
		return err
	})
	return code, expiresIn, err
}

// Authorized is an account that authorizes the platform.
type Authorized struct {
	AppID  string
	Name   string // "" if it is not known
	Scopes []int  // ids of the permission sets
}

// Authorize exchanges the authorization code that a visitor brings from WeChat's
// page, unless that has been done here or in another sidecar, and says whose it
// was. link is the one that the visitor followed, "" if that is not known: it
// tells the account when the push's code was spent in the place of this one.
//
// ErrReauthorize means that the account has ended its authorization since;
// *wechat.Error of ClassCode that the code is worth nothing and not known here:
// unless the account works, it must be authorized again. Others are Token's,
// ErrFollower, *wechat.Error and *wechat.TransportError, after which the same
// visit may succeed later.
func (s *Service) Authorize(ctx context.Context, code secret.String, link Link) (Authorized, error) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout(s.config.Load()))
	defer cancel()
	appID, err := s.spendVisitors(ctx, code)
	if err != nil {
		if !mayBeSpent(err) {
			return Authorized{}, err
		}
		if appID = s.ledBy(ctx, link); appID == "" {
			return Authorized{}, err
		}
	}
	record, err := s.store.Authorizer(ctx, appID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Authorized{}, ErrReauthorize
	case err != nil:
		return Authorized{}, s.storeError(err)
	case record.State != store.StateActive:
		return Authorized{}, ErrReauthorize
	}
	return s.describe(ctx, record), nil
}

// mayBeSpent reports whether an error leaves it open that a code was good, and is
// spent.
func mayBeSpent(err error) bool {
	if _, lost := errors.AsType[*wechat.TransportError](err); lost {
		return true
	}
	return classOf(err) == wechat.ClassCode
}

// spendVisitors is spend for a visitor, who waits: what may come right in a
// moment is tried again.
func (s *Service) spendVisitors(ctx context.Context, code secret.String) (appID string, err error) {
	unsure := noted("unsure", code.Reveal())
	for try := 1; ; try++ {
		select {
		case r := <-s.spend(code, nil, func() (wechat.Grant, error) { return s.exchange(code) }):
			if err = r.Err; err == nil {
				return r.Val.(spending).brought.AppID, nil
			}
		case <-ctx.Done():
			return "", ErrWait
		}
		_, lost := errors.AsType[*wechat.TransportError](err)
		if lost {
			s.codes.put(unsure, spending{}, time.Now())
		}
		if !lost && classOf(err) != wechat.ClassBusy || try == visitorTries {
			break
		}
		sleep(ctx, firstBackoff)
	}
	if _, lost := s.codes.find(unsure, time.Now()); lost && isExpired(err) {
		// An answer was lost, and the code is spent now: so WeChat's list has what
		// that answer brought. Which account it was, the list does not say, and a
		// guess could show one merchant's account to another.
		if _, err := s.Sync(ctx); err != nil {
			s.log.Warn("the list of authorizers could not be read after an answer to a code was lost", "error", err)
		}
	}
	return "", err
}

// isExpired reports whether WeChat says that a code is spent or expired, and so
// was a code. https://developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new.html
func isExpired(err error) bool {
	e, ok := errors.AsType[*wechat.Error](err)
	return ok && e.Code == 61010
}

// noteLink notes which account has authorized the platform by the link of a
// pre_auth_code. Only a push says so, once it has been worked on.
func (s *Service) noteLink(preAuthCode secret.String, appID string) {
	if preAuthCode.Empty() || appID == "" {
		return
	}
	digest := noted("link", string(LinkOf(preAuthCode)))
	s.codes.put(digest, spending{brought: wechat.Grant{AppID: appID}}, time.Now())
	s.tellCode(digest, appID)
}

// ledBy waits a little for the account that a link has led to; "" if that is not
// known then.
func (s *Service) ledBy(ctx context.Context, link Link) (appID string) {
	if link == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, linkWait)
	defer cancel()
	digest := noted("link", string(link))
	for ctx.Err() == nil {
		if led, ok := s.codes.find(digest, time.Now()); ok {
			return led.brought.AppID
		}
		if s.shared != nil {
			if appID, err := s.shared.Note(ctx, codeName(digest)); err == nil {
				return appID
			}
		}
		sleep(ctx, codePoll)
	}
	return ""
}

// describe says who an authorizer is. WeChat is asked for its name, and for its
// permission sets if they are not known: its list of authorizers has none.
func (s *Service) describe(ctx context.Context, record store.Authorizer) Authorized {
	authorized := Authorized{AppID: record.AppID, Scopes: record.Scopes}
	digest := noted("name", record.AppID)
	known, ok := s.codes.find(digest, time.Now())
	if authorized.Name = known.result; ok && len(record.Scopes) > 0 {
		return authorized
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	asked := time.Now()
	var info wechat.AuthorizerInfo
	err := s.asComponent(ctx, func(component *Token) error {
		var err error
		info, authorized.Name, err = s.config.Load().Client.AuthorizerInfo(ctx, component.Value(), component.AppID(), record.AppID)
		return err
	})
	if err == nil {
		s.codes.put(digest, spending{result: authorized.Name}, time.Now())
		err = s.LearnInfo(ctx, info, asked)
	}
	if err != nil {
		s.log.Debug("what WeChat has of an account is not known", "app_id", record.AppID, "error", err)
	}
	if len(authorized.Scopes) == 0 && info.AppID == record.AppID {
		authorized.Scopes = info.Scopes
	}
	return authorized
}

// NoTicket reports whether err means that WeChat has pushed no ticket yet, or
// none for long.
func NoTicket(err error) bool { return errors.Is(err, noTicket) }

// StoreDown reports whether err means that the store does not work.
func StoreDown(err error) bool {
	u, ok := errors.AsType[*Unavailable](err)
	if !ok || u.Err == nil {
		return false
	}
	_, refused := errors.AsType[*wechat.Error](u.Err)
	_, lost := errors.AsType[*wechat.TransportError](u.Err)
	return !refused && !lost
}
