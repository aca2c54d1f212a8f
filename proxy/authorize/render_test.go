package authorize

import (
	"html"
	"strings"
	"testing"

	"lingpai/internal/dom"
)

// hostile is a text from elsewhere that would break out of where it stands.
const hostile = `"'></title></style><script>alert(1)</script>&amp;`

// fullViews are pages that show all that there is, with the same for every text
// from elsewhere and for every URL.
func fullViews(text, url string) []view {
	base := view{
		Page: pageOther, Nonce: "n", Mood: "good", Title: text, Lines: []string{text, text},
		BizAppID: text, Account: &account{text, text, []string{text, text}},
		OpenInWeChat: true, Form: &form{url, []field{{text, text}}, text}, Lasts: text,
		Main: &action{text, url}, Other: &action{text, url},
	}
	lasting := base
	lasting.Again, lasting.Lifetime = url, 60
	return []view{base, lasting}
}

func TestOutsideTextsAreEscaped(t *testing.T) {
	harmless := fullViews("x", "/x")
	for i, v := range fullViews(hostile, "/x") {
		page, want := string(v.html()), string(harmless[i].html())
		if strings.Contains(page, "<script") || strings.Count(page, "alert(1)") < 10 {
			t.Errorf("page %d:\n%s", i, page)
		}
		// Nothing but the texts is different.
		if got := strings.ReplaceAll(page, html.EscapeString(hostile), "x"); got != want {
			t.Errorf("page %d:\n%s\nwant\n%s", i, got, want)
		}
	}
}

func TestLinksRunNoScripts(t *testing.T) {
	for _, url := range []string{"javascript:alert(1)", " JavaScript:alert(1)", "java\nscript:alert(1)", "data:text/html,alert(1)", "vbscript:alert(1)"} {
		for i, v := range fullViews("x", url) {
			page := string(v.html())
			// A form, and two links or those that take turns.
			if n := strings.Count(page, `"`+dom.RefusedURL+`"`); n != []int{3, 5}[i] || strings.Contains(page, "alert(1)") {
				t.Errorf("page %d, %q: %d refused\n%s", i, url, n, page)
			}
		}
	}
	for i, v := range fullViews("x", `/"><script>alert(1)</script>`) {
		if page := string(v.html()); strings.Contains(page, "<script") || strings.Count(page, `="/%22%3e%3cscript%3e`) != []int{3, 5}[i] {
			t.Errorf("page %d:\n%s", i, page)
		}
	}
}

// The name of an account is its owner's choice.
func TestHostileNameOfAccount(t *testing.T) {
	s := newSite(t, nil)
	s.fake.authorized.Name = hostile
	s.visit(doneURL(authCode, "")).is(200, pageDone).says("<dd>" + html.EscapeString(hostile) + "</dd>")
}
