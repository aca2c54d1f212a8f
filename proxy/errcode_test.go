package proxy

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

func TestErrcodeOf(t *testing.T) {
	f := func(rule, body string, want int) {
		t.Helper()
		if got := errcodeOf([]byte(body)); got != want {
			t.Errorf("%s: %q gives %d, want %d", rule, body, got, want)
		}
	}
	f("number", `{"errcode":40001,"errmsg":"x"}`, 40001)
	f("string", `{"errcode":"40001","errmsg":"x"}`, 40001)
	f("white space", " \r\n\t{ \"errcode\" :\n 40001 }", 40001)
	f("not the first member", `{"errmsg":"x","errcode":42001}`, 42001)
	f("behind an object and an array", `{"a":{"b":[1,{}]},"c":[[]],"errcode":42001}`, 42001)
	f("zero", `{"errcode":0}`, 0)
	f("negative", `{"errcode":-1}`, -1)
	f("negative string", `{"errcode":"-1"}`, -1)
	f("none", `{"access_token":"x"}`, 0)
	f("nested", `{"a":{"errcode":40001}}`, 0)
	f("nested in an array", `{"a":[{"errcode":40001}]}`, 0)
	f("in a string value", `{"a":"{\"errcode\":40001}"}`, 0)
	f("behind a string with quotes", `{"a":"\"\\","errcode":40001}`, 40001)
	f("as a value", `{"a":"errcode","b":40001}`, 0)
	f("as a value, then as a name", `{"a":"errcode","errcode":40001}`, 40001)
	f("array at the top", `[{"errcode":40001}]`, 0)
	f("no JSON", `errcode 40001 "errcode":40001`, 0)
	f("behind the object", `{}{"errcode":40001}`, 0)
	f("truncated before the value", `{"errcode":`, 0)
	f("truncated in the number", `{"errcode":4000`, 0)
	f("truncated in the string", `{"errcode":"40001`, 0)
	f("string with more than a number", `{"errcode":"40001x"}`, 0)
	f("no number", `{"errcode":null}`, 0)
	f("fraction", `{"errcode":40001.5}`, 0)
	f("exponent", `{"errcode":4e4}`, 0)
	f("far too large", `{"errcode":99999999999999999999999}`, 0)
	f("empty", ``, 0)
	f("4 KiB", `{"errcode":40001`+strings.Repeat(" ", 4096-17)+`}`, 40001)
	f("more than 4 KiB", `{"errcode":40001`+strings.Repeat(" ", 4096-16)+`}`, 0)
}

func TestLooksLikeJSON(t *testing.T) {
	f := func(body string, wantYes, wantMore bool) {
		t.Helper()
		if yes, more := looksLikeJSON([]byte(body)); yes != wantYes || more != wantMore {
			t.Errorf("%q: %t, %t", body, yes, more)
		}
	}
	f("", false, true)
	f(" \r\n\t", false, true)
	f(" {", true, false)
	f("\xff\xd8", false, false)
	f("[", false, false)
}

func FuzzErrcodeOf(f *testing.F) {
	for _, seed := range []string{`{"errcode":40001}`, `{"errcode":"40001"}`, `{"a":{"errcode":1},"errcode":-1}`, `{"a":"\"errcode\":5"}`,
		`{"errcode":1e3}`, ` {"errcode" : 7 } `, `{"errcode":null}`, `{"errcode":1`, `{"a":[{"errcode":1}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := errcodeOf(body)
		var object map[string]json.RawMessage
		if json.Unmarshal(body, &object) != nil || len(body) > maxErrcodeBody || bytes.Count(body, []byte("errcode")) > 1 || bytes.Contains(body, []byte(`\u`)) {
			return // truncated, ambiguous or escaped: anything but a crash is right
		}
		want := 0
		if raw, ok := object["errcode"]; ok {
			text := string(raw)
			var s string
			if json.Unmarshal(raw, &s) == nil {
				text = s
			}
			if n, err := strconv.Atoi(text); err == nil && n < 1<<40 && n > -1<<40 && !strings.HasPrefix(text, "+") {
				want = n
			} else if err == nil {
				return
			}
		}
		if got != want {
			t.Fatalf("%q gives %d, want %d", body, got, want)
		}
	})
}
