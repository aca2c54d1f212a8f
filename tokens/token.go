// Package tokens keeps the access tokens of one third-party platform, its
// authorizers and direct accounts: it finds them in memory, reads them from the
// store, renews them ahead of their end, and asks WeChat once however many
// callers wait.
package tokens

import (
	"net/url"
	"sync/atomic"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// Kind is the kind of a credential.
type Kind uint8

// The kinds of credentials.
const (
	Component  = Kind(metrics.Component)
	Authorizer = Kind(metrics.Authorizer)
	Account    = Kind(metrics.Account)
)

// String returns component, authorizer or account.
func (k Kind) String() string { return metrics.Kind(k).String() }

// Key names one credential.
type Key struct {
	Kind  Kind
	AppID string
}

// String returns the key in the form kind/appid.
func (k Key) String() string { return k.Kind.String() + "/" + k.AppID }

// Token is one access token as it may be injected. It never changes: a renewal
// makes another Token. Safe for concurrent use.
type Token struct {
	Key
	Value       secret.String
	ExpiresAt   time.Time
	RefreshedAt time.Time
	// DueAt is when it is to be renewed, ahead of its end.
	DueAt      time.Time
	Generation uint64
	// AuthorizedAt is when the authorizer authorized the platform; zero for other
	// kinds.
	AuthorizedAt time.Time

	escaped string       // Value as a query takes it
	used    atomic.Bool  // since it was obtained
	retryAt atomic.Int64 // Unix ns before which no renewal begins by itself

	// checked is the epoch of memory in which the store had this token, era the
	// era: see memory.
	checked, era atomic.Uint64
}

func newToken(key Key, t store.Token, dueAt time.Time) *Token {
	return &Token{
		Key:         key,
		Value:       t.Value,
		ExpiresAt:   t.ExpiresAt,
		RefreshedAt: t.RefreshedAt,
		DueAt:       dueAt,
		Generation:  t.Generation,
		escaped:     url.QueryEscape(t.Value.Reveal()),
	}
}

// AppendQuery appends the token to dst as the value of a query parameter.
func (t *Token) AppendQuery(dst []byte) []byte { return append(dst, t.escaped...) }

// Usable reports whether the token may still be sent at now.
func (t *Token) Usable(now time.Time) bool { return now.Before(t.ExpiresAt) }

func usable(t store.Token, now time.Time) bool {
	return !t.Value.Empty() && now.Before(t.ExpiresAt)
}
