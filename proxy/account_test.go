package proxy

import (
	"testing"

	"lingpai/proxy/route"
)

func TestChoose(t *testing.T) {
	type call struct {
		path, query      string
		rule             route.Rule
		header, prefix   string
		defaultID        string
		override         string
		withoutComponent bool
	}
	f := func(rule string, c call, wantToken route.Token, wantParam route.Param, wantAppID string) {
		t.Helper()
		got, fault := chooseFor(c.path, c.query, c.rule, c.header, c.prefix, c.defaultID, c.override, !c.withoutComponent)
		if fault != nil {
			t.Errorf("%s: refused: %v", rule, fault)
			return
		}
		if got.token != wantToken || got.param != wantParam || string(got.appID) != wantAppID {
			t.Errorf("%s: token %v param %v app id %q, want %v %v %q", rule, got.token, got.param, got.appID, wantToken, wantParam, wantAppID)
		}
	}
	const access, component = route.AccessToken, route.ComponentAccessToken
	account := route.Rule{}
	either := route.Rule{Token: route.Either}
	platform := route.Rule{Token: route.Component, Param: component}
	user := route.Rule{Token: route.User}
	none := route.Rule{Token: route.None}

	// Which account.
	all := call{rule: account, header: "wx1", query: "from_appid=wx2&access_token=lingpai-authorizer-wx4", prefix: "wx3", defaultID: "wx5"}
	f("1. header", all, route.Authorizer, access, "wx1")
	all.header = ""
	f("2. from_appid", all, route.Authorizer, access, "wx2")
	all.query = "access_token=lingpai-authorizer-wx4"
	f("3. path prefix", all, route.Authorizer, access, "wx3")
	all.prefix = ""
	f("4. placeholder", all, route.Authorizer, access, "wx4")
	all.query = "component_access_token=lingpai-account-wx4"
	f("4. placeholder of a direct account in the other parameter", all, route.Authorizer, access, "wx4")
	all.query = "access_token=lingpai-component-wx0"
	f("5. default, since the platform's placeholder names no account", all, route.Authorizer, access, "wx5")
	all.query = "from_appid="
	f("5. default, since an empty from_appid names none", all, route.Authorizer, access, "wx5")

	// Which token.
	f("either with an account", call{rule: either, header: "wx1"}, route.Authorizer, access, "wx1")
	f("either with a placeholder", call{rule: either, query: "access_token=lingpai-authorizer-wx4"}, route.Authorizer, access, "wx4")
	f("either without an account is the platform's, whatever the default", call{rule: either, defaultID: "wx5"}, route.Component, access, "")
	f("either with the platform's placeholder", call{rule: either, query: "access_token=lingpai-component-wx0", defaultID: "wx5"}, route.Component, access, "")
	f("either without a platform is the default's", call{rule: either, defaultID: "wx5", withoutComponent: true}, route.Authorizer, access, "wx5")
	f("platform", call{rule: platform}, route.Component, component, "")
	f("platform's, though an account is named", call{rule: platform, header: "wx1"}, route.Component, component, "")
	f("none", call{rule: none}, route.None, access, "")
	f("user", call{rule: user}, route.User, access, "")
	f("user with a token of its own", call{rule: user, query: "access_token=u"}, route.User, access, "")

	// The header X-Wechat-Token.
	f("override to component", call{path: "/cgi-bin/x", rule: account, override: "component"}, route.Component, access, "")
	f("override to component on /sns/", call{path: "/sns/x", rule: account, override: "component"}, route.Component, component, "")
	f("override to authorizer", call{path: "/sns/x", rule: platform, override: "authorizer", header: "wx1"}, route.Authorizer, access, "wx1")
	f("override to what the rule says keeps the rule's parameter", call{path: "/cgi-bin/x", rule: platform, override: "component"}, route.Component, component, "")
	f("override to none", call{rule: account, override: "none"}, route.None, access, "")
	f("override of user", call{rule: user, override: "authorizer", header: "wx1"}, route.Authorizer, access, "wx1")

	// What an app sends in the token parameter.
	f("foreign token, account by header", call{rule: account, header: "wx1", query: "access_token=x"}, route.Authorizer, access, "wx1")
	f("foreign token, account by from_appid", call{rule: account, query: "access_token=x&from_appid=wx2"}, route.Authorizer, access, "wx2")
	f("foreign token, account by prefix", call{rule: account, prefix: "wx3", query: "access_token=x"}, route.Authorizer, access, "wx3")
	f("foreign token, default account", call{rule: account, defaultID: "wx5", query: "access_token=x"}, route.Authorizer, access, "wx5")
	f("foreign token on the platform's path, account known", call{rule: platform, header: "wx1", query: "access_token=x"}, route.Component, component, "")

	refused := func(rule string, c call, want *fault) {
		t.Helper()
		if got, fault := chooseFor(c.path, c.query, c.rule, c.header, c.prefix, c.defaultID, c.override, !c.withoutComponent); fault != want {
			t.Errorf("%s: %v, %v, want %v", rule, got, fault, want)
		}
	}
	refused("foreign token, no account", call{rule: account, query: "access_token=x"}, faultForeign)
	refused("foreign token in the other parameter, no account", call{rule: account, query: "component_access_token=x"}, faultForeign)
	refused("foreign token beside a placeholder, which is no account by 1, 2, 3 or 5",
		call{rule: account, query: "access_token=lingpai-authorizer-wx4&component_access_token=x"}, faultForeign)
	refused("foreign token on the platform's path, no account", call{rule: platform, query: "access_token=x"}, faultForeign)
	refused("foreign token on a path without token, no account", call{rule: none, query: "access_token=x"}, faultForeign)
	refused("no account", call{rule: account}, faultNoAccount)
	refused("no platform", call{rule: platform, withoutComponent: true}, faultNoPlatform)
	refused("either without platform and default", call{rule: either, withoutComponent: true}, faultNoAccount)
}

func chooseFor(path, query string, rule route.Rule, header, prefix, defaultID, override string, component bool) (choice, *fault) {
	f := fields{appID: []byte(header)}
	if override != "" {
		f.token, f.override = route.ParseToken(override)
	}
	q := splitQuery(nil, []byte(query))
	return choose(&asked{path: []byte(path), rule: rule, fields: &f, query: &q, prefixID: []byte(prefix), defaultID: []byte(defaultID), component: component})
}
