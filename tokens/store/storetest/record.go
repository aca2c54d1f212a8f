package storetest

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

var recordTests = map[string]func(*testing.T, Open){
	"a record that was never written is not found":  notFound,
	"an update creates the record":                  updateCreates,
	"an error of the function writes nothing":       errorWritesNothing,
	"unchanged returns the record and writes none":  unchanged,
	"all fields come back":                          allFields,
	"odd values come back":                          oddValues,
	"times come back in UTC":                        timesInUTC,
	"the app id stays what it is":                   appIDStays,
	"a record that cannot be stored is refused":     invalid,
	"records are copies":                            copies,
	"a panic of the function leaves a usable store": panics,
}

func notFound(t *testing.T, open Open) {
	s := start(t, open)
	ctx := t.Context()
	c, err := s.Component(ctx, "wx1")
	wantErr(t, "Component", err, store.ErrNotFound)
	wantSame(t, "Component", c, store.Component{})
	_, err = s.Account(ctx, "wx1")
	wantErr(t, "Account", err, store.ErrNotFound)
	_, err = s.Authorizer(ctx, "wx1")
	wantErr(t, "Authorizer", err, store.ErrNotFound)
	wantErr(t, "DeleteAuthorizer", s.DeleteAuthorizer(ctx, "wx1"), store.ErrNotFound)
	must(t, s.DeletePush(ctx, 1))
	_, err = s.Authorizer(ctx, "")
	wantErr(t, "Authorizer of no app id", err, store.ErrNotFound)

	// Kinds are apart from each other.
	put(t, s, authorizer("wx1", store.StateActive))
	_, err = s.Component(ctx, "wx1")
	wantErr(t, "Component with an authorizer's app id", err, store.ErrNotFound)
	_, err = s.Account(ctx, "wx1")
	wantErr(t, "Account with an authorizer's app id", err, store.ErrNotFound)
}

func updateCreates(t *testing.T, open Open) {
	s := start(t, open)
	ctx := t.Context()
	c, err := s.UpdateComponent(ctx, "wx1", func(c *store.Component) error {
		wantSame(t, "new component", *c, store.Component{AppID: "wx1"})
		c.Ticket = secret.New("ticket")
		return nil
	})
	must(t, err)
	want := store.Component{AppID: "wx1", Ticket: secret.New("ticket")}
	wantSame(t, "UpdateComponent", c, want)
	c, err = s.Component(ctx, "wx1")
	must(t, err)
	wantSame(t, "Component", c, want)

	a, err := s.UpdateAccount(ctx, "wx1", func(a *store.Account) error {
		wantSame(t, "new account", *a, store.Account{AppID: "wx1"})
		return nil
	})
	must(t, err)
	wantSame(t, "UpdateAccount", a, store.Account{AppID: "wx1"})
	_, err = s.Account(ctx, "wx1")
	must(t, err)
	_, err = s.Account(ctx, "wx2")
	wantErr(t, "another account", err, store.ErrNotFound)
}

func errorWritesNothing(t *testing.T, open Open) {
	s := start(t, open)
	ctx := t.Context()
	refused := errors.New("refused")
	fail := func(a *store.Authorizer) error {
		a.State = store.StateUnauthorized
		a.Token.Generation = 99
		if len(a.Scopes) > 0 {
			a.Scopes[0] = 99
		}
		return refused
	}
	_, err := s.UpdateAuthorizer(ctx, "wx1", fail)
	wantErr(t, "update of a new record", err, refused)
	_, err = s.Authorizer(ctx, "wx1")
	wantErr(t, "read", err, store.ErrNotFound)

	want := authorizer("wx1", store.StateActive)
	put(t, s, want)
	_, err = s.UpdateAuthorizer(ctx, "wx1", fail)
	wantErr(t, "update", err, refused)
	got, err := s.Authorizer(ctx, "wx1")
	must(t, err)
	wantSame(t, "read", got, want)
	n, err := s.CountAuthorizers(ctx)
	must(t, err)
	wantSame(t, "counts", n, store.Counts{Active: 1})
}

