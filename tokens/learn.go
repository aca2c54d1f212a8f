package tokens

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// Force obtains a new token for a caller that asks for one though the present
// one is good, as stable_token's force_refresh does. It does so at most once per
// MinRefreshInterval of the token's life, by the rules of refusals; else, and if
// it fails, the present token is returned. Errors are Token's.
// https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken
func (s *Service) Force(ctx context.Context, key Key) (*Token, error) {
	present, err := s.Token(ctx, key)
	if err != nil || time.Since(present.RefreshedAt) < s.config.Load().MinRefreshInterval {
		return present, err
	}
	fresh, err := s.await(ctx, key, present.Generation, reasonRejected)
	if err != nil {
		return present, nil
	}
	return s.markUsed(fresh), nil
}

// LearnInfo takes over what api_get_authorizer_info says of an authorizer: its
// refresh token if there is none that works, and its permission sets. It is
// persisted when LearnInfo returns nil.
func (s *Service) LearnInfo(ctx context.Context, info wechat.AuthorizerInfo) error {
	if info.AppID == "" || info.RefreshToken.Empty() {
		return nil
	}
	return s.learn(ctx, info.AppID, func(a *store.Authorizer) bool {
		if info.Scopes != nil {
			a.Scopes = info.Scopes
		}
		return a.State != store.StateActive || a.RefreshToken.Empty()
	}, info.RefreshToken, time.Now())
}

// Learned counts what LearnList did.
type Learned struct {
	Total, Added, Updated, WithoutRefreshToken int
}

// maxLearners is how many authorizers of a list are stored at a time: they share
// an fsync.
const maxLearners = 64

// LearnList takes over what api_get_authorizer_list says: authorizers not known
// yet, and newer authorizations than the known ones, by auth_time. A newer local
// authorization is not overwritten. It is persisted when LearnList returns nil.
func (s *Service) LearnList(ctx context.Context, list []wechat.ListedAuthorizer) (Learned, error) {
	learned := Learned{Total: len(list)}
	var mu sync.Mutex
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(maxLearners)
	for _, listed := range list {
		if listed.AppID == "" || listed.RefreshToken.Empty() {
			learned.WithoutRefreshToken++
			continue
		}
		workers.Go(func() error {
			known, err := s.store.Authorizer(ctx, listed.AppID)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if !newer(known, listed) {
				return nil
			}
			err = s.learn(ctx, listed.AppID, func(a *store.Authorizer) bool { return newer(*a, listed) }, listed.RefreshToken, listed.AuthorizedAt)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if known.AppID == "" {
				learned.Added++
			} else {
				learned.Updated++
			}
			return nil
		})
	}
	return learned, workers.Wait()
}

// newer reports whether an entry of the list says more than the record. auth_time
// has whole seconds.
func newer(a store.Authorizer, listed wechat.ListedAuthorizer) bool {
	another := !a.RefreshToken.Equal(listed.RefreshToken)
	later := listed.AuthorizedAt.After(a.AuthorizedAt)
	switch a.State {
	case store.StateActive:
		return another && (later || a.RefreshToken.Empty())
	case store.StateReauthorize: // WeChat has refused the one there is
		return another || later
	}
	// Never heard of, or ended since: the event may tell of a later end.
	return !listed.AuthorizedAt.Before(a.EventAt.Truncate(time.Second))
}

// learn gives an authorizer a refresh token if take says so, as one write.
func (s *Service) learn(ctx context.Context, appID string, take func(*store.Authorizer) bool, refreshToken secret.String, at time.Time) error {
	taken := false
	_, err := s.store.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
		scopes := a.Scopes
		if taken = take(a); !taken {
			if len(scopes) == len(a.Scopes) {
				return store.ErrUnchanged
			}
			return nil
		}
		a.State = store.StateActive
		a.RefreshToken = refreshToken
		a.AuthorizedAt = at
		a.Token = store.Token{Generation: s.retired.next(*a)}
		return nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		return nil
	}
	if err != nil {
		return s.storeError(err)
	}
	if taken {
		s.troubles.mended(Key{Authorizer, appID})
		s.dropFromMemory(ctx, appID)
		s.log.Info("authorizer learned from WeChat", "app_id", appID)
	}
	return nil
}

// codes remembers what the codes of late have brought, since a code can be spent
// once, but the push and the redirect may both bring it.
type codes struct {
	mu    sync.Mutex
	spent map[codeDigest]rememberedCode
}

type codeDigest = [sha256.Size]byte

type rememberedCode struct {
	spending
	at time.Time
}

const (
	// rememberCodes is how long what a code has brought is remembered.
	rememberCodes = 2 * time.Hour
	// maxCodes bounds how many are.
	maxCodes = 4096
)

func (c *codes) find(code codeDigest, now time.Time) (spending, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	remembered, ok := c.spent[code]
	return remembered.spending, ok && now.Sub(remembered.at) < rememberCodes
}

func (c *codes) put(code codeDigest, spent spending, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spent) >= maxCodes {
		maps.DeleteFunc(c.spent, func(_ codeDigest, r rememberedCode) bool { return now.Sub(r.at) >= rememberCodes })
		for oldest := range c.spent { // still full: any of them
			if len(c.spent) < maxCodes {
				break
			}
			delete(c.spent, oldest)
		}
	}
	if c.spent == nil {
		c.spent = map[codeDigest]rememberedCode{}
	}
	c.spent[code] = rememberedCode{spent, now}
}

// ExchangeCode spends an authorization code for an app that calls
// api_query_auth, persists what it brings, and returns WeChat's answer, which
// holds tokens. A code that has been spent here of late, for the push that
// brought it too, is answered as it was then. Errors: Token's, *wechat.Error,
// *wechat.TransportError.
func (s *Service) ExchangeCode(ctx context.Context, code secret.String) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout(s.config.Load()))
	defer cancel()
	select {
	case r := <-s.spend(code, nil):
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(spending).brought.Answer, nil
	case <-ctx.Done():
		return nil, ErrWait
	}
}

// spending is what a code has brought, and how.
type spending struct {
	brought wechat.Grant
	event   string // Digest of the push it was spent for, "" for none
	result  string // of saving it
}

// spend exchanges a code, once however many ask, and persists what it brings.
// auth is the event that brought the code, nil if an app did.
func (s *Service) spend(code secret.String, auth *authorization) <-chan singleflight.Result {
	digest := sha256.Sum256([]byte(code.Reveal()))
	return s.flights.DoChan(fmt.Sprintf("code/%x", digest), func() (any, error) {
		if spent, ok := s.codes.find(digest, time.Now()); ok {
			return spent, nil
		}
		began := time.Now()
		brought, err := s.exchange(code)
		if err != nil {
			return nil, err
		}
		spent := spending{brought: brought}
		if auth != nil {
			spent.event = auth.push.Digest
		}
		if spent.result, err = s.saveAuthorization(s.base, auth, began, brought); err != nil {
			return nil, s.storeError(err)
		}
		s.codes.put(digest, spent, time.Now())
		return spent, nil
	})
}
