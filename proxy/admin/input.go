package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// appIDShape is what an app id may look like. WeChat's are wx and 16
// hexadecimal digits today.
var appIDShape = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

// maxSecret is how long a ticket or refresh token may be, in bytes.
const maxSecret = 4096

// secretShape reports whether a text can be a ticket or token: spaces and line
// ends come from copying.
func secretShape(text string) bool {
	return text != "" && len(text) <= maxSecret && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

var errTooLong = &problem{status: http.StatusRequestEntityTooLarge, message: "the body is too long: this API takes at most 64 KiB"}

// readJSON decodes a request's body strictly.
func readJSON(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			return badRequest("there is more than one JSON object in the body: send one")
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errTooLong
	}
	return badRequest("the body is not the JSON object this operation takes: " + jsonFault(err))
}

// jsonFault says what is wrong with a body without quoting it, since it may
// hold a refresh token.
func jsonFault(err error) string {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if e.Field == "" {
			return "it is no object"
		}
		return "the value of " + e.Field + " has another type"
	}
	if errors.Is(err, io.EOF) {
		return "it is empty"
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it is no JSON"
	}
	return "it has a key that this operation does not know"
}

// defaultPage and maxPage are how many entries a page of a list holds.
const (
	defaultPage = 100
	maxPage     = 1000
)

// errCursor does not begin the list anew: whoever follows cursors would go round
// for ever.
var errCursor = badRequest("cursor is not one that this API gave out: send next_cursor of the page before, or no cursor to begin anew")

// readPage reads which page of a list is wanted. cursor is "" or has the given
// shape.
func readPage(r *http.Request, shape *regexp.Regexp) (query url.Values, limit int, cursor string, err error) {
	// What URL.Query leaves out as malformed could be the cursor.
	query, err = url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, 0, "", badRequest("the query is malformed: percent-encode the values in it")
	}
	limit = defaultPage
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return nil, 0, "", badRequest("limit must be a number from 1 to " + strconv.Itoa(maxPage))
		}
	}
	cursor = query.Get("cursor")
	if cursor != "" && !shape.MatchString(cursor) {
		return nil, 0, "", errCursor
	}
	return query, limit, cursor, nil
}
