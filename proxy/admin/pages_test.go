package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"lingpai/tokens/store"
)

// listed follows cursors through the list of authorizers and returns their app
// ids, page by page. between is called between two pages.
func (w *world) listed(query string, between func(page int)) (pages []string) {
	w.t.Helper()
	for cursor := ""; ; {
		page := w.call(200, "GET", "/v1/authorizers?"+query+"&cursor="+cursor, "")
		var ids []string
		for _, entry := range page["authorizers"].([]any) {
			ids = append(ids, entry.(map[string]any)["app_id"].(string))
		}
		pages = append(pages, strings.Join(ids, " "))
		if cursor = page["next_cursor"].(string); cursor == "" {
			return pages
		}
		if between != nil {
			between(len(pages) - 1)
		}
	}
}

// Of what comes and goes between two pages the rest is listed once all the same.
func TestAuthorizersChangeBetweenPages(t *testing.T) {
	w := newWorld(t)
	f := func(wantPages string, between func(page int)) {
		t.Helper()
		for _, a := range w.listed("limit=1000", nil) {
			for id := range strings.FieldsSeq(a) {
				w.call(200, "DELETE", "/v1/authorizers/"+id, "")
			}
		}
		for _, id := range strings.Fields("wx1 wx3 wx5 wx7") {
			w.put(id, store.StateActive)
		}
		if got := strings.Join(w.listed("limit=2", between), " | "); got != wantPages {
			t.Errorf("%s, want %s", got, wantPages)
		}
	}
	first := func(fn func()) func(int) {
		return func(page int) {
			if page == 0 {
				fn()
			}
		}
	}
	remove := func(id string) { w.call(200, "DELETE", "/v1/authorizers/"+id, "") }
	f("wx1 wx3 | wx5 wx7", nil)
	f("wx1 wx3 | wx5 wx7", first(func() { remove("wx3") })) // the one that the cursor names
	f("wx1 wx3 | wx5 wx7", first(func() { remove("wx1"); remove("wx3") }))
	f("wx1 wx3 | wx7", first(func() { remove("wx5") }))
	f("wx1 wx3 | ", first(func() { remove("wx5"); remove("wx7") }))
	f("wx1 wx3 | wx5 wx7", first(func() { w.put("wx2", store.StateActive) })) // came too late
	f("wx1 wx3 | wx4 wx5 | wx7", first(func() { w.put("wx4", store.StateActive) }))
	f("wx1 wx3 | wx5 wx7 | wx9", first(func() { w.put("wx9", store.StateActive) }))
}

func TestLargestPageOfAuthorizers(t *testing.T) {
	w := newWorld(t)
	for i := range 2001 {
		if _, err := w.store.Store.UpdateAuthorizer(context.Background(), fmt.Sprintf("wx%04d", i), func(a *store.Authorizer) error {
			a.State = store.StateActive
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string]int{"limit=1000": 3, "limit=999": 3, "limit=667": 3, "": 21, "limit=": 21} {
		pages := w.listed(query, nil)
		all := strings.Fields(strings.Join(pages, " "))
		if len(pages) != want || len(all) != 2001 || all[0] != "wx0000" || all[1000] != "wx1000" || all[2000] != "wx2000" {
			t.Errorf("%q: %d on %d pages", query, len(all), len(pages))
		}
	}
	if page := w.call(200, "GET", "/v1/authorizers?limit=1&cursor=wx1999", ""); page["next_cursor"] != "" {
		t.Errorf("the last page has a cursor: %v", page)
	}
	if page := w.call(200, "GET", "/v1/authorizers?limit=1&cursor=zz", ""); page["next_cursor"] != "" || len(page["authorizers"].([]any)) != 0 {
		t.Errorf("behind the end: %v", page)
	}
	for _, cursor := range []string{"wx+1", "wx%201", "%00", "wx%2F1", "wx%C3%A9", strings.Repeat("x", 65), "."} {
		w.wrong(400, "GET", "/v1/authorizers?cursor="+cursor, "", "cursor is not one")
	}
}
