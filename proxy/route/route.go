// Package route knows which token a path of WeChat's API takes, and under which
// query parameter. The table comes with the program; rules of the configuration
// stand above it.
package route

import (
	_ "embed"
	"strings"
	"sync"
)

// Token says which token a path takes.
type Token uint8

// The tokens a path can take.
const (
	// Authorizer: the token of the account the call is for. The zero value,
	// since it is what unknown paths take.
	Authorizer Token = iota
	// Component: the platform's own token.
	Component
	// Either: the account's if the call names an account, else the platform's.
	Either
	// User: the token of a WeChat user, which the app brings along.
	User
	// None: no token.
	None
)

var tokenNames = map[string]Token{
	"authorizer": Authorizer, "component": Component, "either": Either, "user": User, "none": None,
}

// ParseToken reads the name of a token as the configuration writes it.
func ParseToken(name string) (Token, bool) {
	t, ok := tokenNames[name]
	return t, ok
}

// String returns the name of the token as the configuration writes it.
func (t Token) String() string {
	for name, token := range tokenNames {
		if token == t {
			return name
		}
	}
	return "unknown"
}

// Param is the query parameter a token goes into.
type Param uint8

// The parameters.
const (
	AccessToken Param = iota // the zero value: most paths
	ComponentAccessToken
)

// String returns the parameter's name.
func (p Param) String() string {
	if p == ComponentAccessToken {
		return "component_access_token"
	}
	return "access_token"
}

// Rule is what a path takes. The zero value is what unknown paths take: the
// authorizer's token as access_token.
type Rule struct {
	Token Token
	Param Param
	// Work is what else is done for this very path, not for those below it; no
	// rule of the configuration changes it.
	Work Work
}

// DefaultParam returns the parameter of a token on a path for which no rule
// names one. /sns/ paths know the platform's token by one name only; elsewhere
// both are understood.
func DefaultParam(path string, token Token) Param {
	if token == Component && strings.HasPrefix(path, "/sns/") {
		return ComponentAccessToken
	}
	return AccessToken
}

// endpoints holds one line per known endpoint: method, host, path, query_param,
// token, media, source, note.
//
//go:embed endpoints.tsv
var endpoints string

// families are prefixes all of whose paths take the same token, known or not.
// https://developers.weixin.qq.com/doc/oplatform/openApi
var families = map[string]Rule{
	"/componenttcb": {Token: Component},
}

// Table finds the rule of a path. The zero value knows only the default. Safe
// for concurrent use; With makes another one.
type Table struct {
	overrides map[string]Rule
	builtin   map[string]Rule
}

// Builtin returns the table that comes with the program.
func Builtin() *Table { return builtin() }

var builtin = sync.OnceValue(func() *Table {
	rules := make(map[string]Rule, 1500)
	for prefix, rule := range families {
		rules[prefix] = rule
	}
	for _, row := range Endpoints() {
		row.Rule.Work = works[row.Path]
		rules[row.Path] = row.Rule
	}
	return &Table{builtin: rules}
})

// Endpoint is one row of the table that comes with the program.
type Endpoint struct {
	Method string
	Host   string
	Path   string
	Rule   Rule
	Media  string // of the request or answer: json, multipart, binary, - for none
}

// Endpoints returns the rows of the table that comes with the program.
func Endpoints() []Endpoint {
	lines := strings.Split(strings.TrimSuffix(endpoints, "\n"), "\n")
	rows := make([]Endpoint, 0, len(lines))
	for _, line := range lines[1:] {
		column := strings.Split(line, "\t")
		row := Endpoint{Method: column[0], Host: column[1], Path: column[2], Media: column[5]}
		row.Rule.Token = tokenNames[column[4]]
		if column[3] == ComponentAccessToken.String() {
			row.Rule.Param = ComponentAccessToken
		}
		rows = append(rows, row)
	}
	return rows
}

// With returns a table in which rules stand above the ones of t, by path. A
// trailing /* or / of a path says nothing: each rule holds for what lies below.
func (t *Table) With(rules map[string]Rule) *Table {
	overrides := make(map[string]Rule, len(rules))
	for path, rule := range rules {
		path = strings.TrimSuffix(strings.TrimSuffix(path, "*"), "/")
		overrides[path] = rule
	}
	return &Table{overrides: overrides, builtin: t.builtin}
}

// Find returns the rule of a path: the longest one that is the path or one of
// its parents, of the configuration's rules first. known is false if that is
// the default. Find compares what the path means: percent-encoding, empty and
// dot segments do not hide a path from its rule. Of a path without these it
// allocates nothing.
func (t *Table) Find(path []byte) (rule Rule, known bool) {
	if !plain(path) {
		path = clean(path)
	}
	rule, known = longest(t.builtin, path)
	if len(t.overrides) > 0 {
		if override, ok := longest(t.overrides, path); ok {
			override.Work = rule.Work
			return override, true
		}
	}
	return rule, known
}

func longest(rules map[string]Rule, path []byte) (Rule, bool) {
	for whole := true; ; whole = false {
		if rule, ok := rules[string(path)]; ok {
			if !whole {
				rule.Work = Forward
			}
			return rule, true
		}
		slash := len(path) - 1
		for slash >= 0 && path[slash] != '/' {
			slash--
		}
		if slash < 0 {
			return Rule{}, false
		}
		path = path[:slash]
	}
}

// plain reports whether a path is spelled the one way that rules are.
func plain(path []byte) bool {
	slash := false
	for _, c := range path {
		switch c {
		case '%', ';', '\\':
			return false
		case '/', '.':
			if slash {
				return false
			}
		}
		slash = c == '/'
	}
	return true
}

// clean spells a path the one way that rules are: percent-encoding undone,
// empty and dot segments resolved, parameters behind ; cut off.
func clean(path []byte) []byte {
	segments := make([]string, 0, 8)
	for _, segment := range strings.FieldsFunc(string(unescape(path)), func(r rune) bool { return r == '/' || r == '\\' }) {
		segment, _, _ = strings.Cut(segment, ";")
		switch segment {
		case "", ".":
		case "..":
			segments = segments[:max(len(segments)-1, 0)]
		default:
			segments = append(segments, segment)
		}
	}
	return []byte("/" + strings.Join(segments, "/"))
}

// unescape undoes percent-encoding, as often as it was done; what is no
// percent-encoding stays.
func unescape(path []byte) []byte {
	for range 4 {
		out := make([]byte, 0, len(path))
		for i := 0; i < len(path); i++ {
			if path[i] == '%' && i+2 < len(path) && isHex(path[i+1]) && isHex(path[i+2]) {
				out = append(out, hexValue(path[i+1])<<4|hexValue(path[i+2]))
				i += 2
				continue
			}
			out = append(out, path[i])
		}
		if len(out) == len(path) {
			return out
		}
		path = out
	}
	return path
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}
