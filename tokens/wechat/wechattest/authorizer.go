package wechattest

import (
	"maps"
	"slices"
	"time"
)

// authorizer is an account that authorized the platform at least once.
type authorizer struct {
	appID, userName, nickName string
	scopes                    []int
	authorized                bool
	noAPI                     bool // authorized without any API permission: no tokens
	refreshToken              string
	exchanged                 bool
	authTime                  time.Time
	options                   map[string]string
	code                      *grant // of the last authorization
	kind                      int    // as in auth_type; 0: not known
	tester                    bool   // of a release test that is over
}

// grant is one act of authorization. Its codes are spent together.
type grant struct {
	appID   string
	expires time.Time
	used    bool
}

type authCode struct{ *grant }

// oldRefreshToken is a refresh token that was replaced.
type oldRefreshToken struct {
	appID string
	grace time.Time
}

type category struct {
	ID int `json:"id"`
}

type funcInfo struct {
	Category category `json:"funcscope_category"`
}

func (a *authorizer) funcInfo() []funcInfo {
	out := []funcInfo{}
	for _, id := range a.scopes {
		out = append(out, funcInfo{category{id}})
	}
	return out
}

func (q *request) authorizerChain(appID string) chain {
	return chain{kind: KindAuthorizer, appID: appID}
}

// queryAuth exchanges an authorization code. A code works once; all codes of an
// authorization are spent together.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizerrefreshtoken
func (q *request) queryAuth() reply {
	if errcode := q.checkComponentAppID(); errcode != 0 {
		return q.fail(errcode)
	}
	code, ok := q.authCodes[q.params.AuthorizationCode]
	if !ok {
		return q.fail(61009)
	}
	if code.used || !time.Now().Before(code.expires) {
		return q.fail(61010)
	}
	code.used = true
	q.news()
	a := q.authorizers[code.appID]
	info := object{"authorizer_appid": a.appID, "func_info": a.funcInfo()}
	if !a.noAPI {
		t := q.issue(q.authorizerChain(a.appID), q.knobs.AuthorizerTokenLifetime, q.knobs.AuthorizerOverlap)
		a.exchanged = true
		info["authorizer_access_token"] = t.value
		info["expires_in"] = q.knobs.AuthorizerTokenLifetime.seconds()
		info["authorizer_refresh_token"] = a.refreshToken
	}
	return q.answer(object{"authorization_info": info})
}

// authorizerToken refreshes an authorizer_access_token.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizeraccesstoken.html
func (q *request) authorizerToken() reply {
	if errcode := q.checkComponentAppID(); errcode != 0 {
		return q.fail(errcode)
	}
	if q.params.AuthorizerAppID == "" {
		return q.fail(40013)
	}
	a := q.authorizers[q.params.AuthorizerAppID]
	if a == nil {
		return q.fail(61003)
	}
	if !a.authorized {
		return q.fail(q.knobs.UnauthorizedErrcode)
	}
	if a.tester {
		return q.fail(61003)
	}
	if q.params.RefreshToken != a.refreshToken || !a.exchanged {
		old, ok := q.oldRefresh[q.params.RefreshToken]
		switch {
		case ok && old.appID != a.appID:
			q.journal.violation(q.call, "refresh token of %s used for %s", old.appID, a.appID)
			return q.fail(61023)
		case ok && !time.Now().Before(old.grace):
			q.journal.violation(q.call, "dead refresh token of %s used", a.appID)
			return q.fail(61023)
		case !ok:
			return q.fail(61023)
		}
	}
	t := q.issue(q.authorizerChain(a.appID), q.knobs.AuthorizerTokenLifetime, q.knobs.AuthorizerOverlap)
	out := object{"authorizer_access_token": t.value, "expires_in": q.knobs.AuthorizerTokenLifetime.seconds()}
	switch q.knobs.RefreshToken {
	case RefreshTokenSame:
		out["authorizer_refresh_token"] = a.refreshToken
	case RefreshTokenRotated:
		q.replaceRefreshToken(a, time.Duration(q.knobs.RefreshTokenGrace))
		out["authorizer_refresh_token"] = a.refreshToken
	case RefreshTokenEmpty:
		out["authorizer_refresh_token"] = ""
	}
	return q.answer(out)
}

// replaceRefreshToken gives an authorizer another refresh token; the old one
// lives on for grace.
func (s *Server) replaceRefreshToken(a *authorizer, grace time.Duration) {
	now := time.Now()
	for value, old := range s.oldRefresh {
		if old.appID == a.appID && old.grace.After(now.Add(grace)) {
			s.oldRefresh[value] = oldRefreshToken{a.appID, now.Add(grace)}
		}
	}
	if a.refreshToken != "" {
		s.oldRefresh[a.refreshToken] = oldRefreshToken{a.appID, now.Add(grace)}
	}
	a.refreshToken = s.values.refreshToken()
	s.addSecret(a.refreshToken)
}

// maxListCount is the largest page of the authorizer list.
const maxListCount = 500

