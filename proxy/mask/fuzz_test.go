package mask

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const value = "57_AbCdEf-0123456789"

// shape makes a random JSON value; tokens says that value may be in it at any
// place, else only under the name of a token.
func shape(rng *rand.Rand, depth int, tokens bool) string {
	switch n := rng.IntN(8); {
	case n == 0 && tokens:
		return `"` + value + `"`
	case n < 3 || depth == 0:
		return []string{`"x"`, "1", "null", "true", `""`, "-1.5e3"}[rng.IntN(6)]
	case n < 5:
		parts := make([]string, rng.IntN(4))
		for i := range parts {
			parts[i] = shape(rng, depth-1, tokens)
		}
		return "[" + strings.Join(parts, " , ") + "]"
	}
	return object(rng, depth, tokens)
}

var names = []string{
	"authorizer_access_token", "authorizer_refresh_token", "refresh_token", "access_token", "component_access_token",
	`authorizer\u005faccess_token`, `Refresh_Token`, `\u0072efresh_token`,
}

func object(rng *rand.Rand, depth int, tokens bool) string {
	var parts []string
	for range rng.IntN(5) {
		if rng.IntN(2) == 0 {
			parts = append(parts, fmt.Sprintf(`"%s" :%s`, names[rng.IntN(len(names))], shape(rng, depth-1, true)))
		} else {
			name := []string{"authorizer_appid", "list", "expires_in"}[rng.IntN(3)]
			parts = append(parts, fmt.Sprintf(`"%s": %s`, name, shape(rng, depth-1, tokens)))
		}
	}
	return "{" + strings.Join(parts, ",\n") + "}"
}

// No token survives, whatever the shape of the answer.
func TestNoTokenSurvivesInRandomShapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3_000 {
		document := object(rng, 5, false)
		got, err := Grants([]byte(document))
		if err != nil || !json.Valid(got) || strings.Contains(string(got), value) {
			t.Fatalf("%s\nbecame %s, %v", document, got, err)
		}
		report, _ := json.Marshal(map[string]any{"request": map[string]string{"response_body": document}})
		if got := Report(report); strings.Contains(string(got), value) || !json.Valid(got) {
			t.Fatalf("%s\nwas reported as %s", report, got)
		}
	}
}

func TestReportFindsWhatIsEscaped(t *testing.T) {
	f := func(answer string) {
		t.Helper()
		got := string(Report([]byte(answer)))
		if strings.Contains(got, value) || !strings.Contains(got, masked) {
			t.Errorf("%s became %s", answer, got)
		}
	}
	f(`{"request":{"request_url":"/a?acc%65ss_token=` + value + `&b=1"}}`)
	f(`{"request":{"request_url":"/a?access_token\u003d` + value + `"}}`)
	f(`{"request":{"request_url":"/a?u=https%3A%2F%2Fe.com%2F%3Faccess_token%3D` + value + `%26x%3D1"}}`)
	f(`{"request":{"request_url":"/a?u=%2Fb%3Faccess%255Ftoken%253D` + value + `"}}`)
	f(`{"request":{"request_body":"grant_type=x&app\u0073ecret=` + value + `"}}`)
	f(`{"request":{"request_body":"{\"a\":\"{\\\"refresh\\u005ftoken\\\":\\\"` + value + `\\\"}\"}"}}`)
	f(`{"request":{"request_body":"{\"component_verify_ticket\":\"` + value + `\""}}`) // cut short
	f(`{"request":{"access_token":"` + value + `"}}`)
	f(`access_token=` + value) // no JSON
	const harmless = `{"errcode":0,"request":{"request_url":"/cgi-bin/menu/get?a=1&b=%20","response_body":"{\"errcode\": 40001,\"errmsg\":\"x\"}"}}`
	if got := string(Report([]byte(harmless))); got != harmless {
		t.Errorf("%s became %s", harmless, got)
	}
}
