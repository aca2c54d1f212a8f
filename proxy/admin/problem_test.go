package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// Each error has the status that it deserves, and a text that says what to do.
func TestExplain(t *testing.T) {
	f := func(err error, wantStatus int, says string) {
		t.Helper()
		for _, err := range []error{err, fmt.Errorf("refresh: %w", err)} {
			p := explain(err)
			if p.status != wantStatus || !strings.Contains(p.message, says) || !saysWhatToDo.MatchString(p.message) || (p.retryAfter > 0) != (wantStatus == 503) {
				t.Errorf("%v: %d %q, want %d with %q", err, p.status, p.message, wantStatus, says)
			}
		}
	}
	f(&tokens.Unavailable{Detail: "no ticket; wait", Err: errors.New("hush")}, 503, "no ticket; wait")
	f(&tokens.Unavailable{Detail: "no ticket; wait", RetryAfter: time.Minute}, 503, "no ticket; wait")
	for code, says := range map[int]string{
		-1: "try again", 45011: "wait a minute", 45009: "clear-quota", 61004: "whitelist", 40001: "app_secret", 48006: "documentation",
	} {
		f(&wechat.Error{Code: code, Message: "no"}, 502, fmt.Sprintf("errcode %d: no; ", code))
		f(&wechat.Error{Code: code, Message: "no"}, 502, says)
	}
	f(&wechat.TransportError{Endpoint: "/x", Err: errors.New("hush")}, 502, "try again")
	f(store.ErrNotFound, 404, "GET /v1/authorizers")
	f(tokens.ErrUnknown, 404, "GET /v1/authorizers")
	f(tokens.ErrReauthorize, 409, "/v1/authorization-link")
	f(tokens.ErrNoComponent, 409, "set component")
	f(tokens.ErrFollower, 409, "ask one that refreshes")
	f(tokens.ErrWait, 504, "try again")
	f(tokens.ErrDeclined, 503, "try again")
	f(context.DeadlineExceeded, 503, "log says more")
	f(errors.New("hush"), 503, "log says more")
	for _, err := range []error{&tokens.Unavailable{Detail: "x", Err: errors.New("hush")}, &wechat.TransportError{Err: errors.New("hush")}, errors.New("hush")} {
		if strings.Contains(explain(err).message, "hush") {
			t.Errorf("%v is quoted", err)
		}
	}
}
