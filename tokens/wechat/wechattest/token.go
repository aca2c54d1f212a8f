package wechattest

import (
	"fmt"
	"time"
)

// TokenKind says whose a token is.
type TokenKind string

// The kinds of tokens that calls carry.
const (
	KindComponent  TokenKind = "component"  // component_access_token
	KindAuthorizer TokenKind = "authorizer" // authorizer_access_token
	KindAccount    TokenKind = "account"    // access_token of a direct account, plain or stable
	KindUser       TokenKind = "user"       // a user's OAuth token
)

// chain is one sequence of tokens in which each replaces the one before. Plain
// and stable tokens of an account do not touch each other.
type chain struct {
	kind   TokenKind
	appID  string
	stable bool
}

// token is one issued access token, kept after its end so that the simulator
// can tell expired from invalid.
type token struct {
	chain
	value   string
	serial  int // counts from 1 within kind and appid
	issued  time.Time
	expires time.Time // by its lifetime
	end     time.Time // expires, or earlier if it was replaced or revoked
	errcode int       // what calls get if end came before expires
	openID  string    // of a user token
}

func (t *token) live(now time.Time) bool { return now.Before(t.end) }

// verdict returns 0 for a live token, else WeChat's errcode for it.
func (t *token) verdict(now time.Time) int {
	switch {
	case t.live(now):
		return 0
	case t.end.Before(t.expires):
		return t.errcode
	default:
		return 42001
	}
}

// endAt brings the token's end forward.
func (t *token) endAt(at time.Time, errcode int) {
	if at.Before(t.end) {
		t.end, t.errcode = at, errcode
	}
}

// issue makes the next token of a chain: the previous one lives on for the
// overlap at most.
func (s *Server) issue(c chain, lifetime, overlap Duration) *token {
	now := time.Now()
	alive := s.chains[c][:0]
	for i, t := range s.chains[c] {
		switch {
		case i == len(s.chains[c])-1:
			t.endAt(now.Add(time.Duration(overlap)), 40001)
		case s.knobs.OlderTokens == OlderDead:
			t.endAt(now, 40001)
		}
		if t.live(now) {
			alive = append(alive, t)
		}
	}
	t := s.newToken(c, lifetime)
	s.chains[c] = append(alive, t)
	s.refreshes[c.key()]++
	return t
}

// newToken makes a token that replaces none.
func (s *Server) newToken(c chain, lifetime Duration) *token {
	now := time.Now()
	s.serials[c.key()]++
	t := &token{
		chain: c, value: s.values.token(), serial: s.serials[c.key()], issued: now,
		expires: now.Add(time.Duration(lifetime)), errcode: 40001,
	}
	t.end = t.expires
	s.tokens[t.value] = t
	if c.kind == KindUser {
		s.addUserSecret(t.value)
	} else {
		s.addSecret(t.value)
	}
	if len(s.tokens)%1024 == 0 {
		s.forgetOldTokens(now)
	}
	return t
}

// forgetOldTokens drops tokens that ended more than a day ago: a long run must
// not grow without end.
func (s *Server) forgetOldTokens(now time.Time) {
	for value, t := range s.tokens {
		if t.end.Before(now.Add(-24 * time.Hour)) {
			delete(s.tokens, value)
		}
	}
}

// current returns a chain's newest token if it is live.
func (s *Server) current(c chain) *token {
	list := s.chains[c]
	if len(list) == 0 || !list[len(list)-1].live(time.Now()) {
		return nil
	}
	return list[len(list)-1]
}

// kill ends all live tokens of a kind and an appid, and returns how many.
func (s *Server) kill(kind TokenKind, appID string, errcode int) int {
	now, n := time.Now(), 0
	for _, stable := range []bool{false, true} {
		for _, t := range s.chains[chain{kind, appID, stable}] {
			if t.live(now) {
				t.endAt(now, errcode)
				n++
			}
		}
	}
	return n
}

// key names a credential, whichever of its chains a token is from.
func (c chain) key() string { return credentialKey(c.kind, c.appID) }

func credentialKey(kind TokenKind, appID string) string { return string(kind) + "/" + appID }

// RevokeToken ends all live tokens of the kind and the appid at once, as if
// another system had refreshed them: calls with them get 40001. It returns how
// many there were.
func (s *Server) RevokeToken(kind TokenKind, appID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill(kind, appID, 40001)
}

// RevokeAll ends every live token, and returns how many there were.
func (s *Server) RevokeAll() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, n := time.Now(), 0
	for _, t := range s.tokens {
		if t.live(now) {
			t.endAt(now, 40001)
			n++
		}
	}
	return n
}

// LiveTokens returns the values of all live tokens of the kind and the appid,
// oldest first.
func (s *Server) LiveTokens(kind TokenKind, appID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	now := time.Now()
	for _, stable := range []bool{false, true} {
		for _, t := range s.chains[chain{kind, appID, stable}] {
			if t.live(now) {
				out = append(out, t.value)
			}
		}
	}
	return out
}

// IssueToken makes the next token of a component, authorizer or account as if
// another system had fetched it: the previous one goes into its overlap. It
// counts as a refresh.
func (s *Server) IssueToken(kind TokenKind, appID string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.knobs
	switch kind {
	case KindComponent:
		if appID == s.componentAppID {
			return s.issue(chain{kind: kind, appID: appID}, k.ComponentTokenLifetime, k.ComponentOverlap).value, nil
		}
	case KindAuthorizer:
		if s.authorizers[appID] != nil {
			return s.issue(chain{kind: kind, appID: appID}, k.AuthorizerTokenLifetime, k.AuthorizerOverlap).value, nil
		}
	case KindAccount:
		if _, ok := s.accounts[appID]; ok {
			return s.issue(chain{kind: kind, appID: appID}, k.AccountTokenLifetime, k.AccountOverlap).value, nil
		}
	}
	return "", fmt.Errorf("issue %s token: unknown appid %q", kind, appID)
}

// Refreshes returns how many tokens of the kind were issued for the appid.
func (s *Server) Refreshes(kind TokenKind, appID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshes[credentialKey(kind, appID)]
}
