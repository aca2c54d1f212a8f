package wechattest

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Paths whose calls bring a token.
const (
	pathComponentToken  = "/cgi-bin/component/api_component_token"
	pathAuthorizerToken = "/cgi-bin/component/api_authorizer_token"
	pathQueryAuth       = "/cgi-bin/component/api_query_auth"
	pathToken           = "/cgi-bin/token"
	pathStableToken     = "/cgi-bin/stable_token"
)

// takes says which token a path wants.
type takes int

const (
	takesAccount      takes = iota // an authorizer's or a direct account's, as access_token
	takesAuthorizer                // only an authorizer's
	takesComponent                 // the component's, under either name
	takesComponentSNS              // the component's, only as component_access_token
	takesEither                    // any of the three
	takesUser                      // a user's OAuth token
	takesNone                      // no token: a secret or nothing
	takesPage                      // a browser's page: none of the checks of an API
)

// endpoint is what the simulator knows of a path.
type endpoint struct {
	token  takes
	method string // "": any
	json   bool   // needs a JSON object as body
	slow   bool   // takes Knobs.TokenLatency
	handle func(*request) reply
}

var endpoints = map[string]endpoint{
	pathComponentToken:                                  {takesNone, "POST", true, true, (*request).componentToken},
	"/cgi-bin/component/api_start_push_ticket":          {takesNone, "POST", true, false, (*request).startPushTicket},
	"/cgi-bin/component/clear_quota/v2":                 {takesNone, "POST", true, false, (*request).clearQuotaBySecret},
	"/cgi-bin/clear_quota/v2":                           {takesNone, "POST", true, false, (*request).clearQuotaBySecret},
	"/cgi-bin/component/api_create_preauthcode":         {takesComponent, "POST", true, true, (*request).createPreAuthCode},
	pathQueryAuth:                                       {takesComponent, "POST", true, true, (*request).queryAuth},
	pathAuthorizerToken:                                 {takesComponent, "POST", true, true, (*request).authorizerToken},
	"/cgi-bin/component/api_get_authorizer_info":        {takesComponent, "POST", true, false, (*request).authorizerInfo},
	"/cgi-bin/component/api_get_authorizer_list":        {takesComponent, "POST", true, false, (*request).authorizerList},
	"/cgi-bin/component/get_authorizer_option":          {takesEither, "POST", true, false, (*request).getOption},
	"/cgi-bin/component/set_authorizer_option":          {takesEither, "POST", true, false, (*request).setOption},
	"/cgi-bin/component/api_get_authorizer_option":      {takesEither, "POST", true, false, (*request).getOption},
	"/cgi-bin/component/api_set_authorizer_option":      {takesEither, "POST", true, false, (*request).setOption},
	"/cgi-bin/clear_quota":                              {takesEither, "POST", true, false, (*request).clearQuota},
	"/cgi-bin/openapi/quota/get":                        {takesEither, "POST", true, false, (*request).quotaGet},
	"/cgi-bin/openapi/rid/get":                          {takesEither, "POST", true, false, (*request).ridGet},
	"/cgi-bin/getcallbackip":                            {takesEither, "GET", false, false, (*request).callbackIPs},
	"/cgi-bin/get_api_domain_ip":                        {takesEither, "GET", false, false, (*request).domainIPs},
	pathToken:                                           {takesNone, "GET", false, true, (*request).plainToken},
	pathStableToken:                                     {takesNone, "POST", true, true, (*request).stableToken},
	"/cgi-bin/ticket/getticket":                         {takesAccount, "GET", false, true, (*request).jsTicket},
	"/sns/jscode2session":                               {takesNone, "GET", false, false, (*request).jsCode2Session},
	"/sns/component/jscode2session":                     {takesComponentSNS, "GET", false, false, (*request).componentJSCode2Session},
	"/sns/oauth2/access_token":                          {takesNone, "GET", false, false, (*request).userToken},
	"/sns/oauth2/refresh_token":                         {takesNone, "GET", false, false, (*request).userTokenRefresh},
	"/sns/oauth2/component/access_token":                {takesComponentSNS, "GET", false, false, (*request).componentUserToken},
	"/sns/oauth2/component/refresh_token":               {takesComponentSNS, "GET", false, false, (*request).componentUserTokenRefresh},
	"/sns/userinfo":                                     {takesUser, "GET", false, false, (*request).userInfo},
	"/sns/auth":                                         {takesUser, "GET", false, false, (*request).userAuth},
	"/cgi-bin/media/upload":                             {takesAccount, "POST", false, false, (*request).mediaUpload},
	"/cgi-bin/media/get":                                {takesAccount, "GET", false, false, (*request).mediaGet},
	"/wxa/getwxacodeunlimit":                            {takesAccount, "POST", true, false, (*request).codeImage},
	"/cgi-bin/message/custom/send":                      {takesAccount, "POST", true, false, (*request).customSend},
	pathLoginPC:                                         {token: takesPage, handle: (*request).loginPage},
	pathLoginMobile:                                     {token: takesPage, handle: (*request).loginPage},
	pathLoginMobileOld:                                  {token: takesPage, handle: (*request).loginPage},
	"/tcb/modifyenv":                                    {token: takesEither, method: "POST"},
	"/tcb/invokecloudfunction":                          {token: takesEither, method: "POST"},
	"/tcb/usecloudaccesstoken":                          {token: takesEither, method: "POST"},
	"/cgi-bin/component/setprivacysetting":              {token: takesAuthorizer, method: "POST"},
	"/cgi-bin/component/getprivacysetting":              {token: takesAuthorizer, method: "POST"},
	"/cgi-bin/component/uploadprivacyextfile":           {token: takesAuthorizer, method: "POST"},
	"/cgi-bin/account/componentrebindadmin":             {token: takesAuthorizer, method: "POST"},
	"/wxa/gettemplatedraftlist":                         {token: takesComponent, method: "GET"},
	"/wxa/gettemplatelist":                              {token: takesComponent, method: "GET"},
	"/wxa/addtotemplate":                                {token: takesComponent, method: "POST"},
	"/wxa/deletetemplate":                               {token: takesComponent, method: "POST"},
	"/wxa/component/fastregisterpersonalweapp":          {token: takesComponent, method: "POST"},
	"/wxa/component/fastregisterbetaweapp":              {token: takesComponent, method: "POST"},
	"/cgi-bin/component/fastregisterweapp":              {token: takesComponent, method: "POST"},
	"/cgi-bin/component/modify_wxa_server_domain":       {token: takesComponent, method: "POST"},
	"/cgi-bin/component/get_domain_confirmfile":         {token: takesComponent, method: "POST"},
	"/cgi-bin/component/modify_wxa_jump_domain":         {token: takesComponent, method: "POST"},
	"/wxa/security/applysetorderpathinfo":               {token: takesComponent, method: "POST"},
	"/wxa/servicemarket/service/get_service_buyer":      {token: takesComponent, method: "POST"},
	"/wxa/servicemarket/service/login_auth":             {token: takesComponent, method: "POST"},
	"/wxa/servicemarket/get_paid_order_list":            {token: takesComponent, method: "POST"},
	"/wxa/servicemarket/service/get_service_buyer_list": {token: takesComponent, method: "POST"},
	"/wedata/wedata_get_login_config":                   {token: takesComponent, method: "POST"},
	"/wedata/wedata_set_login_config":                   {token: takesComponent, method: "POST"},
}

