package proxy

import (
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/tokens"
)

// fault is an answer that lingpai gives by itself. The faults of one kind are
// shared: they are never changed.
type fault struct {
	status int
	// proxyError is the error of the Proxy-Status field, of RFC 9209's registry.
	proxyError string
	message    string // says what to do; holds no secret
	retryAfter time.Duration
	close      bool   // the connection cannot be used any more
	allow      string // the methods that a path of lingpai's own takes
}

// Error implements error.
func (f *fault) Error() string { return f.message }

func badRequest(message string) *fault {
	return &fault{status: fasthttp.StatusBadRequest, proxyError: "http_request_error", message: message}
}

// The faults that do not depend on the call.
var (
	faultHost = &fault{status: fasthttp.StatusForbidden, proxyError: "http_request_denied",
		message: "this host is not served: call lingpai's own address, or a host listed in upstream.hosts (listen.names holds further names of lingpai itself)"}
	faultFraming = &fault{status: fasthttp.StatusBadRequest, proxyError: "http_request_error", close: true,
		message: "the body's length is ambiguous: send either one Content-Length or Transfer-Encoding: chunked"}
	faultLine = &fault{status: fasthttp.StatusBadRequest, proxyError: "http_request_error", close: true,
		message: "a header line is malformed"}
	faultNoAccount  = badRequest("no account is named: set the header X-Wechat-Appid, the query parameter from_appid, or default_app_id in lingpai's configuration")
	faultForeign    = badRequest("the token in the query is not lingpai's: leave access_token out, lingpai adds it; or name the account it is for")
	faultNoPlatform = badRequest("this path takes the platform's token, but no component is configured; a rule in routes or the header X-Wechat-Token can say otherwise")
	faultTokenField = badRequest("X-Wechat-Token must be component, authorizer or none")
	faultTwoApps    = badRequest("X-Wechat-Appid is given twice with different values")
	faultBody       = &fault{status: fasthttp.StatusRequestEntityTooLarge, proxyError: "http_request_error", close: true,
		message: "the body is larger than limits.max_body"}
	faultBodyCut = &fault{status: fasthttp.StatusBadRequest, proxyError: "http_request_error", close: true,
		message: "the body ended before its announced end, or came too slowly"}
	faultSpill = &fault{status: fasthttp.StatusServiceUnavailable, proxyError: "proxy_internal_error", close: true, retryAfter: time.Second,
		message: "a body without Content-Length could not be stored on disk to measure it; free space in the temporary directory, or send Content-Length"}
	faultBusy = &fault{status: fasthttp.StatusTooManyRequests, proxyError: "connection_limit_reached", retryAfter: time.Second,
		message: "more calls than limits.max_in_flight are under way"}
	faultOwnPath = &fault{status: fasthttp.StatusNotFound, proxyError: "destination_not_found",
		message: "there is nothing at this path of lingpai's own"}
	faultFollower = &fault{status: fasthttp.StatusForbidden, proxyError: "http_request_denied",
		message: "this sidecar is a follower (store.role): it holds no secret and keeps nothing; send this call through one that refreshes"}
	faultPanic = &fault{status: fasthttp.StatusInternalServerError, proxyError: "proxy_internal_error", close: true,
		message: "this is a fault of lingpai; its log says more"}
)

// tokenFault is the answer to a call that got no token.
func tokenFault(err error) *fault {
	if u, ok := errors.AsType[*tokens.Unavailable](err); ok {
		return &fault{status: fasthttp.StatusServiceUnavailable, proxyError: "destination_unavailable", message: u.Detail,
			retryAfter: max(u.RetryAfter, time.Second)}
	}
	switch {
	case errors.Is(err, tokens.ErrUnknown):
		return &fault{status: fasthttp.StatusNotFound, proxyError: "destination_not_found",
			message: "the app id is neither an authorizer of this platform nor a direct account in accounts; has its administrator authorized the platform?"}
	case errors.Is(err, tokens.ErrReauthorize):
		return &fault{status: fasthttp.StatusConflict, proxyError: "http_request_denied",
			message: "the authorizer must authorize the platform again: its authorization has ended, or its refresh token is dead"}
	case errors.Is(err, tokens.ErrWait):
		return &fault{status: fasthttp.StatusGatewayTimeout, proxyError: "http_response_timeout", retryAfter: time.Second,
			message: "no token came within tokens.wait_timeout; WeChat's token endpoint is slow"}
	case errors.Is(err, tokens.ErrNoComponent):
		return faultNoPlatform
	case errors.Is(err, tokens.ErrFollower):
		return faultFollower
	}
	return &fault{status: fasthttp.StatusServiceUnavailable, proxyError: "proxy_internal_error", retryAfter: time.Second,
		message: "no token can be had now; lingpai's log says more"}
}

// write makes the answer of a fault the call's answer. It is the one place
// where an error becomes a reply.
func (f *fault) write(ctx *fasthttp.RequestCtx) {
	response := &ctx.Response
	response.Reset() // which makes fasthttp add a Date
	response.Header.DisableNormalizing()
	response.SetStatusCode(f.status)
	response.Header.SetContentType("application/json")
	response.Header.Set("Proxy-Status", "lingpai; error="+f.proxyError)
	if f.retryAfter > 0 {
		seconds := int64((f.retryAfter + time.Second - 1) / time.Second)
		response.Header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if f.allow != "" {
		response.Header.Set("Allow", f.allow)
	}
	if f.close {
		response.SetConnectionClose()
	}
	body := append([]byte(`{"errcode":`), strconv.Itoa(990000+f.status)...)
	body = append(body, `,"errmsg":`...)
	body = appendJSONString(body, "lingpai: "+f.message)
	response.SetBodyRaw(append(body, '}'))
}

// appendJSONString appends s as a JSON string. Fault texts are ASCII but for
// what a person wrote into the configuration.
func appendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, ' ')
		default:
			dst = append(dst, string(r)...)
		}
	}
	return append(dst, '"')
}
