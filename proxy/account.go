package proxy

import (
	"lingpai/proxy/route"
)

// choice is which credential a call gets.
type choice struct {
	token route.Token // Authorizer, Component, User or None: Either is resolved
	param route.Param
	// appID is the account the token is for; set with Authorizer only.
	appID []byte
}

// asked is what a call says of its account and token.
type asked struct {
	path      []byte
	rule      route.Rule
	fields    *fields
	query     *querySplit
	prefixID  []byte // of the path prefix /@appid
	defaultID []byte
	component bool // a component is configured
}

// choose decides which credential a call gets, as a pure function of what it
// says and of the configuration.
func choose(a *asked) (choice, *fault) {
	rule := a.rule
	if a.fields.override && a.fields.token != rule.Token {
		rule = route.Rule{Token: a.fields.token, Param: route.DefaultParam(string(a.path), a.fields.token)}
	}
	named := a.fields.appID
	if len(named) == 0 {
		named = a.query.fromAppID
	}
	if len(named) == 0 {
		named = a.prefixID
	}
	known := len(named) > 0 || len(a.defaultID) > 0 // by 1, 2, 3 or 5 of the contract
	if len(named) == 0 {
		named = placeholderAccount(a.query.placeholder)
	}
	if len(named) == 0 {
		named = a.query.joined
	}

	if rule.Token == route.User {
		return choice{token: route.User}, nil
	}
	if len(a.query.token) > 0 && !known {
		return choice{}, faultForeign
	}
	if rule.Token == route.Either {
		rule.Token = route.Component
		if len(named) > 0 || !a.component {
			rule.Token = route.Authorizer
		}
	}
	switch rule.Token {
	case route.None:
		return choice{token: route.None}, nil
	case route.Component:
		if !a.component {
			return choice{}, faultNoPlatform
		}
		return choice{token: route.Component, param: rule.Param}, nil
	}
	if len(named) == 0 {
		if len(a.defaultID) == 0 {
			return choice{}, faultNoAccount
		}
		named = a.defaultID
	}
	return choice{token: route.Authorizer, param: rule.Param, appID: named}, nil
}

// namedAccount is the account that a call names, by the header, the query, the
// path, a placeholder or the configuration; nil if none.
func namedAccount(a *asked) []byte {
	for _, appID := range [][]byte{a.fields.appID, a.query.fromAppID, a.prefixID, placeholderAccount(a.query.placeholder), a.query.joined, a.defaultID} {
		if len(appID) > 0 {
			return appID
		}
	}
	return nil
}