// componentPrefixes are folders of calls that all take the component's token.
var componentPrefixes = []string{"/componenttcb/", "/product/register/"}

// lookUp returns what is known of a path. Any other path is an account's API
// that answers ok.
func lookUp(path string) endpoint {
	e, ok := endpoints[path]
	if !ok && slices.ContainsFunc(componentPrefixes, func(p string) bool { return strings.HasPrefix(path, p) }) {
		e = endpoint{token: takesComponent, method: http.MethodPost}
	}
	if e.handle == nil {
		e.handle = func(q *request) reply { return q.ok(nil) }
	}
	return e
}

// execute checks the call as WeChat does, and does it.
func (q *request) execute() reply {
	rep := q.underLock()
	if rep.then != nil {
		return rep.then()
	}
	return rep
}

func (q *request) underLock() reply {
	s := q.Server
	s.mu.Lock()
	defer s.mu.Unlock()
	rep := q.checked()
	if rep.errcode == 0 && !rep.refused {
		s.journal.ran(q.call)
	}
	return rep
}

// checked goes through WeChat's checks in their order: method, token, address,
// quota, body.
func (q *request) checked() reply {
	if q.endpoint.token == takesPage {
		return q.endpoint.handle(q)
	}
	if q.two {
		return q.fail(40014)
	}
	switch {
	case q.endpoint.method == http.MethodGet && q.r.Method != http.MethodGet && q.r.Method != http.MethodHead:
		return q.fail(43001)
	case q.endpoint.method == http.MethodPost && q.r.Method != http.MethodPost:
		return q.fail(43002)
	}
	if errcode := q.checkToken(time.Now()); errcode != 0 {
		return q.fail(errcode)
	}
	if rep, ok := q.checkAddress(); !ok {
		return rep
	}
	if q.endpoint.json {
		if len(q.body) == 0 {
			return q.fail(44002)
		}
		if q.jsonErr != nil {
			return q.fail(47001)
		}
	}
	if !q.spend() {
		return q.fail(45009)
	}
	return q.endpoint.handle(q)
}

