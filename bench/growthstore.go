package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/bolt"
)

// The stores of growth are filled by lingpai's own packages: there is no faster
// way into them, but many writes at a time share what one costs.

// writers is how many records are written at a time: as many as bolt puts into
// one transaction.
const writers = 1000

// record is the part of an authorizer's record that differs; without a token
// lingpai has to ask for one.
type record struct {
	token   string
	expires time.Time
}

// longLived is a token that is good for as long as any run.
func longLived(n int) record {
	return record{token: tokenOf(growthApp(n)), expires: time.Now().Add(2 * time.Hour)}
}

// noToken has lingpai ask for a token.
func noToken(int) record { return record{} }

// fill writes the authorizers from one number to before another one, in the order
// of their app ids, which is the quickest.
func fill(ctx context.Context, into store.Store, from, to int, recordOf func(n int) record) error {
	var numbers []int
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	slices.SortFunc(numbers, func(a, b int) int { return cmp.Compare(scatter(uint64(a)), scatter(uint64(b))) })
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for _, n := range numbers {
		if working.Err() != nil {
			break
		}
		group.Go(func() error { return put(working, into, n, recordOf(n)) })
	}
	return cmp.Or(group.Wait(), ctx.Err())
}

func put(ctx context.Context, into store.Store, n int, r record) error {
	app := growthApp(n)
	_, err := into.UpdateAuthorizer(ctx, app, func(a *store.Authorizer) error {
		a.State, a.RefreshToken, a.AuthorizedAt = store.StateActive, secret.New(refreshTokenOf(app)), time.Unix(1700000000, 0)
		if r.token != "" {
			a.Token = store.Token{Value: secret.New(r.token), ExpiresAt: r.expires, RefreshedAt: time.Now(), Generation: 1}
		}
		return nil
	})
	return err
}

// fillBolt is fill for a file of bolt, which is made if there is none.
func fillBolt(ctx context.Context, path string, from, to int, recordOf func(n int) record) error {
	opened, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return err
	}
	return errors.Join(fill(ctx, opened, from, to, recordOf), opened.Close())
}

// filledStore is a file of bolt that has been filled.
type filledStore struct {
	authorizers int
	file        string
}

// filled returns a file of bolt with so many authorizers, all with tokens. It
// grows out of the largest one before it that is smaller.
func (g *growthRun) filled(ctx context.Context, n int) (string, error) {
	smaller := filledStore{}
	for _, s := range g.stores {
		if s.authorizers == n {
			return s.file, nil
		}
		if s.authorizers < n && s.authorizers >= smaller.authorizers {
			smaller = s
		}
	}
	began := time.Now()
	file := filepath.Join(g.folder, fmt.Sprintf("filled-%d.db", n))
	if smaller.file != "" {
		if err := copyFile(smaller.file, file); err != nil {
			return "", err
		}
	}
	if err := fillBolt(ctx, file, smaller.authorizers, n, longLived); err != nil {
		return "", err
	}
	g.stores = append(g.stores, filledStore{n, file})
	fmt.Fprintf(g.progress, "  bolt filled with %s authorizers in %v\n", thousands(n), time.Since(began).Round(time.Millisecond))
	return file, nil
}

// copyFile copies a file and has it on disk, so that what follows is not measured
// beside the writing of it.
func copyFile(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Sync(), target.Close())
}
