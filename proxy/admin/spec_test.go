package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// spec is openapi.yaml, as far as it may go: a key that is not here is a mistake.
// https://spec.openapis.org/oas/v3.1.0
type spec struct {
	OpenAPI    string `json:"openapi"`
	Info       struct{ Title, Version, Description string }
	Servers    []struct{ URL, Description string }
	Security   []struct{}
	Tags       []struct{ Name, Description string }
	Paths      map[string]*specPath
	Components struct {
		Parameters map[string]*specParameter
		Responses  map[string]*specResponse
		Schemas    map[string]any
	}

	mux     *http.ServeMux
	schemas map[string]*jsonschema.Schema // by name
}

type specPath struct {
	Parameters        []*specParameter
	Get, Post, Delete *specOperation
}

// operations are those of a path, by method.
func (p *specPath) operations() map[string]*specOperation {
	all := map[string]*specOperation{}
	for method, o := range map[string]*specOperation{"GET": p.Get, "POST": p.Post, "DELETE": p.Delete} {
		if o != nil {
			all[method] = o
		}
	}
	return all
}

type specOperation struct {
	OperationID          string
	Tags                 []string
	Summary, Description string
	Parameters           []*specParameter
	RequestBody          *struct {
		Required bool
		Content  map[string]specMedia
	}
	Responses map[string]*specResponse
}

type specParameter struct {
	Ref                   string `json:"$ref"`
	Name, In, Description string
	Required              bool
	Schema                any
}

type specResponse struct {
	Ref         string `json:"$ref"`
	Description string
	Headers     map[string]struct {
		Description string
		Required    bool
		Schema      any
	}
	Content map[string]specMedia
}

type specMedia struct {
	Schema struct {
		Ref  string `json:"$ref"`
		Type string
	}
}

// describedAPI reads openapi.yaml, once.
var describedAPI = sync.OnceValue(func() *spec {
	text, err := yaml.YAMLToJSON(openAPI)
	if err != nil {
		panic(err)
	}
	s := &spec{mux: http.NewServeMux(), schemas: map[string]*jsonschema.Schema{}}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(s); err != nil {
		panic(err)
	}
	for path, item := range s.Paths {
		s.mux.HandleFunc(path, func(http.ResponseWriter, *http.Request) {})
		for _, o := range item.operations() {
			o.Parameters = append(slices.Clone(item.Parameters), o.Parameters...)
			for i, p := range o.Parameters {
				if p.Ref != "" {
					o.Parameters[i] = s.Components.Parameters[refersTo(p.Ref, "parameters")]
				}
			}
			for status, r := range o.Responses {
				if r.Ref != "" {
					o.Responses[status] = s.Components.Responses[refersTo(r.Ref, "responses")]
				}
			}
		}
	}
	s.compile(text)
	return s
})

func refersTo(ref, what string) string {
	name, ok := strings.CutPrefix(ref, "#/components/"+what+"/")
	if !ok {
		panic(ref + " is none of " + what)
	}
	return name
}

// compile makes schemas ready that allow no key that is not described.
func (s *spec) compile(text []byte) {
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	for _, schema := range whole.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any) {
		schema := schema.(map[string]any)
		if schema["additionalProperties"] == nil {
			schema["additionalProperties"] = false
		}
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("openapi.json", whole); err != nil {
		panic(err)
	}
	for name := range s.Components.Schemas {
		s.schemas[name] = compiler.MustCompile("openapi.json#/components/schemas/" + name)
	}
}

// validate holds a JSON text against the schema that a media type has.
func (s *spec) validate(media specMedia, text []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil || media.Schema.Ref == "" {
		return err
	}
	return s.schemas[refersTo(media.Schema.Ref, "schemas")].Validate(value)
}

// find returns what is described of a request: nothing, if nothing is.
func (s *spec) find(r *http.Request) (*specPath, *specOperation) {
	_, pattern := s.mux.Handler(&http.Request{Method: r.Method, Host: "localhost", URL: &url.URL{Path: r.URL.Path}})
	path := s.Paths[pattern]
	if path == nil {
		return nil, nil
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return path, path.operations()[method]
}

// saysWhatToDo is the form of an error's text: what is wrong, then what to do.
var saysWhatToDo = regexp.MustCompile(`: \S|; \S| must |takes only `)

// described holds an answer against the description.
func (w *world) described(request *http.Request, rec *httptest.ResponseRecorder) {
	w.t.Helper()
	s := describedAPI()
	path, operation := s.find(request)
	media := specMedia{}
	media.Schema.Ref = "#/components/schemas/Problem"
	expected := map[string]specMedia{"application/json": media}
	fail := func(what string) {
		w.t.Helper()
		w.t.Errorf("%s %s: %d %s: %s", request.Method, request.URL, rec.Code, what, rec.Body)
	}
	switch {
	case rec.Code == http.StatusForbidden && operation == nil:
	case path == nil && rec.Code != http.StatusNotFound, path != nil && operation == nil && rec.Code != http.StatusMethodNotAllowed:
		fail("is no answer to what is not described")
	case operation != nil:
		w.seen[operation.OperationID+" "+strconv.Itoa(rec.Code)] = true
		answer := operation.Responses[strconv.Itoa(rec.Code)]
		if answer == nil {
			fail("is not described")
			return
		}
		expected = answer.Content
		if after := rec.Header().Get("Retry-After"); (answer.Headers["Retry-After"].Schema != nil) != (after != "") {
			fail("with Retry-After " + strconv.Quote(after) + " is not as described")
		}
	}
	media, ok := expected[rec.Header().Get("Content-Type")]
	if !ok {
		fail("has another type")
		return
	}
	if rec.Header().Get("Content-Type") != "application/json" {
		return
	}
	if err := s.validate(media, rec.Body.Bytes()); err != nil {
		fail(err.Error())
	}
	var problem struct{ Error string }
	if json.Unmarshal(rec.Body.Bytes(), &problem) == nil && rec.Code >= 400 && rec.Code != 422 && !saysWhatToDo.MatchString(problem.Error) {
		fail("does not say what to do")
	}
}
