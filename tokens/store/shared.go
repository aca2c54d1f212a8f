package store

import (
	"context"
	"errors"
	"time"
)

// ErrLeased means that somebody else holds a lease.
var ErrLeased = errors.New("lease is held by another")

// Shared is a Store that several processes use at a time.
type Shared interface {
	Store
	// Lease takes the lease of name for at most ttl, or returns ErrLeased at
	// once. A lease says who asks WeChat; it does not protect the records: an
	// Update compares what it writes over, so that a holder that was frozen
	// beyond its lease cannot overwrite a newer record. release gives up only
	// one's own lease, and never that of a later holder.
	Lease(ctx context.Context, name string, ttl time.Duration) (release func(context.Context) error, err error)
	// Watch calls changed for every record that another process has written, as
	// soon as that is known, until ctx ends. It calls lost whenever changes may
	// have been missed, at the start and after each interruption.
	Watch(ctx context.Context, changed func(Change), lost func()) error
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
)
