// Package callback receives WeChat's pushes: it verifies them, opens their
// envelope, has them stored, and answers at once. What a push asks for is worked
// on elsewhere, afterwards.
package callback

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

const (
	// maxPush is how long a push may be, in bytes.
	maxPush = 1 << 20
	// maxUnderWay is how many long or verified pushes are held at a time.
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
	// ReleaseTest answers WeChat's release test (全网发布检测).
	ReleaseTest bool
}

// Receiver takes over what an authentic push says. When a method returns nil,
// that is stored durably.
type Receiver interface {
	ReceiveTicket(ctx context.Context, ticket secret.String, createdAt time.Time) (changed bool, err error)
	ReceiveEvent(ctx context.Context, push store.Push) (added bool, err error)
	// AnswerReleaseTest exchanges code and sends the answer to openID, later.
	AnswerReleaseTest(openID string, code secret.String) bool
}

// Message is an authentic push that apps are interested in.
type Message struct {
	Digest     string // names its content
	AppID      string // the account's, "" for the platform's own
	ReceivedAt time.Time
	XML        secret.String
}

// Apps take pushes.
type Apps interface {
	// Accept has m delivered to the apps that want it. When it returns nil, that is
	// stored durably.
	Accept(ctx context.Context, m Message) error
	// Reply asks the app that replies to messages for its answer, XML that is not
	// encrypted yet; false if there is none in time.
	Reply(ctx context.Context, m Message) (answer []byte, ok bool)
}

// Handler serves /wechat/events and /wechat/messages/{appid}. Make one with
// New. Safe for concurrent use.
type Handler struct {
	config   atomic.Pointer[Config]
	receiver Receiver
	apps     Apps // nil: nobody
	metrics  *metrics.Metrics
	log      *slog.Logger
	slots    chan struct{}
	refusals throttle
	mux      *http.ServeMux
}

// New returns a Handler; a nil config (no component) refuses every push. apps may
// be nil.
func New(config *Config, receiver Receiver, apps Apps, m *metrics.Metrics, log *slog.Logger) *Handler {
	h := &Handler{receiver: receiver, apps: apps, metrics: m, log: log, slots: make(chan struct{}, maxUnderWay), mux: http.NewServeMux()}
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

// order is what an authentic push asks for.
type order struct {
	infoType string // of the metric
	// keep has it stored. nil: there is nothing to store.
	keep func(ctx context.Context) (outcome, error)
}

// outcome is what became of an order.
type outcome struct {
	result string // to count, "" if that is counted later, when it has been worked on
	// answer is the body to answer with in place of success; it may be empty.
	answer *string
}

// push wraps what both URLs have in common: bounds, deadline, verification,
// answer, metric and log.
func (h *Handler) push(read func(r *http.Request, message []byte) (order, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		o, end := order{infoType: "other"}, outcome{result: "ok"}
		message, release, err := h.open(ctx, w, r)
		if err == nil {
			o, err = read(r, message)
		}
		switch {
		case err != nil || o.keep == nil:
			release()
		default:
			end, err = h.keep(ctx, o, release)
		}
		if err != nil {
			h.refuse(w, r, o.infoType, err)
			return
		}
		if end.result != "" {
			h.metrics.Push(o.infoType, end.result)
		}
		h.log.Debug("push", "info_type", o.infoType, "result", end.result)
		if end.answer != nil {
			w.Header().Set("Content-Type", "application/xml; charset=utf-8")
			io.WriteString(w, *end.answer)
			return
		}
		io.WriteString(w, "success")
	}
}

// errSlow and errPanic end a push that WeChat then pushes again.
var (
	errSlow     = errors.New("the store did not answer in time")
	errPanic    = errors.New("panic while storing")
	errStopping = errors.New("lingpai is stopping")
)

// keep has an order stored, and waits for that no longer than ctx, whether the
// store heeds it or not: WeChat does not wait either. Its client's leaving is no
// reason to stop.
func (h *Handler) keep(ctx context.Context, o order, release func()) (outcome, error) {
	type ending struct {
		outcome
		err error
	}
	kept := make(chan ending, 1)
	deadline, _ := ctx.Deadline()
	storing, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	go func() {
		end := ending{err: errPanic}
		defer func() { kept <- end }()
		defer release()
		defer cancel()
		defer func() {
			if cause := recover(); cause != nil {
				h.log.Error("panic while storing a push", "stack", string(debug.Stack()))
			}
		}()
		end.outcome, end.err = o.keep(storing)
	}()
	select {
	case end := <-kept:
		return end.outcome, end.err
	case <-ctx.Done():
		return outcome{}, errSlow
	}
}

// refusal is why a push is not accepted. Strangers get to see the status only.
type refusal struct {
	status int
	result string // of the metric
	reason string // for the log
}

func (r *refusal) Error() string { return r.reason }

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, infoType string, err error) {
	refused, ok := errors.AsType[*refusal](err)
	if !ok { // WeChat pushes it again
		h.metrics.Push(infoType, "error")
		h.log.Error("a push could not be stored", "info_type", infoType, "error", err)
		http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		return
	}
	h.metrics.Push(infoType, refused.result)
	if silent, ok := h.refusals.allow(time.Now()); ok {
		// The pattern, not the path: that is a stranger's text.
		h.log.Warn("push refused", "reason", refused.reason, "to", r.Pattern, "remote", r.RemoteAddr, "unlogged_before", silent)
	}
	http.Error(w, http.StatusText(refused.status), refused.status)
}
