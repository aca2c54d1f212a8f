package authorize

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lingpai/tokens"
)

// page names what a page says.
type page string

// The pages.
const (
	pageOffer        page = "offer"
	pageAskFirst     page = "ask_first"
	pageDone         page = "done"
	pageOther        page = "other_account"
	pageCancelled    page = "cancelled"
	pageExpired      page = "expired"
	pageForged       page = "forged"
	pageSpent        page = "spent"
	pageEnded        page = "ended"
	pageBadLink      page = "bad_link"
	pageBadReturn    page = "bad_return"
	pageEmbedded     page = "embedded"
	pageTooMany      page = "too_many"
	pageNotReady     page = "not_ready"
	pageStoreDown    page = "store_down"
	pageBusy         page = "busy"
	pageQuota        page = "quota"
	pageUnreachable  page = "unreachable"
	pageSlow         page = "slow"
	pageUnconfigured page = "unconfigured"
)

// view is what a page shows.
type view struct {
	Page  page
	Lang  language
	Nonce string
	Mood  string // plain, good, wait or bad
	Title string
	Lines []string

	BizAppID     string // the one account that may authorize
	Account      *account
	Main         *action
	Other        *action
	Form         *form
	OpenInWeChat bool
	Lasts        string // how long the button works
	Lifetime     int    // the same in seconds
	Again        string // address of a new button
}

type account struct {
	Name, AppID string
	Scopes      []string
}

type action struct{ Text, URL string }

type form struct {
	Action string
	Fields []field
	Button string
}

type field struct{ Name, Value string }

// notice is a page with its texts only.
func (v visit) notice(p page) view {
	texts := pages[p]
	out := view{Page: p, Lang: v.lang, Mood: texts.mood, Title: texts.title.in(v.lang)}
	for _, line := range texts.lines {
		out.Lines = append(out.Lines, line.in(v.lang))
	}
	return out
}

// showWith shows a page with a button to begin again, and a way back to the app
// if back is not "".
func (v visit) showWith(status int, p page, again, back string) {
	out := v.notice(p)
	out.Main, out.Other = v.button(wordBeginAgain, again), v.button(wordBack, back)
	v.show(status, out)
}

// waiting is a page that asks to try again later, with a link to the page itself:
// a code in its address is not repeated in its text.
func (v visit) waiting(p page, wait time.Duration) view {
	seconds := int((wait + time.Second - 1) / time.Second)
	v.w.Header().Set("Retry-After", strconv.Itoa(seconds))
	out := v.notice(p)
	for i := range out.Lines {
		out.Lines[i] = strings.ReplaceAll(out.Lines[i], "{wait}", v.lang.duration(seconds))
	}
	out.Main = &action{wordTryAgain.in(v.lang), ""}
	return out
}

func (v visit) button(word text, to string) *action {
	if to == "" {
		return nil
	}
	return &action{word.in(v.lang), to}
}

// account is a page about an account that was authorized.
func (v visit) account(p page, authorized tokens.Authorized) view {
	out := v.notice(p)
	out.Account = &account{Name: authorized.Name, AppID: authorized.AppID}
	for _, id := range authorized.Scopes {
		out.Account.Scopes = append(out.Account.Scopes, scopeName(id, v.lang))
	}
	return out
}

// show writes a page. Its style is let in by a nonce; nothing else is, not even
// an image.
func (v visit) show(status int, out view) {
	out.Nonce = rand.Text()
	body := out.html()
	header := v.w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Language", out.Lang.html())
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'nonce-"+out.Nonce+
		"'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	if v.r.URL.Path == Path {
		// WeChat looks at the domain of the page that the click is on. Of the
		// address no more than that is told, since it holds the app's state.
		header.Set("Referrer-Policy", "strict-origin")
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		v.w.Write(body)
	}
}
