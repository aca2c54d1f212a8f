package storetest

import (
	"fmt"
	"slices"
	"testing"

	"lingpai/tokens/store"
)

var authorizerTests = map[string]func(*testing.T, Open){
	"authorizers come in pages by app id":        paging,
	"a walk goes on over creations and deletion": pagingWhileChanging,
	"counters follow the states":                 counters,
}

// ids reads one page.
func ids(t *testing.T, s store.Store, after string, limit int) []string {
	t.Helper()
	page, err := s.Authorizers(t.Context(), after, limit)
	must(t, err)
	got := make([]string, 0, len(page))
	for _, a := range page {
		wantSame(t, "record in a page", a, authorizer(a.AppID, store.StateActive))
		got = append(got, a.AppID)
	}
	return got
}

func paging(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	f := func(after string, limit int, want ...string) {
		t.Helper()
		if got := ids(t, s, after, limit); !slices.Equal(got, want) {
			t.Errorf("Authorizers(%q, %d) = %q, want %q", after, limit, got, want)
		}
	}
	f("", 10)
	for _, id := range []string{"wx5", "wx1", "wx3", "wx10", "wx2"} {
		put(t, s, authorizer(id, store.StateActive))
	}
	all := func() {
		t.Helper()
		f("", 10, "wx1", "wx10", "wx2", "wx3", "wx5")
		f("", 5, "wx1", "wx10", "wx2", "wx3", "wx5")
		f("", 2, "wx1", "wx10")
		f("wx10", 2, "wx2", "wx3")
		f("wx3", 2, "wx5")
		f("wx5", 2)
		f("wx4", 2, "wx5")
		f("zz", 2)
		f("", 0)
		f("", -1)
	}
	all()
	put(t, s, authorizer("wx2", store.StateActive)) // no second wx2
	all()
	s = reopen()
	all()
}

func pagingWhileChanging(t *testing.T, open Open) {
	s := start(t, open)
	id := func(n int) string { return fmt.Sprintf("wx%03d", n) }
	for n := range 60 {
		put(t, s, authorizer(id(59-n), store.StateActive))
	}
	var got []string
	for after := ""; ; {
		page := ids(t, s, after, 7)
		if len(page) == 0 {
			break
		}
		got = append(got, page...)
		after = page[len(page)-1]
		switch after {
		case id(6):
			must(t, s.DeleteAuthorizer(t.Context(), id(6)))  // where the next page begins
			must(t, s.DeleteAuthorizer(t.Context(), id(10))) // ahead
			must(t, s.DeleteAuthorizer(t.Context(), id(2)))  // behind
		case id(14):
			must(t, s.DeleteAuthorizer(t.Context(), id(20)))
			put(t, s, authorizer(id(20), store.StateActive))   // gone and back
			put(t, s, authorizer("wx0", store.StateActive))    // behind
			put(t, s, authorizer("wx0305", store.StateActive)) // ahead
		}
	}
	var want []string
	for n := range 60 {
		if n != 10 {
			want = append(want, id(n))
		}
		if n == 30 {
			want = append(want, "wx0305")
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("walked %q\nwant %q", got, want)
	}
	for n := range 60 {
		if n != 2 && n != 6 && n != 10 {
			must(t, s.DeleteAuthorizer(t.Context(), id(n)))
		}
	}
	if got := ids(t, s, "", 100); !slices.Equal(got, []string{"wx0", "wx0305"}) {
		t.Errorf("after the deletions: %q", got)
	}
}

func counters(t *testing.T, open Open) {
	s, reopen := startAgain(t, open)
	f := func(after string, want store.Counts) {
		t.Helper()
		got, err := s.CountAuthorizers(t.Context())
		must(t, err)
		wantSame(t, after, got, want)
	}
	set := func(id string, state store.State) {
		t.Helper()
		put(t, s, authorizer(id, state))
	}
	f("none", store.Counts{})
	set("wx1", store.StateActive)
	set("wx2", store.StateActive)
	set("wx3", store.StateReauthorize)
	f("creation", store.Counts{Active: 2, Reauthorize: 1})
	set("wx1", store.StateActive)
	f("same state", store.Counts{Active: 2, Reauthorize: 1})
	set("wx1", store.StateUnauthorized)
	f("change", store.Counts{Active: 1, Reauthorize: 1, Unauthorized: 1})
	set("wx1", store.StateActive)
	set("wx3", store.StateUnauthorized)
	f("change back", store.Counts{Active: 2, Unauthorized: 1})
	must(t, s.DeleteAuthorizer(t.Context(), "wx2"))
	f("deletion", store.Counts{Active: 1, Unauthorized: 1})
	wantErr(t, "second deletion", s.DeleteAuthorizer(t.Context(), "wx2"), store.ErrNotFound)
	f("second deletion", store.Counts{Active: 1, Unauthorized: 1})
	set("wx4", "")
	f("a record of no state", store.Counts{Active: 1, Unauthorized: 1})
	set("wx4", store.StateReauthorize)
	f("a state at last", store.Counts{Active: 1, Reauthorize: 1, Unauthorized: 1})
	s = reopen()
	f("reopening", store.Counts{Active: 1, Reauthorize: 1, Unauthorized: 1})
	must(t, s.DeleteAuthorizer(t.Context(), "wx1"))
	f("deletion after reopening", store.Counts{Reauthorize: 1, Unauthorized: 1})
}
