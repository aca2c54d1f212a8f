package wechattest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// ControlPrefix is where the control API lives: JSON in and out, faults as
// {"error": text}. Its calls are neither in the journal nor hit by faults. GET
// of the prefix itself lists the endpoints.
const ControlPrefix = "/_simulate/v1/"

// maxControlBody bounds the bodies of the control API.
const maxControlBody = 4 << 20

// operation is one endpoint of the control API.
type operation struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Does   string `json:"does"`
	Body   string `json:"body,omitempty"` // an example

	query []string // names of query parameters that are known
	do    func(*http.Request, []byte) (any, error)
}

// statusError is an error with an HTTP status.
type statusError struct {
	status int
	err    error
}

func (e statusError) Error() string { return e.err.Error() }
func (e statusError) Unwrap() error { return e.err }

func (s *Server) controlHandler() http.Handler {
	operations := s.operations()
	operations = append(operations, operation{
		Method: "GET", Path: "", Does: "this list",
	})
	for i := range operations {
		operations[i].Path = ControlPrefix + operations[i].Path
	}
	operations[len(operations)-1].do = func(*http.Request, []byte) (any, error) {
		return map[string]any{"endpoints": operations}, nil
	}
	byPath := map[string][]operation{}
	for _, op := range operations {
		byPath[op.Path] = append(byPath[op.Path], op)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if path+"/" == ControlPrefix {
			path = ControlPrefix
		}
		status, v := runOperation(w, r, byPath[path])
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		enc.Encode(v)
	})
}

// runOperation picks the operation by method, checks query and body size, and
// runs it.
func runOperation(w http.ResponseWriter, r *http.Request, candidates []operation) (int, any) {
	fault := func(status int, format string, args ...any) (int, any) {
		return status, map[string]string{"error": fmt.Sprintf(format, args...)}
	}
	if len(candidates) == 0 {
		return fault(http.StatusNotFound, "no such endpoint: GET %s lists them", ControlPrefix)
	}
	i := slices.IndexFunc(candidates, func(op operation) bool { return op.Method == r.Method })
	if i < 0 {
		var allow []string
		for _, op := range candidates {
			allow = append(allow, op.Method)
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return fault(http.StatusMethodNotAllowed, "method %s is not one of %s", r.Method, strings.Join(allow, ", "))
	}
	op := candidates[i]
	for name := range r.URL.Query() {
		if !slices.Contains(op.query, name) {
			return fault(http.StatusBadRequest, "unknown query parameter %q: known are %q", name, op.query)
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
	if err != nil {
		return fault(http.StatusRequestEntityTooLarge, "body: %v", err)
	}
	v, err := op.do(r, body)
	if err != nil {
		status := http.StatusBadRequest
		var withStatus statusError
		switch {
		case errors.As(err, &withStatus):
			status = withStatus.status
		case errors.As(err, new(*Refusal)):
			status = http.StatusConflict
		case errors.Is(err, ErrNotAcknowledged):
			status = http.StatusBadGateway
		case errors.Is(err, ErrNoURL), errors.Is(err, ErrPaused):
			status = http.StatusConflict
		}
		return fault(status, "%v", err)
	}
	return http.StatusOK, v
}

// decodeStrict reads one JSON value and refuses unknown keys by name. An empty
// body changes nothing.
func decodeStrict(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("body: more than one JSON value")
	}
	return nil
}

// read makes an operation that takes no body.
func read(path, does string, query []string, do func(*http.Request) (any, error)) operation {
	return operation{Method: http.MethodGet, Path: path, Does: does, query: query,
		do: func(r *http.Request, _ []byte) (any, error) { return do(r) }}
}

// write makes an operation whose body is a T.
func write[T any](method, path, does, example string, do func(context.Context, T) (any, error)) operation {
	return operation{Method: method, Path: path, Does: does, Body: example,
		do: func(r *http.Request, body []byte) (any, error) {
			var in T
			if err := decodeStrict(body, &in); err != nil {
				return nil, err
			}
			return do(r.Context(), in)
		}}
}

// done answers operations that have nothing to tell.
var done = map[string]bool{"ok": true}
