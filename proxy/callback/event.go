package callback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

var (
	errNoXML     = &refusal{http.StatusBadRequest, "malformed", "authentic, but no <xml> document"}
	errNoTicket  = &refusal{http.StatusBadRequest, "malformed", "no ComponentVerifyTicket"}
	errNoAccount = &refusal{http.StatusBadRequest, "malformed", "no AuthorizerAppid"}
)

// event reads a push to the authorization-event URL.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
func (h *Handler) event(_ *http.Request, message []byte) (order, error) {
	event, err := wechat.ParseEvent(message)
	if err != nil {
		return order{infoType: "other"}, errNoXML
	}
	switch event.InfoType {
	case wechat.InfoTypeTicket:
		return h.ticket(event)
	case wechat.InfoTypeFastRegister:
		if event.Code.Empty() { // the registration failed: there is nothing to exchange
			return order{infoType: event.InfoType, keep: h.pass(event, message)}, nil
		}
		return h.authorization(event, message)
	case wechat.InfoTypeAuthorized, wechat.InfoTypeUpdateAuthorized, wechat.InfoTypeUnauthorized:
		return h.authorization(event, message)
	}
	return order{infoType: "other", keep: h.pass(event, message)}, nil
}

// pass has an event that lingpai does not work on passed on to apps.
func (h *Handler) pass(event wechat.Event, message []byte) func(context.Context) (outcome, error) {
	if h.apps == nil {
		return nil
	}
	m := newMessage(event.AuthorizerID, message)
	return func(ctx context.Context) (outcome, error) {
		return outcome{result: "ok"}, h.apps.Accept(ctx, m)
	}
}

func newMessage(appID string, message []byte) Message {
	return Message{Digest: digest(message), AppID: appID, ReceivedAt: time.Now(), XML: secret.New(string(message))}
}

func (h *Handler) ticket(event wechat.Event) (order, error) {
	o := order{infoType: event.InfoType}
	if event.Ticket.Empty() {
		return o, errNoTicket
	}
	o.keep = func(ctx context.Context) (outcome, error) {
		changed, err := h.receiver.ReceiveTicket(ctx, event.Ticket, event.CreateTime)
		if err != nil || changed {
			return outcome{result: "ok"}, err
		}
		return outcome{result: "repeat"}, nil
	}
	return o, nil
}

// authorization is a push that is stored and worked on later.
func (h *Handler) authorization(event wechat.Event, message []byte) (order, error) {
	o := order{infoType: event.InfoType}
	if event.AuthorizerID == "" {
		return o, errNoAccount
	}
	push := store.Push{Digest: digest(message), ReceivedAt: time.Now(), Message: secret.New(string(message))}
	o.keep = func(ctx context.Context) (outcome, error) {
		added, err := h.receiver.ReceiveEvent(ctx, push)
		if err != nil || added {
			return outcome{}, err // counted when it has been worked on
		}
		return outcome{result: "repeat"}, nil
	}
	return o, nil
}

// digest names a push by its content: WeChat encrypts a repeat anew.
func digest(message []byte) string {
	sum := sha256.Sum256(message)
	return hex.EncodeToString(sum[:])
}
