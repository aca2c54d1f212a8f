package admin

import (
	"net/http"
	"strconv"

	"lingpai/tokens"
	"lingpai/tokens/secret"
)

// defaultPage and maxPage are how many authorizers a page holds.
const (
	defaultPage = 100
	maxPage     = 1000
)

func (a *API) listAuthorizers(r *http.Request) (any, error) {
	query := r.URL.Query()
	limit := defaultPage
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, badRequest("limit must be a number from 1 to " + strconv.Itoa(maxPage))
		}
		limit = n
	}
	cursor := query.Get("cursor")
	if cursor != "" && !appIDShape.MatchString(cursor) {
		return nil, badRequest("cursor is not one that this API gave out")
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
		return nil, &problem{status: http.StatusConflict, message: "app_id is a direct account of the configuration"}
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
