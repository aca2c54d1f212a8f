package mask

import (
	"net/url"
	"regexp"
	"strings"

	"lingpai/proxy/jsonedit"
)

// masked stands in the place of a credential in a report of a call.
const masked = "***"

// credentials are the ends of the names of what a report must not tell.
var credentials = []string{"token", "secret", "session_key", "code", "ticket"}

// harmless are names with such an end that tell nothing.
var harmless = []string{"errcode", "status_code", "code_type"}

func isCredential(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	for _, other := range harmless {
		if name == other {
			return false
		}
	}
	for _, end := range credentials {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

var (
	// inQuery finds credentials in what is no plain query, such as a URL inside of
	// a parameter or a JSON string inside of a JSON string. _, = and & may be
	// escaped.
	inQuery = regexp.MustCompile(`(?i)((?:access` + underscore + `token|refresh` + underscore + `token|secret|(?:auth|authorization|js)` + underscore +
		`code|[?&]code|ticket)(?:=|%(?:25)*3d|\\+u003d))[^&"\\#\s]+`)
	// inJSON finds them in JSON, itself inside of a JSON string any number of
	// times.
	inJSON = regexp.MustCompile(`(?i)((?:access_token|refresh_token|secret|session_key|authorization_code|auth_code|ticket)\\*"\s*:\s*\\*")[^"\\]+`)
)

const underscore = `(?:_|%(?:25)*5f|\\+u005f)`

// Report masks every token, secret, ticket and code in the answer of
// /cgi-bin/openapi/rid/get, which tells an earlier call's URL, body and answer.
// https://developers.weixin.qq.com/doc/oplatform/openApi/openapi/api_getridinfo.md
func Report(answer []byte) []byte {
	if masked, err := reportObject(answer, maxNested); err == nil {
		answer = masked
	}
	return patterns(answer)
}

// maxNested is how many times JSON inside of a JSON string is looked into.
const maxNested = 4

// patterns masks what can be found in any text.
func patterns(text []byte) []byte {
	text = inQuery.ReplaceAll(text, []byte("${1}"+masked))
	return inJSON.ReplaceAll(text, []byte("${1}"+masked))
}

// reportObject masks the members of a JSON object, at any depth.
func reportObject(document []byte, nested int) ([]byte, error) {
	var edits []jsonedit.Edit
	err := jsonedit.Members(document, func(m jsonedit.Member) {
		with := m.Text
		switch {
		case m.IsString && m.Text == "":
		case isCredential(m.Name) && !isLiteral(document[m.Start:m.End]):
			with = masked
		case m.IsString:
			with = reportText(m.Text, nested)
		}
		if with != m.Text {
			edits = append(edits, jsonedit.Edit{Start: m.Start, End: m.End, With: jsonedit.Quote(with)})
		}
	})
	if err != nil || len(edits) == 0 {
		return document, err
	}
	return jsonedit.Apply(document, edits), nil
}

// isLiteral reports whether a value is a number, true, false or null: no
// credential is.
func isLiteral(value []byte) bool { return value[0] != '"' && value[0] != '{' && value[0] != '[' }

// reportText masks a string of a report: a URL, a query, a form, or JSON.
func reportText(text string, nested int) string {
	if nested > 0 {
		if edited, err := reportObject([]byte(text), nested-1); err == nil {
			return string(edited)
		}
	}
	return string(patterns([]byte(reportQuery(text))))
}

// reportQuery masks the parameters of a query, however their names are
// percent-encoded.
func reportQuery(text string) string {
	head, query, hasQuery := strings.Cut(text, "?")
	if !hasQuery {
		head, query = "", text
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, value, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		if value != "" && isCredential(name) {
			parts[i] = part[:len(part)-len(value)] + masked
		}
	}
	query = strings.Join(parts, "&")
	if hasQuery {
		return head + "?" + query
	}
	return query
}
