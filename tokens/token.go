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
	text       secret.String // the value, and the app id behind it
	Generation uint64

	// There may be a million of them: TestTokenSize says what they may take.

	expiresAt, refreshedAt, authorizedAt instant

	flags atomic.Uint32
	// checked is the epoch of memory in which the store had this token, era the
	// era: see memory.
	checked, era atomic.Uint32
	place        int32 // in the schedule, which guards it

	// renewAt is when a renewal begins by itself, in Unix ns: ahead of the token's
	// end; as long as one is under way or has failed lately, later.
	renewAt atomic.Int64

	valueLength uint32
	kind        Kind
}

// The flags of a Token.
const (
	flagUsed   = 1 << iota // since it was obtained
	flagEscape             // the value is not what a query takes
)

// newToken copies what it keeps: an app id may be a part of a request, a value of
// a record, and they would stay as long as the token. One string takes both.
func newToken(key Key, t store.Token, dueAt time.Time) *Token {
	value := t.Value.Reveal()
	made := &Token{
		text:       secret.New(value + key.AppID),
		Generation: t.Generation,

		expiresAt:   instantOf(t.ExpiresAt),
		refreshedAt: instantOf(t.RefreshedAt),

		valueLength: uint32(len(value)),
		kind:        key.Kind,
	}
	made.renewAt.Store(dueAt.UnixNano())
	if url.QueryEscape(value) != value { // as WeChat's never are
		made.flags.Store(flagEscape)
	}
	return made
}

// Kind is the kind of credential.
func (t *Token) Kind() Kind { return t.kind }

// AppID is the app id of the platform, the authorizer or the direct account.
func (t *Token) AppID() string { return t.text.Reveal()[t.valueLength:] }

// Key names the credential.
func (t *Token) Key() Key { return Key{t.kind, t.AppID()} }

// Value is the token itself.
func (t *Token) Value() secret.String { return secret.New(t.text.Reveal()[:t.valueLength]) }

// AppendQuery appends the token to dst as the value of a query parameter.
func (t *Token) AppendQuery(dst []byte) []byte {
	if t.flags.Load()&flagEscape != 0 {
		return append(dst, url.QueryEscape(t.Value().Reveal())...)
	}
	return append(dst, t.Value().Reveal()...)
}

// firstUse reports whether the token is used for the first time.
func (t *Token) firstUse() bool {
	return t.flags.Load()&flagUsed == 0 && t.flags.Or(flagUsed)&flagUsed == 0
}

// due reports whether a renewal is to begin at now.
func (t *Token) due(now time.Time) bool { return now.UnixNano() >= t.renewAt.Load() }

// ExpiresAt is the end of the token's life.
func (t *Token) ExpiresAt() time.Time { return t.expiresAt.time() }

// RefreshedAt is when the token was obtained.
func (t *Token) RefreshedAt() time.Time { return t.refreshedAt.time() }

// AuthorizedAt is when the authorizer authorized the platform; zero for other
// kinds.
func (t *Token) AuthorizedAt() time.Time { return t.authorizedAt.time() }

// Usable reports whether the token may still be sent at now.
func (t *Token) Usable(now time.Time) bool { return now.UnixNano() < int64(t.expiresAt) }

// instant is a time.Time in a third of its memory: Unix ns, 0 for the zero time.
type instant int64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return 0
	}
	return instant(t.UnixNano())
}

func (i instant) time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(i))
}

func usable(t store.Token, now time.Time) bool {
	return !t.Value.Empty() && now.Before(t.ExpiresAt)
}
