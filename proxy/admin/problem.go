package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"lingpai/tokens"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

// problem is an error as an operator gets to see it. It holds no secret.
type problem struct {
	status     int
	message    string
	retryAfter time.Duration
}

func (p *problem) Error() string { return p.message }

func badRequest(message string) *problem {
	return &problem{status: http.StatusBadRequest, message: message}
}

var (
	errNoPath      = &problem{status: http.StatusNotFound, message: "there is nothing at this path; see README.md for the operator API"}
	errUnknown     = &problem{status: http.StatusNotFound, message: "there is no such authorizer"}
	errNoComponent = &problem{status: http.StatusConflict, message: "no component is configured"}
	// errFailed is for what no one has told apart: in the operations of this API
	// only the store is left.
	errFailed = &problem{status: http.StatusServiceUnavailable, message: "the store does not work; lingpai's log says more"}
)

// explain turns an error into what an operator gets to see.
func explain(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if u, ok := errors.AsType[*tokens.Unavailable](err); ok {
		return &problem{http.StatusServiceUnavailable, u.Detail, max(u.RetryAfter, time.Second)}
	}
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		return &problem{status: http.StatusBadGateway, message: "WeChat answers errcode " + strconv.Itoa(e.Code) + ": " + e.Message}
	}
	if _, ok := errors.AsType[*wechat.TransportError](err); ok {
		return &problem{status: http.StatusBadGateway, message: "WeChat does not answer as it should; lingpai's log says more"}
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, tokens.ErrUnknown):
		return errUnknown
	case errors.Is(err, tokens.ErrReauthorize):
		return &problem{status: http.StatusConflict, message: tokens.ErrReauthorize.Error()}
	case errors.Is(err, tokens.ErrNoComponent):
		return errNoComponent
	case errors.Is(err, tokens.ErrFollower):
		return &problem{status: http.StatusConflict, message: tokens.ErrFollower.Error()}
	case errors.Is(err, tokens.ErrWait):
		return &problem{status: http.StatusGatewayTimeout, message: "WeChat's token endpoint is slow; the refresh goes on"}
	}
	return errFailed
}

func writeProblem(w http.ResponseWriter, p *problem) {
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((p.retryAfter+time.Second-1)/time.Second), 10))
	}
	writeJSON(w, p.status, struct {
		Error string `json:"error"`
	}{p.message})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.Encode(body)
}
