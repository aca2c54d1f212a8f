package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

const (
	// tokenLifetime is what WeChat gives access tokens.
	tokenLifetime = 2 * time.Hour
	// minRemaining is how long an access token must live to be worth taking.
	minRemaining = time.Minute
	// ticketLifetime is how long WeChat accepts a ticket.
	ticketLifetime = 12 * time.Hour
	// unknownTicketAge is the age of a ticket of which the source does not say
	// when it came: it can be used for an hour, and WeChat pushes one every 10
	// minutes.
	unknownTicketAge = 11 * time.Hour
)

// appIDForm is also what may be printed: whatever stands in the place of an app
// id may be a secret.
var appIDForm = regexp.MustCompile(`^wx[0-9a-zA-Z]{4,40}$`)

// Faults of values. None repeats the value.
const (
	faultBinary   = "is binary"
	faultNoString = "is no string in Redis"
)

// decoder reads a value as an SDK writes it. The errors do not repeat it.
type decoder func(string) (string, error)

var errForm = errors.New("has another form than this SDK writes")

// plain is a value that is written as it is, or as JSON text, which some cache
// classes and codecs make of it.
func plain(value string) (string, error) {
	if strings.HasPrefix(value, `"`) {
		return jsonText(value)
	}
	return value, nil
}

// jsonText is a value written as JSON text.
func jsonText(value string) (string, error) {
	var text string
	if json.Unmarshal([]byte(value), &text) != nil {
		return "", errForm
	}
	return text, nil
}

// tokenNames are the names that a token has inside an object.
var tokenNames = []string{"authorizer_access_token", "component_access_token", "access_token"}

// jsonToken is a value written as JSON text, or as an object with a token.
func jsonToken(value string) (string, error) {
	if !strings.HasPrefix(strings.TrimSpace(value), "{") {
		return jsonText(value)
	}
	var object map[string]any
	if json.Unmarshal([]byte(value), &object) != nil {
		return "", errForm
	}
	for _, name := range tokenNames {
		if text, ok := object[name].(string); ok {
			return text, nil
		}
	}
	return "", errForm
}

// printable reports whether a value is ASCII without spaces and controls, as
// all of WeChat's tokens are.
func printable(value string) bool {
	for i := range len(value) {
		if value[i] <= ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}

// text decodes a value and checks that it can be a token at all.
func text(raw string, decode decoder) (value secret.String, fault string) {
	decoded, err := decode(raw)
	switch {
	case err != nil && !printable(raw):
		return secret.String{}, faultBinary
	case err != nil:
		return secret.String{}, err.Error()
	case decoded == "":
		return secret.String{}, ""
	case !printable(decoded):
		return secret.String{}, faultBinary
	}
	return secret.New(decoded), ""
}

// The shortest tokens that WeChat is known to give: what is shorter was cut off
// by a column or a copy.
const (
	minRefreshToken         = 43
	refreshTokenPrefix      = "refreshtoken@@@"
	minPrefixedRefreshToken = len(refreshTokenPrefix) + minRefreshToken
	// A column of 100 characters is known to have cut off access tokens.
	minAccessToken = 101
)

func refreshTokenFault(s secret.String) string {
	value := s.Reveal()
	switch {
	case value == "":
		return ""
	case !printable(value):
		return faultBinary
	case strings.HasPrefix(value, refreshTokenPrefix) && len(value) < minPrefixedRefreshToken, len(value) < minRefreshToken:
		return fmt.Sprintf("looks cut off (%d characters)", len(value))
	}
	return ""
}

func accessTokenFault(s secret.String) string {
	value := s.Reveal()
	switch {
	case value == "":
		return ""
	case !printable(value):
		return faultBinary
	case len(value) < minAccessToken:
		return fmt.Sprintf("looks cut off (%d characters)", len(value))
	}
	return ""
}

func ticketFault(s secret.String) string {
	if !printable(s.Reveal()) {
		return faultBinary
	}
	return ""
}

// lifetimeFault says why a token that ends at expires is not taken at now.
func lifetimeFault(expires, now time.Time) string {
	left := expires.Sub(now)
	switch {
	case expires.IsZero():
		return "has no expiry"
	case left <= 0:
		return "is expired"
	case left < minRemaining:
		return "expires within a minute"
	case left > tokenLifetime+time.Minute:
		return "would live longer than WeChat's tokens do"
	}
	return ""
}

// moment reads a time of a file: RFC 3339, or seconds since 1970.
func moment(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	var seconds int64
	if n, err := fmt.Sscanf(text, "%d", &seconds); n == 1 && err == nil && fmt.Sprint(seconds) == text {
		switch {
		case seconds <= 0:
		case seconds > 100_000_000_000:
			return time.Time{}, errors.New("is too large for seconds since 1970: are these milliseconds?")
		default:
			return time.Unix(seconds, 0), nil
		}
	}
	return time.Time{}, errors.New("is no time: write 2026-03-01T12:00:00+08:00 or seconds since 1970")
}