func unchanged(t *testing.T, open Open) {
	s := start(t, open)
	ctx := t.Context()
	leave := func(a *store.Authorizer) error {
		a.Token.Generation = 99
		if len(a.Scopes) > 0 {
			a.Scopes[0] = 99
		}
		return store.ErrUnchanged
	}
	got, err := s.UpdateAuthorizer(ctx, "wx1", leave)
	wantErr(t, "update of a new record", err, store.ErrUnchanged)
	wantSame(t, "update of a new record", got, store.Authorizer{AppID: "wx1"})
	_, err = s.Authorizer(ctx, "wx1")
	wantErr(t, "read", err, store.ErrNotFound)

	want := authorizer("wx1", store.StateActive)
	put(t, s, want)
	got, err = s.UpdateAuthorizer(ctx, "wx1", leave)
	wantErr(t, "update", err, store.ErrUnchanged)
	wantSame(t, "update", got, want)
	got, err = s.Authorizer(ctx, "wx1")
	must(t, err)
	wantSame(t, "read", got, want)
}

func allFields(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	ctx := t.Context()
	component := store.Component{
		AppID:            "wxc",
		Ticket:           secret.New("ticket@@@1"),
		TicketCreatedAt:  instant.Add(-time.Second),
		TicketReceivedAt: instant,
		Token:            token("component", math.MaxUint64),
	}
	account := store.Account{AppID: "wxa", Token: token("account", 3)}
	check := func(s store.Store) {
		t.Helper()
		c, err := s.Component(ctx, "wxc")
		must(t, err)
		wantSame(t, "Component", c, component)
		a, err := s.Account(ctx, "wxa")
		must(t, err)
		wantSame(t, "Account", a, account)
		got, err := s.Authorizer(ctx, "wx1")
		must(t, err)
		wantSame(t, "Authorizer", got, authorizer("wx1", store.StateReauthorize))
	}
	c, err := s.UpdateComponent(ctx, "wxc", func(c *store.Component) error { *c = component; return nil })
	must(t, err)
	wantSame(t, "UpdateComponent", c, component)
	a, err := s.UpdateAccount(ctx, "wxa", func(a *store.Account) error { *a = account; return nil })
	must(t, err)
	wantSame(t, "UpdateAccount", a, account)
	put(t, s, authorizer("wx1", store.StateReauthorize))
	check(s)
	check(reopen())
}

func oddValues(t *testing.T, open Open) {
	s := start(t, open)
	f := func(what string, want store.Authorizer) {
		t.Helper()
		put(t, s, want)
		got, err := s.Authorizer(t.Context(), want.AppID)
		must(t, err)
		wantSame(t, what, got, want)
	}
	f("nothing but an app id", store.Authorizer{AppID: "wx1"})
	big := authorizer("wx2", store.StateActive)
	big.RefreshToken = secret.New(strings.Repeat("r", 4096))
	big.Token.Value = secret.New(strings.Repeat("a", 4096))
	f("big tokens", big)
	f("fields emptied again", store.Authorizer{AppID: "wx2", State: store.StateUnauthorized})
	odd := authorizer("wx3-令牌-🎫", store.StateActive)
	odd.RefreshToken = secret.New("刷新🔑\"\\<>&\u2028\x00")
	odd.Token.Value = secret.New("not UTF-8 \xff\xfe")
	odd.EventDigest = "\"摘要\"\n"
	f("unicode and bytes", odd)
}

func timesInUTC(t *testing.T, open Open) {
	s := start(t, open)
	now := time.Now().In(time.FixedZone("CST", 8*60*60))
	got, err := s.UpdateAccount(t.Context(), "wx1", func(a *store.Account) error {
		a.Token.RefreshedAt = now
		a.Token.ExpiresAt = time.Unix(0, 0)
		return nil
	})
	must(t, err)
	want := store.Account{AppID: "wx1"}
	want.Token.RefreshedAt = now.UTC().Round(0)
	want.Token.ExpiresAt = time.Unix(0, 0).UTC()
	wantSame(t, "update", got, want)
	got, err = s.Account(t.Context(), "wx1")
	must(t, err)
	wantSame(t, "read", got, want)
}

