package proxy

import "testing"

// The example of the appendix of
// https://developers.weixin.qq.com/doc/offiaccount/OA_Web_Apps/JS-SDK.html
func TestSignPageIsWeChatsExample(t *testing.T) {
	got := signPage("sM4AOVdWfPE4DxkXGEs8VMCPGGVi4C3VM0P37wVUCFvkVAy_90u5h9nbSlYy3-Sl-HhTdfl2fzFy1AOcHKP7qg",
		"Wm3WZYTPz0wzccnW", "1414587457", "http://mp.weixin.qq.com?params=value")
	if want := "0f9de62fce790f9a083d5c99e95740ceb90c27ed"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestQueryHelpers(t *testing.T) {
	f := func(query, name, wantValue, wantWithout string) {
		t.Helper()
		if got := paramValue([]byte(query), name); got != wantValue {
			t.Errorf("%s: %s=%q, want %q", query, name, got, wantValue)
		}
		if got := string(withoutParam([]byte(query), name)); got != wantWithout {
			t.Errorf("%s without %s: %q, want %q", query, name, got, wantWithout)
		}
	}
	f("", "secret", "", "")
	f("a=1&secret=x&b=%20", "secret", "x", "a=1&b=%20")
	f("secret=&s%65cret=y&a=1", "secret", "y", "a=1")
	f("url=https%3A%2F%2Fe.com%2F%3Fa%3D1&x=1", "url", "https://e.com/?a=1", "x=1")
}

func TestJoinedTokensNameTheAccount(t *testing.T) {
	f := func(query, wantJoined, wantToken, wantRest string) {
		t.Helper()
		s := splitQuery(nil, []byte(query))
		if string(s.joined) != wantJoined || string(s.token) != wantToken || string(s.rest) != wantRest {
			t.Errorf("%s: joined %q, token %q, rest %q", query, s.joined, s.token, s.rest)
		}
	}
	f("access_token=CLOUD@wx1&a=1", "wx1", "", "a=1")
	f("a=1&cloudbase_access_token=CLOUD", "", "", "a=1")
	f("a=1&cloudbase_access_token=CLOUD%40wx1", "wx1", "", "a=1")
	f("access_token=57_abc&a=1", "", "57_abc", "a=1")
	f("access_token=a@b&a=1", "", "a@b", "a=1")
}
