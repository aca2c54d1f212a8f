package admin

import (
	_ "embed"
	"net/http"
	"sync"

	"github.com/goccy/go-yaml"
)

// openAPI describes the operator API. A test holds it against the handlers.
//
//go:embed openapi.yaml
var openAPI []byte

var openAPIAsJSON = sync.OnceValues(func() ([]byte, error) { return yaml.YAMLToJSON(openAPI) })

// document is an answer that is not an object made for it.
type document struct {
	contentType string
	body        []byte
}

func (a *API) openAPIYAML(*http.Request) (any, error) {
	return document{"application/yaml", openAPI}, nil // RFC 9512
}

func (a *API) openAPIJSON(*http.Request) (any, error) {
	body, err := openAPIAsJSON()
	return document{"application/json", body}, err
}