// tokenForm is what every token of WeChat's looks like; anything else is
// "invalid access_token" whatever was issued.
var tokenForm = regexp.MustCompile(`^[0-9A-Za-z_-]+$`)

const minToken, maxToken = 64, 512

// checkToken returns WeChat's errcode for the call's token, 0 if it will do.
func (q *request) checkToken(now time.Time) int {
	want := q.endpoint.token
	if want == takesNone {
		return 0
	}
	if !q.tokenName(want) || q.value == "" {
		return 41001
	}
	t := q.tokens[q.value]
	if want == takesUser {
		if t != nil && t.kind != KindUser {
			q.journal.violation(q.call, "%s token on a call that takes a user's", t.kind)
			return 40001
		}
	}
	if t == nil {
		if len(q.value) < minToken || len(q.value) > maxToken || !tokenForm.MatchString(q.value) {
			return 40014
		}
		return q.componentErrcode(40001)
	}
	if errcode := t.verdict(now); errcode != 0 {
		if t.kind == KindComponent {
			return q.componentErrcode(errcode)
		}
		return errcode
	}
	if errcode := wrongKind(want, t.kind); errcode != 0 {
		return errcode
	}
	if q.Server.knobs.Spurious40001 > 0 {
		q.Server.knobs.Spurious40001--
		return 40001
	}
	return 0
}

// tokenName reports whether the token came under a name that the path reads.
func (q *request) tokenName(want takes) bool {
	component := q.call.TokenParam == QueryNameComponent
	switch want {
	case takesComponentSNS:
		return component
	case takesComponent, takesEither:
		if want == takesEither && !component || q.knobs.ComponentQueryName == QueryNameBoth {
			return true
		}
		return q.call.TokenParam == q.knobs.ComponentQueryName
	default:
		return !component
	}
}

// componentErrcode translates a common errcode for paths that take the
// component's token, if the knob says so.
func (q *request) componentErrcode(errcode int) int {
	if q.knobs.ComponentErrcodes == ErrcodesComponent &&
		(q.endpoint.token == takesComponent || q.endpoint.token == takesComponentSNS) {
		switch errcode {
		case 40001:
			return 40094
		case 42001:
			return 42006
		}
	}
	return errcode
}

// wrongKind returns WeChat's errcode for a live token of a kind that the path
// does not take.
func wrongKind(want takes, kind TokenKind) int {
	if kind == KindUser && want != takesUser {
		return 40001
	}
	switch want {
	case takesComponent, takesComponentSNS:
		switch kind {
		case KindAuthorizer:
			return 61014
		case KindAccount:
			return 48001
		}
	case takesAccount, takesAuthorizer:
		if kind == KindComponent {
			return 61015
		}
		if want == takesAuthorizer && kind == KindAccount {
			return 86000
		}
	}
	return 0
}

// checkAddress compares the caller's address with the whitelist.
//
// https://developers.weixin.qq.com/doc/oplatform/developers/basic_func/ip_whitelist
func (q *request) checkAddress() (reply, bool) {
	ip := q.clientIP()
	if len(q.knobs.IPWhitelist) == 0 || slices.Contains(q.knobs.IPWhitelist, ip) {
		return reply{}, true
	}
	component := q.endpoint.token == takesComponent || q.endpoint.token == takesComponentSNS ||
		q.endpoint.token == takesNone && strings.HasPrefix(q.call.Path, "/cgi-bin/component/") ||
		q.token != nil && (q.token.kind == KindComponent || q.token.kind == KindAuthorizer)
	switch {
	case component:
		return q.failWith(61004, "access clientip is not registered requestIP: "+ip), false
	case q.call.Path == pathToken || q.call.Path == pathStableToken || q.token != nil && q.token.kind == KindAccount:
		return q.failWith(40164, "invalid ip "+ip+" ipv6 ::ffff:"+ip+", not in whitelist"), false
	}
	return reply{}, true
}

// withoutCancel is the request's context without its end.
func withoutCancel(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }
