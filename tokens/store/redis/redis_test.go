package redis

import (
	"errors"
	"strings"
	"testing"
	"time"

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

// What the package comment says is enough for a follower.
func TestFollowersRights(t *testing.T) {
	srv := redistest.Start(t)
	s := openStore(t, srv.URL(), "lingpai:")
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	srv.Must("ACL SETUSER follower on >pa55w0rd " + rightsOf(t, "follower"))
	follower := openStore(t, "unix://follower:pa55w0rd@"+srv.Socket(), "lingpai:", func(o *Options) { o.ReadOnly = true })
	told := watch(t, s)
	for name, err := range map[string]error{
		"Ping":             follower.Ping(t.Context()),
		"Authorizer":       errOf(follower.Authorizer(t.Context(), "wx1")),
		"Authorizers":      errOf(follower.Authorizers(t.Context(), "", 10)),
		"CountAuthorizers": errOf(follower.CountAuthorizers(t.Context())),
		"Pushes":           errOf(follower.Pushes(t.Context(), 0, 10)),
		"Want":             follower.Want(t.Context(), "x"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	eventually(t, "what it wants is noticed", func() bool { return len(told.all()) == 1 })
	seen := watch(t, follower)
	if _, err := s.UpdateAuthorizer(t.Context(), "wx1", increment); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it notices a change", func() bool { return len(seen.all()) == 1 })
	if answer := srv.Talk("AUTH follower pa55w0rd", "SET lingpai:{lingpai}:x 1"); !strings.Contains(answer, "NOPERM") {
		t.Errorf("it may write: %s", answer)
	}
}
