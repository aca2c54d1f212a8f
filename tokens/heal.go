package tokens

import (
	"context"
	"errors"
	"sync"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// listPage is how many authorizers WeChat gives at a time.
	listPage = 500
	// maxListPages bounds a reading of the list: 1.5 million authorizers.
	maxListPages = 3000
	// listEvery lies between two readings of the list that refusals cause.
	listEvery = 10 * time.Minute
	// listRetry lies between two attempts at a reading that failed.
	listRetry = time.Minute
	// emptyEvery is how often a store without authorizers is looked at again.
	emptyEvery = 5 * time.Second
)

// lists is what is remembered of readings of WeChat's list of authorizers.
type lists struct {
	mu       sync.Mutex
	asked    time.Time // when the last one began that a refusal caused
	begun    uint64    // readings so far
	suspects map[string]suspect
}

// suspect is an authorizer whose refresh token WeChat has refused.
type suspect struct {
	generation uint64 // of its token then
	listed     bool
}

// verdict is what the list says of a suspect.
type verdict uint8

const (
	verdictUnknown verdict = iota // the list could not be read now
	verdictAbsent                 // not in the list: it does not authorize the platform
	verdictListed                 // in it, with the refresh token that was refused or none
	verdictHealed                 // in it with another refresh token, which is stored now
)

// Sync reads WeChat's list of authorizers, stores what is new in it, and says
// what that was. It is single-flight, and single pages that are stored stay so
// if a later one fails.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerlist
func (s *Service) Sync(ctx context.Context) (Learned, error) {
	if err := s.mayWrite(); err != nil {
		return Learned{}, err
	}
	flight := s.flights.DoChan("list", func() (any, error) { return s.readList() })
	select {
	case r := <-flight:
		learned, _ := r.Val.(reading)
		return learned.Learned, r.Err
	case <-ctx.Done():
		return Learned{}, ErrWait
	}
}

// reading is one reading of the list.
type reading struct {
	Learned
	number uint64
	// complete: as many accounts were read as WeChat says there are. Else not to
	// be among them proves nothing.
	complete bool
}

// readList is the body of the flight.
func (s *Service) readList() (reading, error) {
	result := reading{number: s.lists.begin()}
	if !s.begin() {
		return result, stopping
	}
	defer s.work.Done()
	for page := range maxListPages {
		var list []wechat.ListedAuthorizer
		var total int
		ctx, cancel := context.WithTimeout(s.base, flightTimeout(s.config.Load()))
		err := s.asComponent(ctx, func(component *Token) error {
			var err error
			list, total, err = s.config.Load().Client.AuthorizerList(ctx, component.Value(), component.AppID(), page*listPage, listPage)
			return err
		})
		if err == nil {
			err = s.healListed(ctx, list)
		}
		var learned Learned
		if err == nil {
			learned, err = s.LearnList(ctx, list)
		}
		cancel()
		if err != nil {
			return result, err
		}
		result.Added += learned.Added
		result.Updated += learned.Updated
		result.WithoutRefreshToken += learned.WithoutRefreshToken
		result.Total += len(list)
		result.complete = result.Total >= total
		if len(list) < listPage || (page+1)*listPage >= total {
			break
		}
	}
	s.log.Info("list of authorizers read", "total", result.Total, "added", result.Added, "updated", result.Updated,
		"without_refresh_token", result.WithoutRefreshToken)
	return result, nil
}

// healListed gives suspects on a page the refresh token that WeChat has for
// them. Times do not matter here: WeChat refuses the one there is.
func (s *Service) healListed(ctx context.Context, page []wechat.ListedAuthorizer) error {
	for _, listed := range page {
		s.lists.mu.Lock()
		suspected, ok := s.lists.suspects[listed.AppID]
		if ok {
			suspected.listed = true
			s.lists.suspects[listed.AppID] = suspected
		}
		s.lists.mu.Unlock()
		if !ok || listed.RefreshToken.Empty() {
			continue
		}
		_, err := s.learn(ctx, listed.AppID, func(a *store.Authorizer) lesson {
			if a.Token.Generation != suspected.generation || a.State == store.StateUnauthorized || a.RefreshToken.Equal(listed.RefreshToken) {
				return nothingNew
			}
			return newAuthorization
		}, listed.RefreshToken, listed.AuthorizedAt)
		if err != nil {
			return err
		}
	}
	return nil
}

