package admin

import (
	"time"

	"lingpai/tokens"
	"lingpai/tokens/store"
)

type tokenBody struct {
	State       tokens.TokenState `json:"state"`
	ExpiresAt   *time.Time        `json:"expires_at"`
	RefreshedAt *time.Time        `json:"refreshed_at"`
	Generation  uint64            `json:"generation"`
}

// componentBody has neither ticket nor token while the store cannot be asked.
type componentBody struct {
	AppID  string      `json:"app_id"`
	Ticket *ticketBody `json:"ticket"`
	Token  *tokenBody  `json:"token"`
}

type ticketBody struct {
	ReceivedAt *time.Time `json:"received_at"`
}

type authorizerBody struct {
	AppID           string      `json:"app_id"`
	State           store.State `json:"state"`
	Token           tokenBody   `json:"token"`
	HasRefreshToken bool        `json:"has_refresh_token"`
	AuthorizedAt    *time.Time  `json:"authorized_at"`
	Scopes          []int       `json:"scopes"`
}

type listBody struct {
	Authorizers []authorizerBody `json:"authorizers"`
	NextCursor  string           `json:"next_cursor"` // empty at the end
}

type countsBody struct {
	Active       int `json:"active"`
	Reauthorize  int `json:"reauthorize"`
	Unauthorized int `json:"unauthorized"`
}

type storeBody struct {
	Kind string `json:"kind"`
	OK   bool   `json:"ok"`
}

// statusBody has no component if none is configured, and no counts while the
// store cannot be asked: unknown is not 0.
type statusBody struct {
	Version     string         `json:"version"`
	Component   *componentBody `json:"component"`
	Authorizers *countsBody    `json:"authorizers"`
	Store       storeBody      `json:"store"`
}

// moment is a time as JSON shows it: RFC 3339 in UTC, null for none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func showToken(v tokens.TokenView) tokenBody {
	return tokenBody{v.State, moment(v.ExpiresAt), moment(v.RefreshedAt), v.Generation}
}

func showComponent(v tokens.ComponentView) componentBody {
	token := showToken(v.Token)
	return componentBody{v.AppID, &ticketBody{moment(v.TicketReceivedAt)}, &token}
}

func showAuthorizer(v tokens.AuthorizerView) authorizerBody {
	scopes := v.Scopes
	if scopes == nil {
		scopes = []int{}
	}
	return authorizerBody{v.AppID, v.State, showToken(v.Token), v.HasRefreshToken, moment(v.AuthorizedAt), scopes}
}
