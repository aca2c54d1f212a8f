package jsonedit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestMembers(t *testing.T) {
	f := func(document string, want ...string) {
		t.Helper()
		var got []string
		err := Members([]byte(document), func(m Member) {
			if !m.IsString {
				return
			}
			got = append(got, fmt.Sprintf("%d/%d %s=%s [%s]", m.Object, m.Depth, m.Name, m.Text, document[m.Start:m.End]))
		})
		if err != nil {
			t.Errorf("%s: %v", document, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%q, want\n%q", document, got, want)
		}
	}
	f(`{}`)
	f(` { "a" : "b" } `, `1/1 a=b ["b"]`)
	f(`{"a":1,"b":null,"c":true,"d":"x"}`, `1/1 d=x ["x"]`)
	f(`{"a":{"b":"c"},"d":"e"}`, `2/2 b=c ["c"]`, `1/1 d=e ["e"]`)
	f(`{"l":[{"t":"1"},"s",["u",{"t":"2"}]],"z":"y"}`, `2/2 t=1 ["1"]`, `3/2 t=2 ["2"]`, `1/1 z=y ["y"]`)
	f(`{"\u0061":"\u4f60\"\\"}`, `1/1 a=你"\ ["\u4f60\"\\"]`)
	f("{\"a\"\n:\t\"b\",\n\"a\" :\"c\"}", `1/1 a=b ["b"]`, `1/1 a=c ["c"]`)
}

func TestMembersOfNoObject(t *testing.T) {
	for _, document := range []string{"", " ", "x", `"s"`, "[]", `[{"a":"b"}]`, "1", `{"a":"b"`, `{"a":}`, `{"a":"b"}{}`, `{"a":"b"} x`, `{"a" "b"}`} {
		if err := Members([]byte(document), func(Member) {}); !errors.Is(err, ErrNoObject) {
			t.Errorf("%s: %v", document, err)
		}
	}
}

func TestPut(t *testing.T) {
	f := func(document, want string, fields ...Field) {
		t.Helper()
		got, err := Put([]byte(document), fields...)
		if err != nil {
			t.Errorf("%s: %v", document, err)
		}
		if string(got) != want {
			t.Errorf("%s: got %s, want %s", document, got, want)
		}
	}
	id, secret := Field{Name: "component_appid", Value: "wx1"}, Field{Name: "appsecret", Value: "s", Replace: true}
	f(`{"appsecret":1}`, `{"appsecret":"s"}`, secret)
	f(`{"appsecret":{"appsecret":"x"}, "a":[1,2.50e3]}`, `{"appsecret":"s", "a":[1,2.50e3]}`, secret)
	f(`{"appsecret":"x","a":1,"app\u0073ecret":["y"]}`, `{"appsecret":"s","a":1,"app\u0073ecret":"s"}`, secret)
	f(`{"component_appid": null}`, `{"component_appid": "wx1"}`, id)
	f(`{"component_appid":5}`, `{"component_appid":5}`, id)
	f(`{"x":{"component_appid":"wx2"}}`, `{"component_appid":"wx1","x":{"component_appid":"wx2"}}`, id)
	f("", `{"component_appid":"wx1"}`, id)
	f("  ", `{"component_appid":"wx1"}`, id)
	f("{}", `{"component_appid":"wx1"}`, id)
	f("{ }", `{"component_appid":"wx1" }`, id)
	f(`{"a": 1 }`, `{"component_appid":"wx1","a": 1 }`, id)
	f(`{"component_appid":"wx2"}`, `{"component_appid":"wx2"}`, id)
	f(`{"component_appid" : ""}`, `{"component_appid" : "wx1"}`, id)
	f(`{"a":{"component_appid":"x"}}`, `{"component_appid":"wx1","a":{"component_appid":"x"}}`, id)
	f(`{"appsecret":"dummy","z":2}`, `{"appsecret":"s","z":2}`, secret)
	f(`{"z":2}`, `{"component_appid":"wx1","appsecret":"s","z":2}`, id, secret)
	f(`{"component_appid":123}`, `{"component_appid":123}`, id)
}

func TestPutLeavesWhatIsNoObject(t *testing.T) {
	for _, document := range []string{"[]", "a=b", `{"appsecret`} {
		got, err := Put([]byte(document), Field{Name: "appsecret", Value: "s", Replace: true})
		if !errors.Is(err, ErrNoObject) || string(got) != document {
			t.Errorf("%s: %s, %v", document, got, err)
		}
	}
}

func FuzzPut(f *testing.F) {
	for _, document := range []string{"", "{}", `{"a":"b"}`, `{"k":""}`, `{"k":{"k":"v"}}`, `{"l":[{"k":"v"}]}`, `{"k":"v","k":"w"}`} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		got, err := Put(document, Field{Name: "k", Value: "new", Replace: true})
		if err != nil {
			return
		}
		var members map[string]json.RawMessage
		if json.Unmarshal(got, &members) != nil || string(members["k"]) != `"new"` {
			t.Fatalf("%q became %q", document, got)
		}
	})
}
