package redis

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

func TestEncryption(t *testing.T) {
	srv, prefix := commonServer(t)
	first, second := store.NewKey(), store.NewKey()
	with := func(keys ...secret.String) func(*Options) {
		codec, err := store.NewCodec(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return func(o *Options) { o.Codec = codec }
	}
	ctx := t.Context()
	s := openStore(t, srv.URL(), prefix, with(first))
	for range 2 { // the second compares with what was encrypted
		if _, err := s.UpdateAuthorizer(ctx, "wx1", func(a *store.Authorizer) error {
			a.RefreshToken = secret.New("r3fresh")
			return increment(a)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.AddPush(ctx, store.Push{Digest: "d", Message: secret.New("m3ssage")}); err != nil {
		t.Fatal(err)
	}
	data, _, err := s.bytes(ctx, s.keys.record(store.ChangedAuthorizer, "wx1"))
	if err != nil || !strings.Contains(data, "enc:") {
		t.Errorf("stored without encryption, %v", err)
	}
	other := openStore(t, srv.URL(), prefix, with(second, first))
	a, err := other.Authorizer(ctx, "wx1")
	if err != nil || a.RefreshToken.Reveal() != "r3fresh" || a.Token.Generation != 2 {
		t.Errorf("generation %d, %v", a.Token.Generation, err)
	}
	page, err := other.Pushes(ctx, 0, 10)
	if err != nil || len(page) != 1 || page[0].Message.Reveal() != "m3ssage" {
		t.Errorf("%d pushes, %v", len(page), err)
	}
	for name, change := range map[string]func(*Options){"no key": func(*Options) {}, "a key missing": with(first)} {
		opts := Options{URL: secret.New(srv.URL()), KeyPrefix: prefix}
		change(&opts)
		if _, err := Open(ctx, opts); !errors.Is(err, store.ErrKey) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// After a rekey the former key is not asked for; until then it is, also by one that
// only reads.
func TestForgetKeys(t *testing.T) {
	srv, prefix := commonServer(t)
	first, second := store.NewKey(), store.NewKey()
	with := func(readOnly bool, keys ...secret.String) Options {
		codec, err := store.NewCodec(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return Options{URL: secret.New(srv.URL()), KeyPrefix: prefix, Codec: codec, ReadOnly: readOnly}
	}
	ctx := t.Context()
	mustOpen := func(o Options) *Store {
		t.Helper()
		s, err := Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	refused := func(when string, o Options) {
		t.Helper()
		if s, err := Open(ctx, o); !errors.Is(err, store.ErrKey) {
			t.Errorf("%s: %v", when, err)
			if err == nil {
				s.Close()
			}
		}
	}
	put := func(s *Store) {
		t.Helper()
		if _, err := s.UpdateAuthorizer(ctx, "wx1", func(a *store.Authorizer) error {
			a.RefreshToken = secret.New("r3fresh")
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	put(mustOpen(with(false, first)))
	// One that reads writes no mark for its key.
	mustOpen(with(true, second, first))
	both := with(false, second, first)
	mustOpen(with(false, first))
	s := mustOpen(both)
	for _, readOnly := range []bool{false, true} {
		refused("before the rekey", with(readOnly, second))
		refused("before the rekey", with(readOnly, first))
		refused("before the rekey", with(readOnly))
	}
	put(s)
	if err := s.ForgetKeys(ctx); err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{false, true} {
		a, err := mustOpen(with(readOnly, second)).Authorizer(ctx, "wx1")
		if err != nil || a.RefreshToken.Reveal() != "r3fresh" {
			t.Errorf("after the rekey: %v", err)
		}
		refused("after the rekey", with(readOnly, first))
	}
	mark, _, err := s.bytes(ctx, s.keys.encryption)
	if err != nil || mark != both.Codec.KeyID() {
		t.Errorf("mark %q, %v", mark, err)
	}
}

// Without keys nothing is encrypted, and nothing is to be marked.
func TestForgetKeysWithoutKeys(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	if err := s.ForgetKeys(t.Context()); err != nil {
		t.Error(err)
	}
	if mark, found, err := s.bytes(t.Context(), s.keys.encryption); found || err != nil {
		t.Errorf("mark %q, %v", mark, err)
	}
}

func TestComponentAndAccountIDs(t *testing.T) {
	srv, prefix := commonServer(t)
	s := openStore(t, srv.URL(), prefix)
	ctx := t.Context()
	for _, id := range []string{"wx2", "wx1", "wx2"} {
		if _, err := s.UpdateComponent(ctx, id, func(*store.Component) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if _, err := s.UpdateAccount(ctx, "a"+id, func(*store.Account) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.ComponentIDs(ctx)
	if want := []string{"wx1", "wx2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("components %q, %v", got, err)
	}
	got, err = s.AccountIDs(ctx)
	if want := []string{"awx1", "awx2"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("accounts %q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AccountIDs(ctx); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