// A function that fills in a whole record may forget its app id, and must not
// get another account's tokens stored under this one's.
func appIDStays(t *testing.T, open Open) {
	s := start(t, open)
	for _, id := range []string{"", "wx2"} {
		got, err := s.UpdateAuthorizer(t.Context(), "wx1", func(a *store.Authorizer) error {
			*a = store.Authorizer{AppID: id, State: store.StateActive}
			return nil
		})
		must(t, err)
		wantSame(t, "update", got, store.Authorizer{AppID: "wx1", State: store.StateActive})
	}
	_, err := s.Authorizer(t.Context(), "wx2")
	wantErr(t, "the other", err, store.ErrNotFound)
}

func invalid(t *testing.T, open Open) {
	s := start(t, open)
	ctx := t.Context()
	for _, appID := range []string{"", strings.Repeat("w", 40_000), "wx\xff"} {
		_, err := s.UpdateComponent(ctx, appID, func(*store.Component) error { return nil })
		wantErr(t, "component", err, store.ErrInvalid)
		_, err = s.UpdateAccount(ctx, appID, func(*store.Account) error { return nil })
		wantErr(t, "account", err, store.ErrInvalid)
		_, err = s.UpdateAuthorizer(ctx, appID, func(*store.Authorizer) error { return nil })
		wantErr(t, "authorizer", err, store.ErrInvalid)
	}
	_, err := s.UpdateAuthorizer(ctx, "wx1", func(a *store.Authorizer) error {
		a.State, a.EventDigest = store.StateActive, "\xff"
		return nil
	})
	wantErr(t, "digest that is no UTF-8", err, store.ErrInvalid)
	_, _, err = s.AddPush(ctx, store.Push{Message: secret.New("m")})
	wantErr(t, "push without digest", err, store.ErrInvalid)
	all, err := s.Authorizers(ctx, "", 10)
	must(t, err)
	if len(all) > 0 {
		t.Errorf("%d authorizers were stored", len(all))
	}
	n, err := s.CountAuthorizers(ctx)
	must(t, err)
	wantSame(t, "counts", n, store.Counts{})
	if got := pending(t, s, 0, 10); len(got) > 0 {
		t.Errorf("%d pushes were stored", len(got))
	}
}

func copies(t *testing.T, open Open) {
	s := start(t, open)
	ctx := t.Context()
	want := authorizer("wx1", store.StateActive)
	var kept *store.Authorizer
	mine := slices.Clone(want.Scopes)
	updated, err := s.UpdateAuthorizer(ctx, "wx1", func(a *store.Authorizer) error {
		*a = want
		a.Scopes = mine
		kept = a
		return nil
	})
	must(t, err)
	check := func(after string) {
		t.Helper()
		got, err := s.Authorizer(ctx, "wx1")
		must(t, err)
		wantSame(t, after, got, want)
	}
	mine[0], kept.Scopes[1], kept.State = 99, 99, store.StateUnauthorized
	wantSame(t, "what was returned, after a change of what was passed in", updated, want)
	check("after a change of what was passed in")

	updated.Scopes[0] = 99
	check("after a change of what Update returned")

	got, err := s.Authorizer(ctx, "wx1")
	must(t, err)
	got.Scopes[0] = 99
	check("after a change of what Authorizer returned")

	page, err := s.Authorizers(ctx, "", 1)
	must(t, err)
	page[0].Scopes[0] = 99
	check("after a change of what Authorizers returned")

	same, err := s.UpdateAuthorizer(ctx, "wx1", func(a *store.Authorizer) error {
		kept = a
		return store.ErrUnchanged
	})
	wantErr(t, "unchanged", err, store.ErrUnchanged)
	kept.Scopes[0] = 99
	wantSame(t, "what was returned unchanged", same, want)
	same.Scopes[0] = 99
	check("after a change of what was returned unchanged")
}

func panics(t *testing.T, open Open) {
	s := start(t, open)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		s.UpdateAuthorizer(t.Context(), "wx1", func(*store.Authorizer) error { panic("in fn") })
	}()
	_, err := s.Authorizer(t.Context(), "wx1")
	wantErr(t, "read", err, store.ErrNotFound)
	put(t, s, authorizer("wx1", store.StateActive))
}
