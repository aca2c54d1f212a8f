// Package admin serves what operators see: the JSON API of listen.admin, and
// the probes and metrics of listen.metrics. No answer carries a token or secret.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"lingpai/metrics"
	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat"
)

const (
	// maxBody bounds a request's body, in bytes.
	maxBody = 64 << 10
	// workWithin bounds an operation.
	workWithin = 60 * time.Second
	// defaultPage and maxPage are how many authorizers a page holds.
	defaultPage = 100
	maxPage     = 1000
)

// Info is what the answers say of the program.
type Info struct {
	Version   string
	StoreKind string
}

// API serves the operator API. Make one with New. Safe for concurrent use.
type API struct {
	info   Info
	tokens *tokens.Service
	reload func() error
	log    *slog.Logger
	mux    *http.ServeMux
}

// New returns the operator API. reload takes the configuration file over anew;
// its error may be shown to the operator.
func New(info Info, service *tokens.Service, reload func() error, log *slog.Logger) *API {
	a := &API{info: info, tokens: service, reload: reload, log: log, mux: http.NewServeMux()}
	for pattern, handle := range map[string]operation{
		"GET /v1/status":                       a.status,
		"GET /v1/authorizers":                  a.listAuthorizers,
		"POST /v1/authorizers":                 a.putAuthorizer,
		"GET /v1/authorizers/{appid}":          a.authorizer,
		"DELETE /v1/authorizers/{appid}":       a.deleteAuthorizer,
		"POST /v1/authorizers/{appid}/refresh": a.refreshAuthorizer,
		"POST /v1/component/refresh":           a.refreshComponent,
		"POST /v1/component/ticket":            a.putTicket,
		"POST /v1/component/start-push-ticket": a.startPushTicket,
		"POST /v1/component/clear-quota":       a.clearQuota,
		"POST /v1/reload":                      a.reloadConfig,
	} {
		a.mux.HandleFunc(pattern, a.serve(handle))
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, errorBody{"there is nothing at this path; see README.md for the operator API"})
	})
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// operation does what a request asks for and returns the object to answer with.
type operation func(r *http.Request) (any, error)

// problem is an error that an operator gets to see as it is.
type problem struct {
	status  int
	message string
}

func (p *problem) Error() string { return p.message }

type errorBody struct {
	Error string `json:"error"`
}

func (a *API) serve(handle operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), workWithin)
		defer cancel()
		// A page of another origin must not be able to operate this by a form.
		if r.Method != http.MethodGet && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
			writeJSON(w, http.StatusForbidden, errorBody{"requests from other sites are refused"})
			return
		}
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer, err := handle(r)
		if err != nil {
			status, message := explain(err)
			if status >= http.StatusInternalServerError {
				a.log.Error("operator request", "method", r.Method, "path", r.URL.Path, "error", err)
			}
			writeJSON(w, status, errorBody{message})
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// explain turns an error into what an operator gets to see.
func explain(err error) (status int, message string) {
	if p, ok := errors.AsType[*problem](err); ok {
		return p.status, p.message
	}
	if u, ok := errors.AsType[*tokens.Unavailable](err); ok {
		return http.StatusServiceUnavailable, u.Detail
	}
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		return http.StatusBadGateway, "WeChat answers errcode " + strconv.Itoa(e.Code) + ": " + e.Message
	}
	if _, ok := errors.AsType[*wechat.TransportError](err); ok {
		return http.StatusBadGateway, "WeChat does not answer as it should; lingpai's log says more"
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, tokens.ErrUnknown):
		return http.StatusNotFound, "there is no such authorizer"
	case errors.Is(err, tokens.ErrReauthorize):
		return http.StatusConflict, tokens.ErrReauthorize.Error()
	case errors.Is(err, tokens.ErrNoComponent):
		return http.StatusConflict, "no component is configured"
	case errors.Is(err, tokens.ErrWait):
		return http.StatusGatewayTimeout, "WeChat's token endpoint is slow; the refresh goes on"
	}
	return http.StatusInternalServerError, "this failed; lingpai's log says more"
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.Encode(body)
}

// readJSON decodes a request's body strictly.
func readJSON(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return &problem{http.StatusBadRequest, "the body is not the JSON object this operation takes: " + jsonFault(err)}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &problem{http.StatusBadRequest, "there is more than one JSON object in the body"}
	}
	return nil
}

// jsonFault says what is wrong with a body without quoting it, since it may
// hold a refresh token.
func jsonFault(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return "the value of " + e.Field + " has another type"
	}
	if errors.Is(err, io.EOF) {
		return "it is empty"
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return "it is too long"
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it is no JSON"
	}
	return "it has a key that this operation does not know"
}

type tokenBody struct {
	State       tokens.TokenState `json:"state"`
	ExpiresAt   *time.Time        `json:"expires_at"`
	RefreshedAt *time.Time        `json:"refreshed_at"`
	Generation  uint64            `json:"generation"`
}

