// Package storetest is the suite that every store.Store must pass.
package storetest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// Open gives an empty store for one test. reopen opens the same records again
// after the suite has closed the store; it is nil if they do not outlive it.
// The suite closes what it is given.
type Open func(t *testing.T) (s store.Store, reopen func() store.Store)

// Run checks the stores that open gives.
func Run(t *testing.T, open Open) {
	for _, group := range []map[string]func(*testing.T, Open){
		recordTests, authorizerTests, pushTests, concurrencyTests, lifecycleTests,
	} {
		for name, test := range group {
			t.Run(name, func(t *testing.T) { test(t, open) })
		}
	}
}

// start opens a store that is closed when the test ends.
func start(t *testing.T, open Open) store.Store {
	s, _ := startAgain(t, open)
	return s
}

// startAgain is start with a function that closes the store, if it still is
// open, and opens it again; it skips the rest of the test if it cannot.
func startAgain(t *testing.T, open Open) (store.Store, func() store.Store) {
	t.Helper()
	s, reopen := open(t)
	last := s
	t.Cleanup(func() { last.Close() })
	return s, func() store.Store {
		t.Helper()
		if reopen == nil {
			t.Skip("records do not outlive this store")
		}
		if err := last.Close(); !errors.Is(err, store.ErrClosed) {
			must(t, err)
		}
		last = reopen()
		return last
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// wantSame compares records; their secrets are not printed.
func wantSame(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

var instant = time.Date(2026, 3, 1, 23, 59, 59, 123456789, time.UTC)

func token(value string, generation uint64) store.Token {
	return store.Token{
		Value:       secret.New(value),
		ExpiresAt:   instant.Add(2 * time.Hour),
		RefreshedAt: instant,
		Generation:  generation,
	}
}

// authorizer is a record with all fields set.
func authorizer(appID string, state store.State) store.Authorizer {
	return store.Authorizer{
		AppID:        appID,
		State:        state,
		RefreshToken: secret.New("refreshtoken@@@" + appID),
		Token:        token("access-"+appID, 7),
		AuthorizedAt: instant.Add(-time.Hour),
		EventAt:      instant.Add(-time.Minute),
		EventDigest:  "digest-" + appID,
		Scopes:       []int{1, 15, 4},
	}
}

// put stores a as it is.
func put(t *testing.T, s store.Store, a store.Authorizer) {
	t.Helper()
	_, err := s.UpdateAuthorizer(t.Context(), a.AppID, func(r *store.Authorizer) error {
		*r = a
		return nil
	})
	must(t, err)
}
