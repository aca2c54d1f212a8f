package route

import (
	"strings"
	"testing"
)

// TestTableHoldsEveryEndpoint reads the rows by itself, not through Endpoints.
func TestTableHoldsEveryEndpoint(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(endpoints), "\n")
	if lines[0] != "method\thost\tpath\tquery_param\ttoken\tmedia\tsource\tnote" {
		t.Fatalf("header %q", lines[0])
	}
	if len(lines) < 1345 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines[1:] {
		f := strings.Split(line, "\t")
		rule, known := Builtin().Find([]byte(f[2]))
		if !known || rule.Token.String() != f[4] {
			t.Errorf("%s: %v, %v; want %s", f[2], rule.Token, known, f[4])
		}
		if f[3] != "none" && rule.Param.String() != f[3] {
			t.Errorf("%s: %v, want %s", f[2], rule.Param, f[3])
		}
	}
}

func TestFind(t *testing.T) {
	table := Builtin().With(map[string]Rule{
		"/wxa/mine":           {Token: Component},
		"/wxa/mine/theirs":    {Token: Authorizer},
		"/cgi-bin/user/*":     {Token: None},
		"/cgi-bin/component/": {Token: User},
	})
	f := func(path string, token Token, param Param, known bool) {
		t.Helper()
		rule, ok := table.Find([]byte(path))
		if rule.Token != token || rule.Param != param || ok != known {
			t.Errorf("%s: %v %v %v; want %v %v %v", path, rule.Token, rule.Param, ok, token, param, known)
		}
	}
	// What the program brings along.
	f("/cgi-bin/menu/create", Authorizer, AccessToken, true)
	f("/sns/userinfo", User, AccessToken, true)
	f("/sns/component/jscode2session", Component, ComponentAccessToken, true)
	f("/cgi-bin/openapi/rid/get", Either, AccessToken, true)
	f("/cgi-bin/token", None, AccessToken, true)
	// Unknown paths.
	f("/wxa/something/new", Authorizer, AccessToken, false)
	f("/", Authorizer, AccessToken, false)
	f("", Authorizer, AccessToken, false)
	f("/cgi-bin/tokenize", Authorizer, AccessToken, false)
	// Below a known one, and a family.
	f("/sns/userinfo/v2", User, AccessToken, true)
	f("/componenttcb/somethingnew", Component, AccessToken, true)
	// The configuration's rules stand above, the longest of them first.
	f("/wxa/mine", Component, AccessToken, true)
	f("/wxa/mine/x/y", Component, AccessToken, true)
	f("/wxa/mine/theirs/z", Authorizer, AccessToken, true)
	f("/wxa/mineral", Authorizer, AccessToken, false)
	f("/cgi-bin/user/info", None, AccessToken, true)
	f("/cgi-bin/component/api_query_auth", User, AccessToken, true)
	// No spelling hides a path from its rule.
	f("//cgi-bin//token", None, AccessToken, true)
	f("/cgi-bin/%74oken", None, AccessToken, true)
	f("/cgi-bin/%2574oken", None, AccessToken, true)
	f("/cgi-bin/./token", None, AccessToken, true)
	f("/wxa/../cgi-bin/token", None, AccessToken, true)
	f("/wxa/%2e%2E/cgi-bin%2ftoken", None, AccessToken, true)
	f("/cgi-bin/token;v=1", None, AccessToken, true)
	f("/cgi-bin/token/", None, AccessToken, true)
	f(`\cgi-bin\token`, None, AccessToken, true)
	f("/%zz/..", Authorizer, AccessToken, false)
}

func TestDefaultParam(t *testing.T) {
	if DefaultParam("/sns/new", Component) != ComponentAccessToken || DefaultParam("/wxa/new", Component) != AccessToken || DefaultParam("/sns/new", Authorizer) != AccessToken {
		t.Error("wrong parameter")
	}
}

func FuzzFind(f *testing.F) {
	for _, path := range []string{"/cgi-bin/token", "//a/./b/../%2e%2e/%", "/componenttcb/x", "%", "%2", "/%25%32%35"} {
		f.Add([]byte(path))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		before := string(path)
		rule, known := Builtin().Find(path)
		if string(path) != before {
			t.Fatal("changed the path")
		}
		if again, k := Builtin().Find(clean(path)); !plain(path) && (again != rule || k != known) {
			t.Fatalf("%q: %v, clean %v", path, rule, again)
		}
	})
}

func TestWorkIsOfThePathItself(t *testing.T) {
	table := Builtin().With(map[string]Rule{"/cgi-bin": {Token: None}})
	f := func(path string, want Work) {
		t.Helper()
		if rule, _ := table.Find([]byte(path)); rule.Work != want {
			t.Errorf("%s: %d, want %d", path, rule.Work, want)
		}
	}
	f("/cgi-bin/token", AnswerToken)
	f("//cgi-bin/./token", AnswerToken)
	f("/cgi-bin/token/x", Forward)
	f("/cgi-bin/menu/get", Forward)
	for path := range works {
		rule, known := Builtin().Find([]byte(path))
		if !known || rule.Work != works[path] {
			t.Errorf("%s is no row of the table", path)
		}
	}
}
