// Package admin serves what operators see: the JSON API of listen.admin, which
// openapi.yaml describes, and the probes and metrics of listen.metrics.
//
// No answer carries a token, a ticket or another secret, with one exception that
// is asked for: the link of POST /v1/authorization-link holds the pre_auth_code
// of one visitor, which is of no use without the consent of an account's
// administrator. What users wrote is in the answer of GET /v1/deliveries/{seq}
// and nowhere else; each reading of it is logged.
package admin

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"lingpai/proxy/link"
	"lingpai/tokens"
)

const (
	// maxBody bounds a request's body, in bytes.
	maxBody = 64 << 10
	// workWithin bounds an operation.
	workWithin = 60 * time.Second
)

// Info is what the API says of the program, and knows of its listener.
type Info struct {
	Version   string
	StoreKind string
	// Names are further names by which operators reach the listener; see guard.
	Names []string
	// Link is where authorization links lead, until Reconfigure says otherwise.
	Link link.Config
	// Deliveries are the pushes to apps; nil if none are forwarded.
	Deliveries Deliveries
}

// API serves the operator API. Make one with New. Safe for concurrent use.
type API struct {
	info   Info
	link   atomic.Pointer[link.Config]
	tokens *tokens.Service
	reload func() error
	log    *slog.Logger
	guard  guard
	store  storeCheck
	mux    *http.ServeMux
}

// operation does what a request asks for and returns the object, or the document,
// to answer with.
type operation func(r *http.Request) (any, error)

// New returns the operator API. reload takes the configuration file over anew;
// its error may be shown to the operator.
func New(info Info, service *tokens.Service, reload func() error, log *slog.Logger) *API {
	a := &API{info: info, tokens: service, reload: reload, log: log, guard: newGuard(info.Names), mux: http.NewServeMux()}
	a.Reconfigure(info.Link)
	for path, operations := range a.operations() {
		a.mux.HandleFunc(path, a.serve(operations))
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, errNoPath) })
	return a
}

// Reconfigure takes over where authorization links lead from now on.
func (a *API) Reconfigure(links link.Config) { a.link.Store(&links) }

// operations are all there are, by path and method. GET is HEAD too.
func (a *API) operations() map[string]map[string]operation {
	return map[string]map[string]operation{
		"/v1/status":                      {http.MethodGet: a.status},
		"/v1/authorizers":                 {http.MethodGet: a.listAuthorizers, http.MethodPost: a.putAuthorizer},
		"/v1/authorizers/sync":            {http.MethodPost: a.syncAuthorizers},
		"/v1/authorizers/{appid}":         {http.MethodGet: a.authorizer, http.MethodDelete: a.deleteAuthorizer},
		"/v1/authorizers/{appid}/refresh": {http.MethodPost: a.refreshAuthorizer},
		"/v1/authorization-link":          {http.MethodPost: a.authorizationLink},
		"/v1/component/refresh":           {http.MethodPost: a.refreshComponent},
		"/v1/component/ticket":            {http.MethodPost: a.putTicket},
		"/v1/component/start-push-ticket": {http.MethodPost: a.startPushTicket},
		"/v1/component/clear-quota":       {http.MethodPost: a.clearQuota},
		"/v1/deliveries":                  {http.MethodGet: a.countDeliveries},
		"/v1/deliveries/dead":             {http.MethodGet: a.listDead},
		"/v1/deliveries/resend":           {http.MethodPost: a.resendTarget},
		"/v1/deliveries/{seq}":            {http.MethodGet: a.showDead, http.MethodDelete: a.deleteDead},
		"/v1/deliveries/{seq}/resend":     {http.MethodPost: a.resendDead},
		"/v1/reload":                      {http.MethodPost: a.reloadConfig},
		"/v1/openapi.yaml":                {http.MethodGet: a.openAPIYAML},
		"/v1/openapi.json":                {http.MethodGet: a.openAPIJSON},
	}
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := a.guard.check(r); p != nil {
		a.log.Warn("operator request refused", "reason", p.message, "remote", r.RemoteAddr)
		writeProblem(w, p)
		return
	}
	a.mux.ServeHTTP(w, r)
}

// serve answers the requests to one path.
func (a *API) serve(operations map[string]operation) http.HandlerFunc {
	allow := allowed(operations)
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handle := operations[method]
		if handle == nil {
			w.Header().Set("Allow", allow)
			writeProblem(w, &problem{status: http.StatusMethodNotAllowed, message: "this path takes only " + allow})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), workWithin)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer, err := handle(r)
		if err != nil {
			p := explain(err)
			if p.status >= http.StatusInternalServerError {
				a.log.Error("operator request", "method", r.Method, "path", r.URL.Path, "error", err)
			}
			writeProblem(w, p)
			return
		}
		if d, ok := answer.(document); ok {
			writeBody(w, http.StatusOK, d.contentType, d.body)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// allowed is the Allow field of a path.
func allowed(operations map[string]operation) string {
	var methods []string
	for method := range operations {
		methods = append(methods, method)
		if method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}