// judge reads the list because WeChat refused the refresh token that belongs to
// generation, at most every listEvery.
func (s *Service) judge(ctx context.Context, appID string, generation uint64) verdict {
	now := time.Now()
	after, ok := s.lists.suspect(appID, generation, now)
	if !ok {
		return verdictUnknown
	}
	defer s.lists.forget(appID)
	// A reading that had begun before may have passed the account's page: then
	// one more is needed, which serves all who wait for it.
	var read reading
	for read.number <= after {
		select {
		case r := <-s.flights.DoChan("list", func() (any, error) { return s.readList() }):
			if r.Err != nil {
				s.lists.allowAfter(now, listRetry)
				return verdictUnknown
			}
			read = r.Val.(reading)
		case <-ctx.Done():
			return verdictUnknown
		}
	}
	record, err := s.store.Authorizer(ctx, appID)
	switch {
	case err != nil:
		return verdictUnknown
	case record.Token.Generation != generation:
		// Many may be in need of it, as when an old store was restored.
		s.lists.allowAfter(now, 0)
		return verdictHealed
	case s.lists.listed(appID):
		return verdictListed
	case !read.complete:
		return verdictUnknown
	}
	return verdictAbsent
}

// begin counts a reading.
func (l *lists) begin() (number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	return l.begun
}

// suspect notes a suspect and returns how many readings had begun by then; ok is
// false if the list is not to be read for it now. It is if others wait for a
// reading anyway.
func (l *lists) suspect(appID string, generation uint64, now time.Time) (after uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.suspects) == 0 && now.Sub(l.asked) < listEvery {
		return 0, false
	}
	if l.suspects == nil {
		l.suspects = map[string]suspect{}
	}
	l.asked = now
	l.suspects[appID] = suspect{generation: generation}
	return l.begun, true
}

func (l *lists) forget(appID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.suspects, appID)
}

func (l *lists) listed(appID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.suspects[appID].listed
}

// allowAfter lets the list be read again when wait has passed.
func (l *lists) allowAfter(now time.Time, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = now.Add(wait - listEvery)
}

// unreadNote is there while a reading of the list into an empty store has begun
// and is not complete.
const (
	unreadNote = "list_unread"
	unreadTime = time.Hour
)

// readWhenEmpty reads the list once a component token can be had, if the store
// knows no authorizer: it is new, or was lost. It does so again whenever a shared
// store loses its records.
func (s *Service) readWhenEmpty(ctx context.Context) {
	wait := emptyEvery // an operator or a push may be about to fill it
	for {
		s.readIfEmpty(ctx, wait)
		s.lost.Store(false)
		select {
		case <-ctx.Done():
			return
		case <-s.emptied:
			wait = 0
		}
	}
}

// readIfEmpty returns when the store knows authorizers, or all there are.
func (s *Service) readIfEmpty(ctx context.Context, wait time.Duration) {
	for failures := 0; ; {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.emptied:
		case <-ctx.Done():
		}
		timer.Stop()
		if _, ok := s.ComponentKey(); !ok || ctx.Err() != nil {
			return
		}
		done, err := s.fillEmpty(ctx)
		if done {
			return
		}
		wait = emptyEvery
		if err != nil {
			failures++
			wait = max(wait, backoff(err, failures, time.Now(), jitter()))
			if ctx.Err() == nil && !errors.Is(err, ErrWait) {
				s.log.Warn("the list of authorizers could not be read, trying again", "error", err, "retry_after", wait.Round(time.Millisecond).String())
			}
		}
	}
}

