package tokens

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

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
	// maxCodeAnswer is how long an answer may be to be remembered, in bytes: they
	// have about 3 KiB.
	maxCodeAnswer = 64 << 10
)

func (c *codes) find(code codeDigest, now time.Time) (spending, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	remembered, ok := c.spent[code]
	return remembered.spending, ok && now.Sub(remembered.at) < rememberCodes
}

func (c *codes) put(code codeDigest, spent spending, now time.Time) {
	if len(spent.brought.Answer) > maxCodeAnswer {
		return
	}
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
// brought it too, is answered as it was then.
//
// ask passes the app's call on, if it is needed: it is called at most once, and
// ExchangeCode does not return while it runs. Its errors are returned as they
// are; the others are Token's.
func (s *Service) ExchangeCode(ctx context.Context, code secret.String, ask func() (wechat.Grant, error)) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout(s.config.Load()))
	defer cancel()
	var mu sync.Mutex
	left := false
	asking := func() (wechat.Grant, error) {
		mu.Lock()
		defer mu.Unlock()
		if left {
			return wechat.Grant{}, ErrWait
		}
		return ask()
	}
	select {
	case r := <-s.spend(code, nil, asking):
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(spending).brought.Answer, nil
	case <-ctx.Done():
		mu.Lock() // which waits for ask
		defer mu.Unlock()
		left = true
		return nil, ErrWait
	}
}

// spending is what a code has brought, and how.
type spending struct {
	brought wechat.Grant
	event   string // Digest of the push it was spent for, "" for none
	result  string // of saving it
}

// spend has a code exchanged by ask, once however many want it, and persists what
// it brings. auth is the event that brought the code, nil if an app did.
func (s *Service) spend(code secret.String, auth *authorization, ask func() (wechat.Grant, error)) <-chan singleflight.Result {
	digest := sha256.Sum256([]byte(code.Reveal()))
	return s.flights.DoChan(fmt.Sprintf("code/%x", digest), func() (any, error) {
		if spent, ok := s.codes.find(digest, time.Now()); ok {
			return spent, nil
		}
		if s.config.Load().Follower {
			return nil, ErrFollower
		}
		// Close waits until what the code has brought is stored.
		if !s.begin() {
			return nil, stopping
		}
		defer s.work.Done()
		elsewhere, end, err := s.codeTurn(digest)
		if err != nil || elsewhere != nil {
			return elsewhere, err
		}
		defer end()
		began := time.Now()
		brought, err := ask()
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
		s.tellCode(digest, brought.AppID)
		return spent, nil
	})
}
