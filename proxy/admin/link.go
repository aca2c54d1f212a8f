package admin

import (
	"errors"
	"io"
	"net/http"

	"lingpai/proxy/link"
)

// authorizationLink makes a link by which a merchant authorizes the platform, as
// /_lingpai/v1/authorization-link does for apps.
func (a *API) authorizationLink(r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, errTooLong
	}
	if err != nil {
		return nil, badRequest("the body ended before its announced end: send it whole")
	}
	config := *a.link.Load()
	request, err := config.Read(body)
	if invalid, ok := errors.AsType[link.Invalid](err); ok {
		return nil, badRequest(invalid.Error())
	}
	key, ok := a.tokens.ComponentKey()
	if !ok {
		return nil, errNoComponent
	}
	code, expiresIn, err := a.tokens.PreAuthCode(r.Context())
	if err != nil {
		return nil, err
	}
	return config.Answer(key.AppID, code, expiresIn, request), nil
}
