package redis

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/redis/redistest"
	"lingpai/tokens/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
		srv, prefix := commonServer(t)
		again := func() store.Store { return openStore(t, srv.URL(), prefix) }
		return again(), again
	})
}

func TestShared(t *testing.T) {
	storetest.RunShared(t, func(t *testing.T) (a, b store.Shared) {
		srv, prefix := commonServer(t)
		return openStore(t, srv.URL(), prefix), openStore(t, srv.URL(), prefix)
	})
}

// What was acknowledged outlives a crash of the server, with the settings that the
// package comment asks for.
func TestStoreOutlivesTheServer(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (store.Store, func() store.Store) {
		srv := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
		return openStore(t, srv.URL(), "p:"), func() store.Store {
			srv.Kill()
			srv.Start()
			return openStore(t, srv.URL(), "p:")
		}
	})
}

func TestReadOnly(t *testing.T) {
	srv, prefix := commonServer(t)
	readOnly := func(o *Options) { o.ReadOnly = true }
	// An empty server stays empty.
	follower := openStore(t, srv.URL(), prefix, readOnly)
	if err := follower.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := follower.Identity(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if keys, err := follower.client.Do(t.Context(), follower.client.B().Keys().Pattern(prefix+"*").Build()).AsStrSlice(); err != nil || len(keys) > 0 {
		t.Errorf("%q, %v", keys, err)
	}
	told := watch(t, follower)
	s := openStore(t, srv.URL(), prefix)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	id, err := s.Identity(t.Context())
	if got, followerErr := follower.Identity(t.Context()); got != id || err != nil || followerErr != nil {
		t.Errorf("%v %v", err, followerErr)
	}
	if a, err := follower.Authorizer(t.Context(), "wx1"); err != nil || a.Token.Generation != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	eventually(t, "a change is noticed", func() bool { return len(told.all()) == 1 })
	ctx := t.Context()
	for name, err := range map[string]error{
		"UpdateComponent":  errOf(follower.UpdateComponent(ctx, "wx1", nil)),
		"UpdateAccount":    errOf(follower.UpdateAccount(ctx, "wx1", nil)),
		"UpdateAuthorizer": errOf(follower.UpdateAuthorizer(ctx, "wx1", nil)),
		"DeleteAuthorizer": follower.DeleteAuthorizer(ctx, "wx1"),
		"DeletePush":       follower.DeletePush(ctx, 1),
		"Lease":            errOf(follower.Lease(ctx, "l", time.Minute)),
		"SetNote":          follower.SetNote(ctx, "n", "x", time.Minute),
		"ForgetKeys":       follower.ForgetKeys(ctx),
	} {
		if !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := follower.AddPush(ctx, store.Push{Digest: "d"}); !errors.Is(err, store.ErrReadOnly) {
		t.Error(err)
	}
}

// A follower leaves a schema that is not its own to those that may write.
func TestReadOnlyMigratesNothing(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	opts := Options{URL: secret.New(srv.URL()), KeyPrefix: prefix, ReadOnly: true}
	migrated := false
	follower, err := open(t.Context(), opts, []migration{func(context.Context, *Store) error { migrated = true; return nil }})
	if err == nil {
		follower.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "schema 1") || migrated {
		t.Errorf("an older schema: %v, migrated %t", err, migrated)
	}
	for version, want := range map[string]error{"2": store.ErrNewer, "x": errForeign} {
		set(t, s, s.keys.schema, version)
		if _, err := Open(t.Context(), opts); !errors.Is(err, want) {
			t.Errorf("schema %q: %v", version, err)
		}
	}
	set(t, s, s.keys.schema, "1")
	follower = openStore(t, srv.URL(), prefix, func(o *Options) { o.ReadOnly = true })
	set(t, s, s.keys.schema, "2")
	if err := follower.Ping(t.Context()); !errors.Is(err, store.ErrNewer) {
		t.Errorf("ping: %v", err)
	}
}

// set puts value under key, past all checks.
func set(t *testing.T, s *Store, key, value string) {
	t.Helper()
	if err := s.client.Do(t.Context(), s.client.B().Set().Key(key).Value(value).Build()).Error(); err != nil {
		t.Fatal(err)
	}
}

// What the package comment says is enough for a follower.
func TestFollowersRights(t *testing.T) {
	srv := redistest.Start(t)
	s := openStore(t, srv.URL(), "lingpai:")
	ctx := t.Context()
	write := func() {
		t.Helper()
		_, err1 := s.UpdateAuthorizer(ctx, "wx1", increment)
		_, err2 := s.UpdateAccount(ctx, "wxa", func(*store.Account) error { return nil })
		_, err3 := s.UpdateComponent(ctx, "wxc", func(*store.Component) error { return nil })
		if err := errors.Join(err1, err2, err3, s.SetNote(ctx, "n", "x", time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if _, _, err := s.AddPush(ctx, store.Push{Digest: "d"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Identity(ctx); err != nil {
		t.Fatal(err)
	}
	srv.Must("ACL SETUSER follower on >pa55w0rd " + rightsOf(t, "follower"))
	var log bytes.Buffer
	follower := openStore(t, "unix://follower:pa55w0rd@"+srv.Socket(), "lingpai:", func(o *Options) {
		o.ReadOnly, o.Log = true, slog.New(slog.NewTextHandler(&log, nil))
	})
	told := watch(t, s)
	for name, err := range map[string]error{
		"Ping":             follower.Ping(ctx),
		"Component":        errOf(follower.Component(ctx, "wxc")),
		"ComponentIDs":     errOf(follower.ComponentIDs(ctx)),
		"Account":          errOf(follower.Account(ctx, "wxa")),
		"AccountIDs":       errOf(follower.AccountIDs(ctx)),
		"Authorizer":       errOf(follower.Authorizer(ctx, "wx1")),
		"Authorizers":      errOf(follower.Authorizers(ctx, "", 10)),
		"CountAuthorizers": errOf(follower.CountAuthorizers(ctx)),
		"Pushes":           errOf(follower.Pushes(ctx, 0, 10)),
		"Note":             errOf(follower.Note(ctx, "n")),
		"Identity":         errOf(follower.Identity(ctx)),
		"Want":             follower.Want(ctx, "x"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	eventually(t, "what it wants is noticed", func() bool { return len(told.all()) == 1 })
	seen := watch(t, follower)
	write()
	eventually(t, "it notices the changes", func() bool { return len(seen.all()) == 3 })
	if log.Len() > 0 {
		t.Errorf("it was told of what is not its to mend: %s", log.String())
	}
	for _, command := range []string{"SET lingpai:{lingpai}:x 1", "DEL lingpai:{lingpai}:schema", "EVAL return 0"} {
		if answer := srv.Talk("AUTH follower pa55w0rd", command); !strings.Contains(answer, "NOPERM") {
			t.Errorf("it may %s: %s", command, answer)
		}
	}
}