type componentBody struct {
	AppID  string     `json:"app_id"`
	Ticket ticketBody `json:"ticket"`
	Token  tokenBody  `json:"token"`
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

type countsBody struct {
	Active       int `json:"active"`
	Reauthorize  int `json:"reauthorize"`
	Unauthorized int `json:"unauthorized"`
}

type storeBody struct {
	Kind string `json:"kind"`
	OK   bool   `json:"ok"`
}

type statusBody struct {
	Version     string         `json:"version"`
	Component   *componentBody `json:"component"`
	Authorizers countsBody     `json:"authorizers"`
	Store       storeBody      `json:"store"`
}

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

func showComponent(v tokens.ComponentView) *componentBody {
	return &componentBody{v.AppID, ticketBody{moment(v.TicketReceivedAt)}, showToken(v.Token)}
}

func showAuthorizer(v tokens.AuthorizerView) authorizerBody {
	scopes := v.Scopes
	if scopes == nil {
		scopes = []int{}
	}
	return authorizerBody{v.AppID, v.State, showToken(v.Token), v.HasRefreshToken, moment(v.AuthorizedAt), scopes}
}

func (a *API) status(r *http.Request) (any, error) {
	s := statusBody{Version: a.info.Version, Store: storeBody{a.info.StoreKind, a.tokens.Ping(r.Context()) == nil}}
	component, err := a.tokens.Component(r.Context())
	switch {
	case err == nil:
		s.Component = showComponent(component)
	case !errors.Is(err, tokens.ErrNoComponent):
		s.Store.OK = false
	}
	counts, err := a.tokens.Counts(r.Context())
	if err != nil {
		s.Store.OK = false
	}
	s.Authorizers = countsBody(counts)
	return s, nil
}

func (a *API) listAuthorizers(r *http.Request) (any, error) {
	limit := defaultPage
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, &problem{http.StatusBadRequest, "limit must be a number from 1 to " + strconv.Itoa(maxPage)}
		}
		limit = n
	}
	cursor := r.FormValue("cursor")
	if cursor != "" && !appIDShape.MatchString(cursor) {
		return nil, &problem{http.StatusBadRequest, "cursor is not one that this API gave out"}
	}
	views, err := a.tokens.Authorizers(r.Context(), cursor, limit)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Authorizers []authorizerBody `json:"authorizers"`
		NextCursor  string           `json:"next_cursor"`
	}{Authorizers: make([]authorizerBody, len(views))}
	for i, v := range views {
		answer.Authorizers[i] = showAuthorizer(v)
	}
	if len(views) == limit {
		answer.NextCursor = views[limit-1].AppID
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

var appIDShape = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

func (a *API) putAuthorizer(r *http.Request) (any, error) {
	var body struct {
		AppID        string `json:"app_id"`
		RefreshToken string `json:"refresh_token"`
	}
	if err := readJSON(r, &body); err != nil {
		return nil, err
	}
	if !appIDShape.MatchString(body.AppID) {
		return nil, &problem{http.StatusBadRequest, "app_id must be the authorizer's app id, such as wx0123456789abcdef"}
	}
	if body.RefreshToken == "" || len(body.RefreshToken) > 4096 {
		return nil, &problem{http.StatusBadRequest, "refresh_token must be the authorizer_refresh_token, at most 4096 bytes"}
	}
	v, err := a.tokens.PutAuthorizer(r.Context(), body.AppID, secret.New(body.RefreshToken))
	if err != nil {
		return nil, err
	}
	a.log.Info("authorizer added by an operator", "app_id", v.AppID)
	return showAuthorizer(v), nil
}

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
		return nil, tokens.ErrNoComponent
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
	if body.Ticket == "" || len(body.Ticket) > 4096 {
		return nil, &problem{http.StatusBadRequest, "ticket must be the component_verify_ticket, at most 4096 bytes"}
	}
	if _, err := a.tokens.ReceiveTicket(r.Context(), secret.New(body.Ticket), time.Now()); err != nil {
		return nil, err
	}
	a.log.Info("component_verify_ticket given by an operator")
	return a.component(r)
}

func (a *API) startPushTicket(r *http.Request) (any, error) {
	message, err := a.tokens.StartPushTicket(r.Context())
	if err != nil {
		return nil, err
	}
	return struct {
		Message string `json:"errmsg"`
	}{message}, nil
}

func (a *API) clearQuota(r *http.Request) (any, error) {
	if err := a.tokens.ClearQuota(r.Context()); err != nil {
		return nil, err
	}
	return a.component(r)
}

func (a *API) reloadConfig(r *http.Request) (any, error) {
	if err := a.reload(); err != nil {
		return nil, &problem{http.StatusUnprocessableEntity, err.Error()}
	}
	return a.status(r)
}

// Health is what the probes ask.
type Health interface {
	// Ready returns nil if listeners are up and the store has been opened, and
	// the program is not stopping.
	Ready() error
}

// Probes serves /livez, /readyz, /tokenz and /metrics.
func Probes(service *tokens.Service, health Health, m *metrics.Metrics) http.Handler {
	p := &probes{service, health, m}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /livez", p.livez)
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.HandleFunc("GET /tokenz", p.tokenz)
	return mux
}
