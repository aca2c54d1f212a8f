package admin

import (
	"net/http"

	"lingpai/tokens"
	"lingpai/tokens/secret"
)

func (a *API) listAuthorizers(r *http.Request) (any, error) {
	_, limit, cursor, err := readPage(r, appIDShape)
	if err != nil {
		return nil, err
	}
	// One more than is shown says whether this page is the last.
	views, err := a.tokens.Authorizers(r.Context(), cursor, limit+1)
	if err != nil {
		return nil, err
	}
	answer := listBody{Authorizers: []authorizerBody{}}
	if len(views) > limit {
		views = views[:limit]
		answer.NextCursor = views[limit-1].AppID
	}
	for _, v := range views {
		answer.Authorizers = append(answer.Authorizers, showAuthorizer(v))
	}
	return answer, nil
}

func (a *API) authorizer(r *http.Request) (any, error) {
	v, err := a.tokens.Authorizer(r.Context(), r.PathValue("appid"))
	if err != nil {
		return nil, err
	}
	return showAuthorizer(v), nil
}

func (a *API) deleteAuthorizer(r *http.Request) (any, error) {
	v, err := a.tokens.DeleteAuthorizer(r.Context(), r.PathValue("appid"))
	if err != nil {
		return nil, err
	}
	a.log.Info("authorizer deleted by an operator", "app_id", v.AppID)
	return showAuthorizer(v), nil
}

func (a *API) refreshAuthorizer(r *http.Request) (any, error) {
	appID := r.PathValue("appid")
	if _, err := a.tokens.Authorizer(r.Context(), appID); err != nil {
		return nil, err
	}
	if _, err := a.tokens.Refresh(r.Context(), tokens.Key{Kind: tokens.Authorizer, AppID: appID}); err != nil {
		return nil, err
	}
	return a.authorizer(r)
}

func (a *API) putAuthorizer(r *http.Request) (any, error) {
	var body struct {
		AppID        string `json:"app_id"`
		RefreshToken string `json:"refresh_token"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	component, ok := a.tokens.ComponentKey()
	switch {
	case !appIDShape.MatchString(body.AppID):
		return nil, badRequest("app_id must be the authorizer's app id, such as wx0123456789abcdef")
	case !secretShape(body.RefreshToken):
		return nil, badRequest("refresh_token must be the authorizer_refresh_token, at most 4096 bytes, without spaces")
	case !ok:
		return nil, errNoComponent
	case body.AppID == component.AppID:
		return nil, badRequest("app_id is the platform's own: write that of an account that authorized it")
	case a.tokens.KeyOf(body.AppID).Kind == tokens.Account:
		// Calls would never use what is stored here.
		return nil, conflict("app_id is a direct account of the configuration: take it out of accounts first, then POST /v1/reload")
	}
	v, err := a.tokens.PutAuthorizer(r.Context(), body.AppID, secret.New(body.RefreshToken))
	if err != nil {
		return nil, err
	}
	a.log.Info("authorizer added by an operator", "app_id", v.AppID)
	return showAuthorizer(v), nil
}

func (a *API) syncAuthorizers(r *http.Request) (any, error) {
	learned, err := a.tokens.Sync(r.Context())
	if err != nil {
		return nil, err
	}
	return struct {
		Total               int `json:"total"`
		Added               int `json:"added"`
		Updated             int `json:"updated"`
		WithoutRefreshToken int `json:"without_refresh_token"`
	}(learned), nil
}
