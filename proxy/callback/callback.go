// Package callback receives WeChat's pushes: it verifies them, opens their
// envelope, has them stored, and answers at once. What a push asks for is worked
// on elsewhere, afterwards.
package callback

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// maxPush is how long a push may be, in bytes.
	maxPush = 1 << 20
	// maxUnderWay is how many pushes are held in memory at a time.
	maxUnderWay = 64
	// answerWithin bounds the work before the answer: WeChat waits for 5 s.
	answerWithin = 4 * time.Second
)

// Config is how pushes are verified. It can be replaced while pushes come in.
type Config struct {
	AppID string        // the platform's
	Token secret.String // 消息校验Token
	// Keys open the envelope: the current EncodingAESKey, then the previous one
	// while it is being changed.
	Keys []msgcrypt.Key
}

// Receiver takes over what an authentic push says. When a method returns nil,
// that is stored durably.
type Receiver interface {
	ReceiveTicket(ctx context.Context, ticket secret.String, createdAt time.Time) (changed bool, err error)
	ReceiveEvent(ctx context.Context, push store.Push) (added bool, err error)
}

// Handler serves /wechat/events and /wechat/messages/{appid}. Make one with
// New. Safe for concurrent use.
type Handler struct {
	config   atomic.Pointer[Config]
	receiver Receiver
	metrics  *metrics.Metrics
	log      *slog.Logger
	slots    chan struct{}
	mux      *http.ServeMux
}

// New returns a Handler; a nil config (no component) refuses every push.
func New(config *Config, receiver Receiver, m *metrics.Metrics, log *slog.Logger) *Handler {
	h := &Handler{receiver: receiver, metrics: m, log: log, slots: make(chan struct{}, maxUnderWay), mux: http.NewServeMux()}
	h.config.Store(config)
	h.mux.HandleFunc("POST /wechat/events", h.push(h.event))
	h.mux.HandleFunc("POST /wechat/messages/{appid}", h.push(h.message))
	return h
}

// Reconfigure takes over another configuration.
func (h *Handler) Reconfigure(config *Config) { h.config.Store(config) }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h.mux.ServeHTTP(w, r)
}

// refusal is why a push is not accepted. Strangers get to see the status only.
type refusal struct {
	status int
	result string // of the metric
	reason string // for the log
}

func (r *refusal) Error() string { return r.reason }

// push wraps what both URLs have in common: bound, deadline, verification,
// answer, metric and log.
func (h *Handler) push(work func(ctx context.Context, message []byte) (infoType, result string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		select {
		case h.slots <- struct{}{}:
			defer func() { <-h.slots }()
		case <-ctx.Done():
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		message, err := h.open(w, r)
		infoType, result := "other", ""
		if err == nil {
			infoType, result, err = work(ctx, message)
		}
		if err != nil {
			h.refuse(w, r, infoType, err)
			return
		}
		if result != "" {
			h.metrics.Push(infoType, result)
		}
		h.log.Debug("push", "info_type", infoType, "result", result)
		io.WriteString(w, "success")
	}
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, infoType string, err error) {
	refused, ok := errors.AsType[*refusal](err)
	if !ok { // WeChat pushes it again
		h.metrics.Push(infoType, "error")
		h.log.Error("a push could not be stored", "info_type", infoType, "error", err)
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	h.metrics.Push(infoType, refused.result)
	h.log.Warn("push refused", "reason", refused.reason, "path", r.URL.Path, "remote", r.RemoteAddr)
	http.Error(w, http.StatusText(refused.status), refused.status)
}

// open verifies a push and returns its decrypted message.
func (h *Handler) open(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	config := h.config.Load()
	if config == nil {
		return nil, &refusal{http.StatusForbidden, "refused", "no component is configured"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
	if err != nil {
		if _, long := errors.AsType[*http.MaxBytesError](err); long {
			return nil, &refusal{http.StatusRequestEntityTooLarge, "malformed", "longer than 1 MiB"}
		}
		return nil, &refusal{http.StatusBadRequest, "malformed", "body ended early"}
	}
	query := r.URL.Query()
	// The envelope is no more than a stranger's word until the signature holds:
	// whatever is wrong with it is answered alike.
	envelope, err := wechat.ParseEnvelope(body)
	if err != nil {
		return nil, &refusal{http.StatusForbidden, "refused", "no encrypted envelope"}
	}
	if !msgcrypt.Verify(config.Token.Reveal(), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt, query.Get("msg_signature")) {
		return nil, &refusal{http.StatusForbidden, "refused", "msg_signature does not match; check component.token"}
	}
	for _, key := range config.Keys {
		message, appID, err := key.Decrypt(envelope.Encrypt)
		if err != nil {
			continue
		}
		// With a wrong key the tail can only be ours by chance.
		if appID == config.AppID {
			return message, nil
		}
	}
	return nil, &refusal{http.StatusForbidden, "refused", "the envelope does not open, or is for another platform; check component.encoding_aes_key and app_id"}
}

// event works on a push to the authorization-event URL.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
func (h *Handler) event(ctx context.Context, message []byte) (infoType, result string, err error) {
	event, err := wechat.ParseEvent(message)
	if err != nil {
		return "other", "", &refusal{http.StatusBadRequest, "malformed", "authentic, but no <xml> document"}
	}
	switch event.InfoType {
	case wechat.InfoTypeTicket:
		if event.Ticket.Empty() {
			return event.InfoType, "", &refusal{http.StatusBadRequest, "malformed", "no ComponentVerifyTicket"}
		}
		changed, err := h.receiver.ReceiveTicket(ctx, event.Ticket, event.CreateTime)
		return event.InfoType, okOrRepeat(changed), err
	case wechat.InfoTypeAuthorized, wechat.InfoTypeUpdateAuthorized, wechat.InfoTypeUnauthorized, wechat.InfoTypeFastRegister:
		if event.AuthorizerID == "" {
			return event.InfoType, "", &refusal{http.StatusBadRequest, "malformed", "no AuthorizerAppid"}
		}
		added, err := h.receiver.ReceiveEvent(ctx, store.Push{
			Digest:     digest(message),
			ReceivedAt: time.Now(),
			Message:    secret.New(string(message)),
		})
		if err != nil || added {
			return event.InfoType, "", err // counted when it has been worked on
		}
		return event.InfoType, "repeat", nil
	}
	return "other", "ok", nil
}

// message works on a push to the message-and-event URL of an account.
func (h *Handler) message(_ context.Context, message []byte) (infoType, result string, err error) {
	if _, err := wechat.ParseEvent(message); err != nil {
		return "message", "", &refusal{http.StatusBadRequest, "malformed", "authentic, but no <xml> document"}
	}
	return "message", "ok", nil
}

func okOrRepeat(changed bool) string {
	if changed {
		return "ok"
	}
	return "repeat"
}

// digest names a push by its content: WeChat encrypts a repeat anew.
func digest(message []byte) string {
	sum := sha256.Sum256(message)
	return hex.EncodeToString(sum[:])
}
