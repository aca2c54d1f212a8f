package admin

import (
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDescriptionIsWhole: it is what OpenAPI wants, and names what it has once.
func TestDescriptionIsWhole(t *testing.T) {
	s := describedAPI()
	if s.OpenAPI != "3.1.0" || s.Info.Title == "" || s.Info.Version == "" || len(s.Servers) != 1 {
		t.Errorf("%s %v %v", s.OpenAPI, s.Info, s.Servers)
	}
	used := string(openAPI)
	for kind, names := range map[string][]string{"parameters": keysOf(s.Components.Parameters), "responses": keysOf(s.Components.Responses), "schemas": keysOf(s.Components.Schemas)} {
		for _, name := range names {
			if !strings.Contains(used, `"#/components/`+kind+"/"+name+`"`) {
				t.Errorf("%s %s is not used", kind, name)
			}
		}
	}
	var tags []string
	for _, tag := range s.Tags {
		tags = append(tags, tag.Name)
	}
	ids := map[string]bool{}
	for path, item := range s.Paths {
		for method, o := range item.operations() {
			what := method + " " + path
			if o.OperationID == "" || ids[o.OperationID] || o.Summary == "" || len(o.Tags) != 1 || !slices.Contains(tags, o.Tags[0]) {
				t.Errorf("%s: id %q, summary %q, tags %v", what, o.OperationID, o.Summary, o.Tags)
			}
			ids[o.OperationID] = true
			var inPath []string
			for _, p := range o.Parameters {
				if p == nil || p.Name == "" || p.Description == "" || p.Schema == nil || p.Required != (p.In == "path") || p.In != "path" && p.In != "query" {
					t.Errorf("%s: parameter %+v", what, p)
				} else if p.In == "path" {
					inPath = append(inPath, "{"+p.Name+"}")
				}
			}
			if got := regexp.MustCompile(`{\w+}`).FindAllString(path, -1); !slices.Equal(got, inPath) {
				t.Errorf("%s: parameters %v, want %v", what, inPath, got)
			}
			for status, r := range o.Responses {
				if r == nil || r.Description == "" || len(r.Content) != 1 {
					t.Errorf("%s: %s as %+v", what, status, r)
				}
			}
			if o.Responses["200"] == nil || o.Responses["403"] == nil {
				t.Errorf("%s has no 200 or no 403", what)
			}
		}
	}
	requests := []string{"Ticket", "NewAuthorizer", "LinkRequest", "ResendRequest"}
	for name, schema := range s.Components.Schemas {
		schema := schema.(map[string]any)
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		// Answers have all their keys, always, and may get more; requests may not.
		if request := slices.Contains(requests, name); request != (schema["additionalProperties"] == false) || !request && len(required) != len(properties) {
			t.Errorf("%s: %d properties, %d required, additional %v", name, len(properties), len(required), schema["additionalProperties"])
		}
		for _, key := range required {
			if properties[key.(string)] == nil {
				t.Errorf("%s requires %v, which is not described", name, key)
			}
		}
	}
}

func keysOf[V any](m map[string]V) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	return names
}

// TestRoutesAreDescribed: each route that is registered, and no other.
func TestRoutesAreDescribed(t *testing.T) {
	w := newWorld(t)
	registered, described := []string{}, []string{}
	for path, operations := range w.api.operations() {
		for method := range operations {
			registered = append(registered, method+" "+path)
		}
	}
	for path, item := range describedAPI().Paths {
		for method := range item.operations() {
			described = append(described, method+" "+path)
			// The mux has it, and not under another pattern.
			_, pattern := w.api.mux.Handler(httptest.NewRequest(method, concrete(path), nil))
			if pattern != path {
				t.Errorf("%s %s is registered as %q", method, path, pattern)
			}
		}
	}
	slices.Sort(registered)
	slices.Sort(described)
	if !slices.Equal(registered, described) {
		t.Errorf("registered:\n%s\ndescribed:\n%s", strings.Join(registered, "\n"), strings.Join(described, "\n"))
	}
}

// concrete is a path with values in the place of its parameters.
func concrete(path string) string {
	return strings.NewReplacer("{appid}", authorizer, "{seq}", "7").Replace(path)
}