// fillEmpty reads the list if the store is empty. done means that this is, or
// was, not needed any more. Of processes that share the store, one does it.
func (s *Service) fillEmpty(ctx context.Context) (done bool, err error) {
	needed, err := s.needsList(ctx)
	if err != nil || !needed {
		return err == nil, nil // the store fails: that is logged elsewhere
	}
	// What memory has is to be known for what outlived the records first.
	if s.unnoticedLoss(ctx) || s.Obtainable(ctx) != nil {
		return false, nil
	}
	give, ok := s.sole(ctx, "list", flightTimeout(s.config.Load()))
	if !ok {
		return false, nil
	}
	defer give()
	if s.shared != nil {
		// Whoever had the lease before may have done it.
		if needed, err := s.needsList(ctx); err != nil || !needed {
			return err == nil, nil
		}
		if err := s.shared.SetNote(ctx, unreadNote, "1", unreadTime); err != nil {
			return false, nil
		}
	}
	if _, err := s.Sync(ctx); err != nil {
		return false, err
	}
	if s.shared != nil {
		if err := s.shared.SetNote(ctx, unreadNote, "", unreadTime); err != nil {
			s.log.Debug("the list may be read once more", "error", err)
		}
	}
	return true, nil
}

// needsList reports whether no authorizer is known, or not all are that a reading
// begun for that reason would have brought.
func (s *Service) needsList(ctx context.Context) (bool, error) {
	counts, err := s.store.CountAuthorizers(ctx)
	if err != nil || counts == (store.Counts{}) || s.shared == nil {
		return err == nil && counts == (store.Counts{}), err
	}
	_, err = s.shared.Note(ctx, unreadNote)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// readNightly reads the list once a night, at a time of its own.
func (s *Service) readNightly(ctx context.Context) {
	for {
		sleep(ctx, time.Until(nextNight(time.Now(), jitter())))
		if ctx.Err() != nil {
			return
		}
		if _, ok := s.ComponentKey(); !ok || s.Obtainable(ctx) != nil {
			continue
		}
		// One process for all that share the store, for the rest of the night.
		give, ok := s.sole(ctx, "night", nightLength)
		if !ok {
			continue
		}
		if _, err := s.Sync(ctx); err != nil {
			give()
			if ctx.Err() == nil {
				s.log.Warn("the list of authorizers could not be read tonight", "error", err)
			}
		}
	}
}

// nightLength is longer than the part of a night in which the list is read.
const nightLength = 4 * time.Hour

// nextNight is a moment between 3 and 5 in the morning, Beijing time, at least
// six hours away, and so never twice in a night.
func nextNight(now time.Time, jitter float64) time.Time {
	y, m, d := now.In(beijing).Date()
	for ; ; d++ {
		night := time.Date(y, m, d, 3, 0, int(jitter*2*3600), 0, beijing)
		if night.Sub(now) >= 6*time.Hour {
			return night
		}
	}
}

// listed looks into WeChat's list for an account whose code is spent though no
// answer to it was stored: it was lost on the way, or with a former process. The
// list has the refresh token then. It reports whether the account can be called
// for under the authorization.
func (s *Service) listed(ctx context.Context, a authorization) bool {
	if _, err := s.Sync(ctx); err != nil {
		s.log.Warn("the list of authorizers could not be read", "error", err)
		return false
	}
	record, err := s.store.Authorizer(ctx, a.event.AuthorizerID)
	return err == nil && record.State == store.StateActive && !record.RefreshToken.Empty() &&
		!record.AuthorizedAt.Before(a.at.Truncate(time.Second))
}

// markUnauthorized notes that an account does not authorize the platform any
// more, unless its record has changed since generation.
func (s *Service) markUnauthorized(ctx context.Context, appID string, generation uint64) bool {
	_, err := s.store.UpdateAuthorizer(ctx, appID, func(a *store.Authorizer) error {
		if a.Token.Generation != generation || a.State != store.StateActive {
			return store.ErrUnchanged
		}
		a.State = store.StateUnauthorized
		a.RefreshToken = store.Authorizer{}.RefreshToken
		a.Token = store.Token{Generation: s.next(*a)}
		return nil
	})
	if err == nil {
		s.dropFromMemory(ctx, appID)
	}
	return err == nil
}
