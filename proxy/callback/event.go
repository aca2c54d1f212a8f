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
func (h *Handler) event(message []byte) (order, error) {
	event, err := wechat.ParseEvent(message)
	if err != nil {
		return order{infoType: "other"}, errNoXML
	}
	switch event.InfoType {
	case wechat.InfoTypeTicket:
		return h.ticket(event)
	case wechat.InfoTypeFastRegister:
		if event.Code.Empty() { // the registration failed: there is nothing to exchange
			return order{infoType: event.InfoType}, nil
		}
		return h.authorization(event, message)
	case wechat.InfoTypeAuthorized, wechat.InfoTypeUpdateAuthorized, wechat.InfoTypeUnauthorized:
		return h.authorization(event, message)
	}
	return order{infoType: "other"}, nil
}

func (h *Handler) ticket(event wechat.Event) (order, error) {
	o := order{infoType: event.InfoType}
	if event.Ticket.Empty() {
		return o, errNoTicket
	}
	o.keep = func(ctx context.Context) (string, error) {
		changed, err := h.receiver.ReceiveTicket(ctx, event.Ticket, event.CreateTime)
		if err != nil || changed {
			return "ok", err
		}
		return "repeat", nil
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
	o.keep = func(ctx context.Context) (string, error) {
		added, err := h.receiver.ReceiveEvent(ctx, push)
		if err != nil || added {
			return "", err // counted when it has been worked on
		}
		return "repeat", nil
	}
	return o, nil
}

// message reads a push to the message-and-event URL of an account.
func (h *Handler) message(message []byte) (order, error) {
	o := order{infoType: "message"}
	if _, err := wechat.ParseEvent(message); err != nil {
		return o, errNoXML
	}
	return o, nil
}

// digest names a push by its content: WeChat encrypts a repeat anew.
func digest(message []byte) string {
	sum := sha256.Sum256(message)
	return hex.EncodeToString(sum[:])
}
