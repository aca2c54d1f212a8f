package store

import (
	"context"
	"errors"
	"time"
)

// Observe returns a Store that tells observe of every operation on s: its name
// in snake case, how long it took, and the error if the store failed. Not
// finding a record, and what the function given to an Update method returns,
// are no failures, and neither is a lease that somebody else holds. What it returns
// is a Shared if s is one, a Lister if s is one, and a Deliveries if s is one.
func Observe(s Store, observe func(op string, took time.Duration, err error)) Store {
	o := observed{s, observe}
	if d, ok := s.(Deliveries); ok {
		return withDeliveries(o.asIs(), observedDeliveries{o, d})
	}
	return o.asIs()
}

// asIs is o with the further interfaces of its Store.
func (o observed) asIs() Store {
	s := o.Store
	lister, listed := s.(Lister)
	shared, isShared := s.(Shared)
	switch {
	case isShared && listed:
		return struct {
			observedShared
			Lister
		}{observedShared{o, shared}, lister}
	case isShared:
		return observedShared{o, shared}
	case listed:
		return struct {
			observed
			Lister
		}{o, lister}
	}
	return o
}

type observed struct {
	Store
	observe func(op string, took time.Duration, err error)
}

// done tells of an operation. fnErr is what an Update's function returned.
func (o observed) done(op string, began time.Time, err, fnErr error) {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrLeased) || fnErr != nil && errors.Is(err, fnErr) {
		err = nil
	}
	o.observe(op, time.Since(began), err)
}

func (o observed) Component(ctx context.Context, appID string) (c Component, err error) {
	defer func(began time.Time) { o.done("component", began, err, nil) }(time.Now())
	return o.Store.Component(ctx, appID)
}

func (o observed) UpdateComponent(ctx context.Context, appID string, fn func(*Component) error) (c Component, err error) {
	var fnErr error
	defer func(began time.Time) { o.done("update_component", began, err, fnErr) }(time.Now())
	return o.Store.UpdateComponent(ctx, appID, func(c *Component) error {
		fnErr = fn(c)
		return fnErr
	})
}

func (o observed) Account(ctx context.Context, appID string) (a Account, err error) {
	defer func(began time.Time) { o.done("account", began, err, nil) }(time.Now())
	return o.Store.Account(ctx, appID)
}

func (o observed) UpdateAccount(ctx context.Context, appID string, fn func(*Account) error) (a Account, err error) {
	var fnErr error
	defer func(began time.Time) { o.done("update_account", began, err, fnErr) }(time.Now())
	return o.Store.UpdateAccount(ctx, appID, func(a *Account) error {
		fnErr = fn(a)
		return fnErr
	})
}

func (o observed) Authorizer(ctx context.Context, appID string) (a Authorizer, err error) {
	defer func(began time.Time) { o.done("authorizer", began, err, nil) }(time.Now())
	return o.Store.Authorizer(ctx, appID)
}

func (o observed) UpdateAuthorizer(ctx context.Context, appID string, fn func(*Authorizer) error) (a Authorizer, err error) {
	var fnErr error
	defer func(began time.Time) { o.done("update_authorizer", began, err, fnErr) }(time.Now())
	return o.Store.UpdateAuthorizer(ctx, appID, func(a *Authorizer) error {
		fnErr = fn(a)
		return fnErr
	})
}

func (o observed) DeleteAuthorizer(ctx context.Context, appID string) (err error) {
	defer func(began time.Time) { o.done("delete_authorizer", began, err, nil) }(time.Now())
	return o.Store.DeleteAuthorizer(ctx, appID)
}

func (o observed) Authorizers(ctx context.Context, after string, limit int) (page []Authorizer, err error) {
	defer func(began time.Time) { o.done("authorizers", began, err, nil) }(time.Now())
	return o.Store.Authorizers(ctx, after, limit)
}

func (o observed) CountAuthorizers(ctx context.Context) (c Counts, err error) {
	defer func(began time.Time) { o.done("count_authorizers", began, err, nil) }(time.Now())
	return o.Store.CountAuthorizers(ctx)
}

func (o observed) AddPush(ctx context.Context, p Push) (stored Push, added bool, err error) {
	defer func(began time.Time) { o.done("add_push", began, err, nil) }(time.Now())
	return o.Store.AddPush(ctx, p)
}

func (o observed) Pushes(ctx context.Context, after uint64, limit int) (page []Push, err error) {
	defer func(began time.Time) { o.done("pushes", began, err, nil) }(time.Now())
	return o.Store.Pushes(ctx, after, limit)
}

func (o observed) DeletePush(ctx context.Context, seq uint64) (err error) {
	defer func(began time.Time) { o.done("delete_push", began, err, nil) }(time.Now())
	return o.Store.DeletePush(ctx, seq)
}

func (o observed) Ping(ctx context.Context) (err error) {
	defer func(began time.Time) { o.done("ping", began, err, nil) }(time.Now())
	return o.Store.Ping(ctx)
}

// observedShared is observed for a Shared. Watch is passed on as it is.
type observedShared struct {
	observed
	shared Shared
}

func (o observedShared) Lease(ctx context.Context, name string, ttl time.Duration) (l Lease, err error) {
	defer func(began time.Time) { o.done("lease", began, err, nil) }(time.Now())
	l, err = o.shared.Lease(ctx, name, ttl)
	if err != nil {
		return nil, err
	}
	return observedLease{o.observed, l}, nil
}

type observedLease struct {
	observed
	lease Lease
}

func (o observedLease) Extend(ctx context.Context, ttl time.Duration) (err error) {
	defer func(began time.Time) { o.done("extend_lease", began, err, nil) }(time.Now())
	return o.lease.Extend(ctx, ttl)
}

func (o observedLease) Release(ctx context.Context) (err error) {
	defer func(began time.Time) { o.done("release_lease", began, err, nil) }(time.Now())
	return o.lease.Release(ctx)
}

func (o observedShared) Note(ctx context.Context, name string) (text string, err error) {
	defer func(began time.Time) { o.done("note", began, err, nil) }(time.Now())
	return o.shared.Note(ctx, name)
}

func (o observedShared) SetNote(ctx context.Context, name, text string, ttl time.Duration) (err error) {
	defer func(began time.Time) { o.done("set_note", began, err, nil) }(time.Now())
	return o.shared.SetNote(ctx, name, text, ttl)
}

func (o observedShared) Identity(ctx context.Context) (id string, err error) {
	defer func(began time.Time) { o.done("identity", began, err, nil) }(time.Now())
	return o.shared.Identity(ctx)
}

func (o observedShared) Want(ctx context.Context, text string) (err error) {
	defer func(began time.Time) { o.done("want", began, err, nil) }(time.Now())
	return o.shared.Want(ctx, text)
}

func (o observedShared) Watch(ctx context.Context, changed func(Change), lost func()) error {
	return o.shared.Watch(ctx, changed, lost)
}
