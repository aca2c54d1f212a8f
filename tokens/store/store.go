// Package store declares what lingpai must not lose: the records, the interface
// that keeps them, its errors, and how a record is written as bytes.
package store

import (
	"context"
	"errors"
	"time"

	"lingpai/tokens/secret"
)

// Errors that callers branch on. Implementations wrap them with the operation.
var (
	// ErrNotFound means that there is no such record.
	ErrNotFound = errors.New("not found")
	// ErrUnchanged is returned by the function given to an Update method when
	// there is nothing to write. The method then writes nothing and returns the
	// record as it is together with ErrUnchanged.
	ErrUnchanged = errors.New("unchanged")
	// ErrClosed means that the store has been closed.
	ErrClosed = errors.New("store is closed")
	// ErrLocked means that another process holds the store.
	ErrLocked = errors.New("store is in use by another process")
)

// Token is one access token. The zero value is no token, of generation 0.
type Token struct {
	Value secret.String
	// ExpiresAt counts from before the call to WeChat was sent.
	ExpiresAt time.Time
	// RefreshedAt is when Value was obtained.
	RefreshedAt time.Time
	// Generation grows by one with each change of the token, its loss included,
	// and never goes back.
	Generation uint64
}

// Component is the record of the third-party platform.
type Component struct {
	AppID string
	// Ticket is the component_verify_ticket; valid for 12 h.
	Ticket secret.String
	// TicketCreatedAt is the push's CreateTime, by WeChat's clock.
	TicketCreatedAt time.Time
	// TicketReceivedAt is when the push came, by our clock.
	TicketReceivedAt time.Time
	Token            Token
}

// State of an authorizer.
type State string

// The states of an authorizer.
const (
	// StateActive: calls for it can be made.
	StateActive State = "active"
	// StateReauthorize: its refresh token is dead; the account's administrator
	// must authorize again.
	StateReauthorize State = "reauthorize"
	// StateUnauthorized: the account's administrator ended the authorization.
	StateUnauthorized State = "unauthorized"
)

// Authorizer is the record of one account that authorized the platform.
type Authorizer struct {
	AppID        string
	State        State
	RefreshToken secret.String
	Token        Token
	// AuthorizedAt is when the present authorization was made: auth_time, or the
	// event's CreateTime.
	AuthorizedAt time.Time
	// EventAt is the CreateTime of the newest event applied, EventDigest that
	// event's Push.Digest. An older event changes nothing.
	EventAt     time.Time
	EventDigest string
	// Scopes are the ids of the permission sets (func_info).
	Scopes []int
}

// Account is the record of a direct account.
type Account struct {
	AppID string
	Token Token
}

// Push is an authentic push of WeChat that was acknowledged and is still to be
// worked on.
type Push struct {
	// Seq orders pushes by arrival. AddPush assigns it.
	Seq uint64
	// Digest names the push's content; two pending pushes never share one.
	Digest string
	// ReceivedAt is when it came.
	ReceivedAt time.Time
	// Message is the decrypted XML. It may hold codes: never log it.
	Message secret.String
}

// Counts is how many authorizers there are in each state.
type Counts struct {
	Active, Reauthorize, Unauthorized int
}

// Store keeps the records. All methods are safe for concurrent use and give
// up when their context ends, as far as the engine can.
//
// A write is durable (fsync) when its method has returned without error; one
// that returns an error may or may not have happened, but never in part.
//
// An Update method reads a record, calls fn with it, and writes what fn has
// made of it, as one atomic step. If there is no record, fn gets one with only
// AppID set. fn may be called more than once, and must neither block nor call
// the store. If fn returns an error, nothing is written and that error is
// returned. The record returned is the one now stored.
type Store interface {
	// Component returns ErrNotFound until the first UpdateComponent.
	Component(ctx context.Context, appID string) (Component, error)
	UpdateComponent(ctx context.Context, appID string, fn func(*Component) error) (Component, error)

	// Account returns ErrNotFound until the first UpdateAccount.
	Account(ctx context.Context, appID string) (Account, error)
	UpdateAccount(ctx context.Context, appID string, fn func(*Account) error) (Account, error)

	// Authorizer returns ErrNotFound if there is no such authorizer.
	Authorizer(ctx context.Context, appID string) (Authorizer, error)
	UpdateAuthorizer(ctx context.Context, appID string, fn func(*Authorizer) error) (Authorizer, error)
	// DeleteAuthorizer removes the record; ErrNotFound if there is none.
	DeleteAuthorizer(ctx context.Context, appID string) error
	// Authorizers returns up to limit authorizers in the order of their app
	// ids, beginning behind after ("" is the start).
	Authorizers(ctx context.Context, after string, limit int) ([]Authorizer, error)
	// CountAuthorizers costs the same however many there are.
	CountAuthorizers(ctx context.Context) (Counts, error)

	// AddPush stores p under the next Seq and returns it, unless a pending push
	// has the same Digest: then that one is returned, and added is false.
	AddPush(ctx context.Context, p Push) (stored Push, added bool, err error)
	// Pushes returns up to limit pending pushes with a Seq greater than after,
	// oldest first.
	Pushes(ctx context.Context, after uint64, limit int) ([]Push, error)
	// DeletePush forgets a push that has been worked on. Deleting one that does
	// not exist is no error.
	DeletePush(ctx context.Context, seq uint64) error

	// Ping reports whether the store can be used now.
	Ping(ctx context.Context) error
	// Close waits for operations under way. Later calls return ErrClosed.
	Close() error
}

// Lister is a Store that can tell which components and accounts it has records
// of, as it tells of authorizers by pages: they are few.
type Lister interface {
	// ComponentIDs returns the app ids of all components, in order.
	ComponentIDs(ctx context.Context) ([]string, error)
	// AccountIDs returns the app ids of all accounts, in order.
	AccountIDs(ctx context.Context) ([]string, error)
}