// authorizerList lists the authorized accounts. It gives refresh tokens back,
// but only of accounts whose code was exchanged.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerlist
func (q *request) authorizerList() reply {
	if errcode := q.checkComponentAppID(); errcode != 0 {
		return q.fail(errcode)
	}
	if q.params.Count > maxListCount {
		return q.fail(40170)
	}
	if q.params.Count < 0 || q.params.Offset < 0 {
		return q.fail(47001)
	}
	var authorized []*authorizer
	for _, appID := range q.authOrder {
		if a := q.authorizers[appID]; a.authorized {
			authorized = append(authorized, a)
		}
	}
	total := len(authorized)
	authorized = authorized[min(q.params.Offset, total):]
	authorized = authorized[:min(q.params.Count, len(authorized))]
	type entry struct {
		AppID        string `json:"authorizer_appid"`
		RefreshToken string `json:"refresh_token,omitempty"`
		AuthTime     int64  `json:"auth_time"`
	}
	list := []entry{}
	for _, a := range authorized {
		e := entry{AppID: a.appID, AuthTime: a.authTime.Unix()}
		if a.exchanged {
			e.RefreshToken = a.refreshToken
		}
		list = append(list, e)
	}
	return q.answer(struct {
		Total int     `json:"total_count"`
		List  []entry `json:"list"`
	}{total, list})
}

// authorizerInfo describes an authorized account.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo
func (q *request) authorizerInfo() reply {
	if errcode := q.checkComponentAppID(); errcode != 0 {
		return q.fail(errcode)
	}
	a := q.authorizers[q.params.AuthorizerAppID]
	if a == nil || !a.authorized {
		return q.fail(61003)
	}
	authorization := object{"authorizer_appid": a.appID, "func_info": a.funcInfo()}
	if a.exchanged {
		authorization["authorizer_refresh_token"] = a.refreshToken
	}
	return q.answer(object{"authorizer_info": a.info(), "authorization_info": authorization})
}

// info is what WeChat tells of an account. Only mini programs have
// MiniProgramInfo; an account of unknown type is shown as one.
func (a *authorizer) info() object {
	named := func(id int, name string) object { return object{"id": id, "name": name} }
	out := object{
		"nick_name": a.nickName, "head_img": "https://wx.qlogo.cn/mmopen/" + a.userName + "/0",
		"service_type_info": named(0, "普通小程序"), "verify_type_info": named(0, "微信认证"),
		"user_name": a.userName, "alias": "", "qrcode_url": "https://mmbiz.qpic.cn/mmbiz_jpg/" + a.userName + "/0",
		"business_info": object{"open_pay": 0, "open_shake": 0, "open_scan": 0, "open_card": 0, "open_store": 0},
		"idc":           1, "principal_name": a.nickName, "signature": "",
		"MiniProgramInfo": object{
			"network":      object{"RequestDomain": []string{}, "WsRequestDomain": []string{}, "UploadDomain": []string{}, "DownloadDomain": []string{}},
			"categories":   []string{},
			"visit_status": 0,
		},
		"register_type": 0, "account_status": 1,
		"basic_config": object{"is_phone_configured": true, "is_email_configured": true},
	}
	if a.kind == TypeOfficialAccount {
		out["service_type_info"] = named(2, "服务号")
		delete(out, "MiniProgramInfo")
	}
	return out
}

// optionValues are the options and their values.
var optionValues = map[string][]string{
	"location_report":  {"0", "1", "2"},
	"voice_recognize":  {"0", "1"},
	"customer_service": {"0", "1"},
}

// optionOwner finds the account of an option call: the owner of an authorizer's
// token, or the authorizer_appid of the body. Pages and SDKs disagree on it, so
// both are good.
func (q *request) optionOwner() (*authorizer, int) {
	appID := q.params.AuthorizerAppID
	if q.token.kind == KindAuthorizer {
		appID = q.token.appID
	}
	if q.params.ComponentAppID != "" && q.params.ComponentAppID != q.componentAppID {
		return nil, 40013
	}
	a := q.authorizers[appID]
	if a == nil || !a.authorized {
		return nil, 61003
	}
	if _, ok := optionValues[q.params.OptionName]; !ok {
		return nil, 61012
	}
	return a, 0
}

// getOption reads an option of an account.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizeroptioninfo.html
func (q *request) getOption() reply {
	a, errcode := q.optionOwner()
	if errcode != 0 {
		return q.fail(errcode)
	}
	value := a.options[q.params.OptionName]
	if value == "" {
		value = "0"
	}
	return q.ok(object{"authorizer_appid": a.appID, "option_name": q.params.OptionName, "option_value": value})
}

// setOption changes an option of an account; see getOption.
func (q *request) setOption() reply {
	a, errcode := q.optionOwner()
	if errcode != 0 {
		return q.fail(errcode)
	}
	if !slices.Contains(optionValues[q.params.OptionName], q.params.OptionValue) {
		return q.fail(61013)
	}
	a.options = maps.Clone(a.options)
	if a.options == nil {
		a.options = map[string]string{}
	}
	a.options[q.params.OptionName] = q.params.OptionValue
	return q.ok(nil)
}
