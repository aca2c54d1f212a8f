package admin

import (
	"net/http"
	"time"

	"lingpai/tokens/secret"
)

func (a *API) component(r *http.Request) (any, error) {
	v, err := a.tokens.Component(r.Context())
	if err != nil {
		return nil, err
	}
	return showComponent(v), nil
}

func (a *API) refreshComponent(r *http.Request) (any, error) {
	key, ok := a.tokens.ComponentKey()
	if !ok {
		return nil, errNoComponent
	}
	if _, err := a.tokens.Refresh(r.Context(), key); err != nil {
		return nil, err
	}
	return a.component(r)
}

func (a *API) putTicket(r *http.Request) (any, error) {
	var body struct {
		Ticket string `json:"ticket"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if !secretShape(body.Ticket) {
		return nil, badRequest("ticket must be the component_verify_ticket, at most 4096 bytes, without spaces")
	}
	// Whole seconds, as in a push: else WeChat's next one, within this second,
	// would pass for older.
	now := time.Now()
	if _, err := a.tokens.ReceiveTicket(r.Context(), secret.New(body.Ticket), now.Truncate(time.Second)); err != nil {
		return nil, err
	}
	v, err := a.tokens.Component(r.Context())
	if err != nil {
		return nil, err
	}
	if v.TicketReceivedAt.Before(now.Truncate(time.Second)) {
		return nil, conflict("the stored ticket is newer by WeChat's clock and stays; check the clock of this machine")
	}
	a.log.Info("component_verify_ticket given by an operator")
	return showComponent(v), nil
}

// startPushTicket answers with WeChat's errmsg, which says whether the push was
// off, beside the component.
func (a *API) startPushTicket(r *http.Request) (any, error) {
	message, err := a.tokens.StartPushTicket(r.Context())
	if err != nil {
		return nil, err
	}
	v, err := a.tokens.Component(r.Context())
	if err != nil {
		return nil, err
	}
	return struct {
		componentBody
		Message string `json:"errmsg"`
	}{showComponent(v), message}, nil
}

func (a *API) clearQuota(r *http.Request) (any, error) {
	if err := a.tokens.ClearQuota(r.Context()); err != nil {
		return nil, err
	}
	return a.component(r)
}
