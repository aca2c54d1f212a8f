package tokens

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

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
	if err != nil || time.Since(present.RefreshedAt()) < s.config.Load().MinRefreshInterval {
		return present, err
	}
	fresh, err := s.await(ctx, key, present.Generation, reasonRejected)
	if err != nil {
		return present, nil
	}
	return s.markUsed(fresh), nil
}

// LearnInfo takes over what api_get_authorizer_info says of an authorizer, asked
// at the time asked: its refresh token if there is none that works, and its
// permission sets. It is persisted when LearnInfo returns nil.
func (s *Service) LearnInfo(ctx context.Context, info wechat.AuthorizerInfo, asked time.Time) error {
	if info.AppID == "" || info.RefreshToken.Empty() || s.config.Load().Follower {
		return nil
	}
	_, err := s.learn(ctx, info.AppID, func(a *store.Authorizer) lesson {
		l := lessonOfInfo(*a, info, asked)
		if l != nothingNew || a.State == store.StateActive {
			l = max(l, newScopes(a, info.Scopes))
		}
		return l
	}, info.RefreshToken, time.Now())
	return err
}

// lesson is what an answer of WeChat teaches of an authorizer.
type lesson uint8

const (
	nothingNew lesson = iota
	// scopesOnly: its permission sets.
	scopesOnly
	// refreshTokenOnly: the refresh token of the authorization that is known. An
	// access token that is good stays.
	refreshTokenOnly
	// newAuthorization: all that is known is void.
	newAuthorization
)

func lessonOfInfo(a store.Authorizer, info wechat.AuthorizerInfo, asked time.Time) lesson {
	switch a.State {
	case store.StateActive:
		if a.RefreshToken.Empty() {
			return refreshTokenOnly
		}
		return nothingNew
	case store.StateReauthorize:
		if a.RefreshToken.Equal(info.RefreshToken) {
			return nothingNew // it is known to be dead
		}
		return refreshTokenOnly
	case store.StateUnauthorized:
		// WeChat describes no account that does not authorize the platform. But
		// the answer may be older than the event that says so.
		if !a.EventAt.Before(asked.Truncate(time.Second)) {
			return nothingNew
		}
	}
	return newAuthorization
}

// newScopes gives an authorizer other permission sets.
func newScopes(a *store.Authorizer, scopes []int) lesson {
	if scopes == nil || slices.Equal(scopes, a.Scopes) {
		return nothingNew
	}
	a.Scopes = scopes
	return scopesOnly
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
// authorization is not overwritten. It is persisted when LearnList returns nil. A
// follower learns nothing.
func (s *Service) LearnList(ctx context.Context, list []wechat.ListedAuthorizer) (Learned, error) {
	learned := Learned{Total: len(list)}
	if s.config.Load().Follower {
		return learned, nil
	}
	var added, updated atomic.Int32
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
				return s.storeError(err)
			}
			if lessonOfList(known, listed) == nothingNew {
				return nil // most of a list: no write is begun for it
			}
			taken, err := s.learn(ctx, listed.AppID, func(a *store.Authorizer) lesson { return lessonOfList(*a, listed) }, listed.RefreshToken, listed.AuthorizedAt)
			switch {
			case !taken:
			case known.AppID == "":
				added.Add(1)
			default:
				updated.Add(1)
			}
			return err
		})
	}
	err := workers.Wait()
	learned.Added, learned.Updated = int(added.Load()), int(updated.Load())
	return learned, err
}

// lessonOfList says what an entry of the list teaches. auth_time has whole
// seconds.
func lessonOfList(a store.Authorizer, listed wechat.ListedAuthorizer) lesson {
	newer := listed.AuthorizedAt.After(a.AuthorizedAt)
	same := a.RefreshToken.Equal(listed.RefreshToken)
	switch a.State {
	case store.StateActive:
		switch {
		case same:
		case newer:
			return newAuthorization
		case a.RefreshToken.Empty():
			return refreshTokenOnly
		}
		return nothingNew
	case store.StateReauthorize:
		switch {
		case newer:
			return newAuthorization
		case same:
			return nothingNew // WeChat has refused it
		}
		return refreshTokenOnly
	case store.StateUnauthorized:
		if listed.AuthorizedAt.Before(a.EventAt.Truncate(time.Second)) {
			return nothingNew // it was ended after that
		}
	}
	return newAuthorization
}

// learn changes an authorizer as an answer of WeChat teaches, in one write.
// taken is false if its refresh token stays what it was.
func (s *Service) learn(ctx context.Context, appID string, teach func(*store.Authorizer) lesson, refreshToken secret.String, at time.Time) (taken bool, err error) {
	key := Key{Authorizer, appID}
	_, err = s.store.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
		unknown := a.State == ""
		l := teach(a)
		if taken = l > scopesOnly; !taken {
			if l == nothingNew {
				return store.ErrUnchanged
			}
			return nil
		}
		if l == newAuthorization {
			a.AuthorizedAt = at
			a.Token = store.Token{Generation: a.Token.Generation}
		}
		// Always another generation: a refresh under way with the former refresh
		// token says nothing of this one.
		a.Token.Generation = s.next(*a)
		a.State, a.RefreshToken = store.StateActive, refreshToken
		if unknown {
			s.revive(&a.Token, key, at)
		}
		return nil
	})
	if errors.Is(err, store.ErrUnchanged) {
		return false, nil
	}
	if err != nil {
		return false, s.storeError(err)
	}
	if taken {
		s.troubles.mended(key)
		s.dropFromMemory(ctx, appID)
		s.log.Debug("authorizer learned from WeChat", "app_id", appID) // a list has very many
	}
	return taken, nil
}

// revive gives an authorizer that a store has lost the access token that memory
// still has, unless it was authorized anew since. If that token should be dead
// after all, WeChat says so to the first call.
func (s *Service) revive(t *store.Token, key Key, authorizedAt time.Time) {
	held := s.memory.survivor(key, time.Now())
	if held == nil || authorizedAt.After(held.AuthorizedAt().Add(time.Minute)) {
		return
	}
	*t = store.Token{Value: held.Value(), ExpiresAt: held.ExpiresAt(), RefreshedAt: held.RefreshedAt(), Generation: held.Generation}
}
