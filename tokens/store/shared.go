package store

import (
	"context"
	"errors"
	"time"
)

// Errors of a Shared store.
var (
	// ErrLeased means that somebody else holds a lease.
	ErrLeased = errors.New("lease is held by another")
	// ErrReadOnly means that the store was opened for reading only.
	ErrReadOnly = errors.New("store is open for reading only")
)

// Shared is a Store that several processes use at a time.
type Shared interface {
	Store
	// Lease takes the lease of name for at most ttl, or returns ErrLeased at
	// once. A lease says who asks WeChat; it does not protect the records: an
	// Update compares what it writes over, so that a holder that was frozen
	// beyond its lease cannot overwrite a newer record.
	Lease(ctx context.Context, name string, ttl time.Duration) (Lease, error)
	// Note returns the text that a process has left under name; ErrNotFound if
	// there is none, or its time is over. Notes are hints between processes, not
	// records: they may be lost at any time, and hold no secrets. Names are not
	// empty.
	Note(ctx context.Context, name string) (string, error)
	// SetNote leaves text under name for ttl, in the place of what was there. An
	// empty text takes the note away, whatever ttl is.
	SetNote(ctx context.Context, name, text string, ttl time.Duration) error
	// Identity names the set of records, and makes the name if there is none. It
	// is another one after the store has lost its records, and only then.
	Identity(ctx context.Context) (string, error)
	// Want tells the other processes that text is wanted: their Watch calls
	// changed with it as a Change of kind ChangedWanted. It is not kept for those
	// that do not listen now.
	Want(ctx context.Context, text string) error
	// Watch calls changed for every record that another process has written, as
	// soon as that is known, until ctx ends. It calls lost whenever changes may
	// have been missed, at the start and after each interruption.
	Watch(ctx context.Context, changed func(Change), lost func()) error
}

// Lease is a lease that was taken. It ends by itself when its time is over.
type Lease interface {
	// Extend has the lease end ttl from now; ErrLeased if it is no longer one's
	// own. ttl must be positive, as Lease's.
	Extend(ctx context.Context, ttl time.Duration) error
	// Release gives up the lease if it is still one's own, and never that of a
	// later holder. It may be called more than once.
	Release(ctx context.Context) error
}

// Change names a record that was written.
type Change struct {
	Kind  ChangeKind
	AppID string
}

// ChangeKind is the kind of a record.
type ChangeKind string

// The kinds of records that Watch tells of.
const (
	ChangedComponent  ChangeKind = "component"
	ChangedAuthorizer ChangeKind = "authorizer"
	ChangedAccount    ChangeKind = "account"
	ChangedPushes     ChangeKind = "pushes" // AppID is empty
	// ChangedWanted is no record: AppID is the text given to Want.
	ChangedWanted ChangeKind = "wanted"
)
