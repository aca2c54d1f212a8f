package wechattest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// ConsolePath is the page on which a person does what the control API does
// most: it works without script, and its calls are not in the journal.
const ConsolePath = "/_simulate/"

// shownAuthorizers bounds the page.
const shownAuthorizers = 100

// consoleView is what the page shows.
type consoleView struct {
	Did, Fault, Result string // of the form that was sent
	State              State
	Knobs              Knobs
	Violations         int
	Logins             []Login
	Held               []HeldEvent
	Authorizers        []AuthorizerState
	More               int
	Orders, Codes      []string
	Pairs              [][2]LoginAccount
}

func joinInts(list []int) string {
	var out []string
	for _, n := range list {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ",")
}

// splitInts reads numbers with commas or spaces between them.
func splitInts(text string) ([]int, error) {
	out := []int{}
	for _, part := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '，' }) {
		n, err := strconv.Atoi(part)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is no permission set: numbers with commas between them are wanted", part)
		}
		out = append(out, n)
	}
	return out, nil
}

func (s *Server) consoleHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var view consoleView
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodPost:
			r.Body = http.MaxBytesReader(w, r.Body, maxControlBody)
			view.Did = r.PostFormValue("do")
			result, err := s.consoleDo(r)
			if err != nil {
				view.Fault = err.Error()
			} else if result != nil {
				view.Result = indented(result)
			}
		default:
			w.Header().Set("Allow", "GET, HEAD, POST")
			page(http.StatusMethodNotAllowed).write(w)
			return
		}
		s.consoleFill(&view)
		html("console", view.html()).write(w)
	})
}

func indented(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	enc.Encode(v)
	return b.String()
}

func (s *Server) consoleFill(view *consoleView) {
	view.State, view.Knobs, view.Held = s.State(), s.Knobs(), s.HeldEvents()
	view.Violations, view.Pairs = len(s.Violations()), releasePairs
	for _, l := range s.Logins() {
		if l.Status == LoginPending {
			view.Logins = append(view.Logins, l)
		}
	}
	slices.Reverse(view.Logins) // the newest first
	view.Logins = view.Logins[:min(len(view.Logins), shownAuthorizers)]
	view.Authorizers = view.State.Authorizers
	if len(view.Authorizers) > shownAuthorizers {
		view.More = len(view.Authorizers) - shownAuthorizers
		view.Authorizers = view.Authorizers[:shownAuthorizers]
	}
	view.Orders, view.Codes = pushOrders, []string{CodeSame, CodeDifferent}
}

// consoleDo does what a form asks for and returns what the control API would
// answer.
func (s *Server) consoleDo(r *http.Request) (any, error) {
	field, ctx := r.PostFormValue, r.Context()
	switch field("do") {
	case "ticket":
		return nil, s.PushTicket(ctx)
	case "confirm":
		return s.ConfirmLogin(ctx, field("login"), field("app_id"))
	case "cancel":
		return nil, s.CancelLogin(field("login"))
	case "release":
		id, _ := strconv.Atoi(field("id"))
		return s.ReleaseEvent(ctx, id)
	case "update":
		return s.consoleUpdate(ctx, field("app_id"), field("scopes"))
	case "unauthorize":
		return s.Unauthorize(ctx, field("app_id"))
	case "order":
		return nil, s.SetKnobs(func(k *Knobs) { k.PushOrder, k.RedirectCode = field("push_order"), field("redirect_code") })
	case "message":
		appID := field("app_id")
		return s.PushMessage(ctx, appID, s.TextMessage(appID, "", field("text")))
	case "release-test":
		pair, _ := strconv.Atoi(field("pair"))
		return s.RunReleaseTest(ctx, ReleaseTest{Pair: pair})
	}
	return nil, errors.New("no such form")
}

func (s *Server) consoleUpdate(ctx context.Context, appID, text string) (any, error) {
	scopes, err := splitInts(text)
	if err != nil {
		return nil, err
	}
	return s.UpdateAuthorize(ctx, appID, WithScopes(scopes...))
}
