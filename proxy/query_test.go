package proxy

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestSplitQuery(t *testing.T) {
	f := func(rule, query, wantRest, wantFrom, wantToken, wantPlaceholder string) {
		t.Helper()
		s := splitQuery(nil, []byte(query))
		if string(s.rest) != wantRest || string(s.fromAppID) != wantFrom || string(s.token) != wantToken || string(s.placeholder) != wantPlaceholder {
			t.Errorf("%s: %q gives rest %q from %q token %q placeholder %q", rule, query, s.rest, s.fromAppID, s.token, s.placeholder)
		}
	}
	f("nothing to take", "a=b&c=d", "a=b&c=d", "", "", "")
	f("empty", "", "", "", "", "")
	f("token alone", "access_token=x", "", "", "x", "")
	f("token first", "access_token=x&a=b", "a=b", "", "x", "")
	f("token last", "a=b&access_token=x", "a=b", "", "x", "")
	f("token between", "a=b&access_token=x&c=d", "a=b&c=d", "", "x", "")
	f("both names", "access_token=&component_access_token=y", "", "", "y", "")
	f("repeated, the first value counts", "access_token=x&access_token=y", "", "", "x", "")
	f("behind an empty one", "access_token=&access_token=y", "", "", "y", "")
	f("without =", "access_token&a", "a", "", "", "")
	f("percent-encoded name", "%61ccess_toke%6E=x&a=b", "a=b", "", "x", "")
	f("percent-encoded value", "access_token=a%2Bb+c", "", "", "a+b c", "")
	f("= in the value", "access_token=a=b", "", "", "a=b", "")
	f("case counts", "Access_Token=x", "Access_Token=x", "", "", "")
	f("a longer name is another", "access_token2=x&xaccess_token=y", "access_token2=x&xaccess_token=y", "", "", "")
	f("bytes stay as they are", "a=%7e%7E+%20&&=&b", "a=%7e%7E+%20&&=&b", "", "", "")
	f("& at the end", "a=b&", "a=b&", "", "", "")
	f("& at the start", "&a=b", "&a=b", "", "", "")
	f("only &", "&&", "&&", "", "", "")
	f("token before an empty part", "access_token=x&&a", "&a", "", "x", "")
	f("malformed percent-encoding", "%zz=1&access_token=%zz", "%zz=1", "", "%zz", "")
	f("from_appid", "from_appid=wx1&a=b", "a=b", "wx1", "", "")
	f("from_appid, the first counts", "from_appid=wx1&from_appid=wx2", "", "wx1", "", "")
	f("from_appid, encoded", "from%5Fappid=wx%31", "", "wx1", "", "")
	f("empty from_appid does not hide the next", "from_appid=&from_appid=wx2", "", "wx2", "", "")
	f("placeholder", "access_token=lingpai-authorizer-wx1", "", "", "", "lingpai-authorizer-wx1")
	f("placeholder beside a token", "access_token=lingpai-authorizer-wx1&component_access_token=y", "", "", "y", "lingpai-authorizer-wx1")
}

func TestPlaceholderAccount(t *testing.T) {
	f := func(rule, placeholder, want string) {
		t.Helper()
		if got := placeholderAccount([]byte(placeholder)); string(got) != want {
			t.Errorf("%s: %q gives %q", rule, placeholder, got)
		}
	}
	f("authorizer", "lingpai-authorizer-wx1", "wx1")
	f("account", "lingpai-account-wx1", "wx1")
	f("platform", "lingpai-component-wx1", "")
	f("refresh token", "lingpai-refresh-wx1", "")
	f("no app id", "lingpai-authorizer-", "")
	f("none", "", "")
	f("another", "lingpai-", "")
}

func TestUserQuery(t *testing.T) {
	f := func(rule, query, want string) {
		t.Helper()
		if got := userQuery(nil, []byte(query)); string(got) != want {
			t.Errorf("%s: %q gives %q, want %q", rule, query, got, want)
		}
	}
	f("untouched", "access_token=u&openid=o&lang=zh_CN", "access_token=u&openid=o&lang=zh_CN")
	f("without token, untouched", "openid=o&&x", "openid=o&&x")
	f("empty token stays", "access_token=&openid=o", "access_token=&openid=o")
	f("from_appid goes", "from_appid=wx1&access_token=u", "access_token=u")
	f("from_appid without a value goes", "from_appid&access_token=u", "access_token=u")
	f("placeholder goes", "access_token=lingpai-authorizer-wx1&openid=o", "openid=o")
	f("a placeholder's look elsewhere stays", "access_token=u&state=lingpai-x", "access_token=u&state=lingpai-x")
}

func FuzzSplitQuery(f *testing.F) {
	for _, seed := range []string{"", "a=b", "access_token=x&a=b", "%61ccess_token=x", "a&&access_token", "component%5faccess_token=%zz&b",
		"from_appid=wx&=", "access_token%=x", "a%26access_token=x", "access%2Btoken=", "+access_token=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		s := splitQuery(nil, []byte(query))
		for part := range strings.SplitSeq(string(s.rest), "&") {
			name, _, _ := strings.Cut(part, "=")
			for _, decode := range []func(string) (string, error){url.QueryUnescape, url.PathUnescape, func(s string) (string, error) { return s, nil }} {
				if name, err := decode(name); err == nil && (name == paramAccess || name == paramComponent || name == paramFrom) {
					t.Fatalf("%q leaves %q", query, part)
				}
			}
		}
		parts := strings.Split(query, "&")
		if s.any {
			for part := range strings.SplitSeq(string(s.rest), "&") {
				at := slices.Index(parts, part)
				if at < 0 {
					t.Fatalf("%q becomes %q", query, s.rest)
				}
				parts = parts[at+1:]
			}
		} else if len(s.rest) > 0 {
			t.Fatalf("%q becomes %q, though nothing is left", query, s.rest)
		}
	})
}
