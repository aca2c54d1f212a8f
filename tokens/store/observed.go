package store

import (
	"context"
	"errors"
	"time"
)

// Observe returns a Store that tells observe of every operation on s: its name
// in snake case, how long it took, and the error if the store failed. Not
// finding a record, and what the function given to an Update method returns,
// are no failures.
func Observe(s Store, observe func(op string, took time.Duration, err error)) Store {
	return observed{s, observe}
}

type observed struct {
	Store
	observe func(op string, took time.Duration, err error)
}

// done tells of an operation. fnErr is what an Update's function returned.
func (o observed) done(op string, began time.Time, err, fnErr error) {
	if errors.Is(err, ErrNotFound) || fnErr != nil && errors.Is(err, fnErr) {
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
