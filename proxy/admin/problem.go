package admin

import (
	"bytes"
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

func conflict(message string) *problem {
	return &problem{status: http.StatusConflict, message: message}
}

var (
	errNoPath      = &problem{status: http.StatusNotFound, message: "there is nothing at this path; GET /v1/openapi.yaml describes the operator API"}
	errUnknown     = &problem{status: http.StatusNotFound, message: "there is no such authorizer: GET /v1/authorizers lists those that are known, POST /v1/authorizers/sync asks WeChat for more"}
	errNoComponent = conflict("no component is configured: set component in lingpai's configuration, then POST /v1/reload")
	errReauthorize = conflict(tokens.ErrReauthorize.Error() + ": send them a link from POST /v1/authorization-link")
	// errFailed is for what no one has told apart: in the operations of this API
	// only the store is left.
	errFailed = &problem{http.StatusServiceUnavailable, "the store does not work; lingpai's log says more", time.Second}
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
		return &problem{status: http.StatusBadGateway, message: "WeChat answers errcode " + strconv.Itoa(e.Code) + ": " + e.Message + "; " + advice(e)}
	}
	if _, ok := errors.AsType[*wechat.TransportError](err); ok {
		return &problem{status: http.StatusBadGateway, message: "WeChat does not answer as it should: try again; lingpai's log says more"}
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, tokens.ErrUnknown):
		return errUnknown
	case errors.Is(err, tokens.ErrReauthorize):
		return errReauthorize
	case errors.Is(err, tokens.ErrNoComponent):
		return errNoComponent
	case errors.Is(err, tokens.ErrFollower):
		return conflict(tokens.ErrFollower.Error())
	case errors.Is(err, tokens.ErrWait):
		return &problem{status: http.StatusGatewayTimeout, message: "WeChat's token endpoint is slow; the refresh goes on: try again in a moment"}
	case errors.Is(err, tokens.ErrDeclined):
		return &problem{http.StatusServiceUnavailable, "the token is being refreshed by others: try again in a moment", time.Second}
	}
	return errFailed
}

// advice says what a person can do about an errcode.
func advice(e *wechat.Error) string {
	switch e.Class() {
	case wechat.ClassBusy:
		return "try again in a moment"
	case wechat.ClassMinuteQuota:
		return "too many calls: wait a minute"
	case wechat.ClassDailyQuota:
		return "the daily quota is used up: wait for the next day, Beijing time, or POST /v1/component/clear-quota"
	case wechat.ClassOperator:
		return "check the app id, secret, IP whitelist and state of the platform in WeChat's console"
	case wechat.ClassBadToken:
		return "check app_secret and whether another program uses the same platform"
	}
	return "see what WeChat's documentation says of this errcode"
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
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.Encode(body) // cannot fail: bodies are plain structs
	writeBody(w, status, "application/json", text.Bytes())
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(body)
}
