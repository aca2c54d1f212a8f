package wechattest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// userGrant is what a user's refresh token stands for.
type userGrant struct{ appID, openID, scope string }

// maxUsedCodes bounds the memory of used codes.
const maxUsedCodes = 1_000_000

// openID is the user's id in one account, the same for the same code.
func openID(appID, code string) string {
	sum := sha256.Sum256([]byte("openid " + appID + " " + code))
	return "o" + base64.RawURLEncoding.EncodeToString(sum[:])[:27]
}

func unionID(code string) string {
	sum := sha256.Sum256([]byte("unionid " + code))
	return "u" + hex.EncodeToString(sum[:])[:27]
}

// spendCode takes a user's login code, which the test chooses: any text will
// do, once per account. One that begins with "invalid" is none.
func (q *request) spendCode(appID, code string) int {
	if code == "" {
		return 41008
	}
	if strings.HasPrefix(code, "invalid") {
		return 40029
	}
	key := appID + " " + code
	if q.usedCodes[key] {
		return 40163
	}
	if len(q.usedCodes) >= maxUsedCodes {
		clear(q.usedCodes)
	}
	q.usedCodes[key] = true
	return 0
}

func (q *request) checkGrantType(want string) int {
	if q.query.Get("grant_type") != want {
		return 40002
	}
	return 0
}

// checkDirect checks appid and secret in the query of a direct account's call.
func (q *request) checkDirect() int {
	appID, secret := q.query.Get("appid"), q.query.Get("secret")
	switch {
	case appID == "":
		return 41002
	case secret == "":
		return 41004
	}
	return q.checkSecret(appID, secret)
}

// checkOnBehalf checks appid and component_appid in the query of a platform's
// call for an account.
func (q *request) checkOnBehalf() int {
	appID := q.query.Get("appid")
	switch q.query.Get("component_appid") {
	case "":
		return 41018
	case q.componentAppID:
	default:
		return 40013
	}
	if appID == "" {
		return 41002
	}
	if a := q.authorizers[appID]; a == nil || !a.authorized {
		return 61003
	}
	return 0
}

// firstOf returns the first errcode that is not 0. Each check is made only if
// those before it passed.
func firstOf(checks ...func() int) int {
	for _, check := range checks {
		if errcode := check(); errcode != 0 {
			return errcode
		}
	}
	return 0
}

// jsCode2Session is the login of a direct mini program.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/miniprogram-management/login/api_thirdpartycode2session.html
func (q *request) jsCode2Session() reply { return q.session(q.checkDirect) }

// componentJSCode2Session is the login of an authorizer's mini program. It
// takes component_access_token under that name only.
//
// https://developers.weixin.qq.com/doc/oplatform/openApi/miniprogram-management/login/api_thirdpartycode2session.html
func (q *request) componentJSCode2Session() reply { return q.session(q.checkOnBehalf) }

func (q *request) session(caller func() int) reply {
	appID, code := q.query.Get("appid"), q.query.Get("js_code")
	if errcode := firstOf(
		func() int { return q.checkGrantType("authorization_code") },
		caller,
		func() int { return q.spendCode(appID, code) },
	); errcode != 0 {
		return q.fail(errcode)
	}
	var raw [16]byte
	q.values.bytes(raw[:])
	key := base64.StdEncoding.EncodeToString(raw[:])
	q.addUserSecret(key)
	return q.answer(object{"openid": openID(appID, code), "session_key": key, "unionid": unionID(code)})
}

// userToken is /sns/oauth2/access_token, the user's OAuth of a direct account.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/getting_started/how_to_call_api.html
func (q *request) userToken() reply { return q.exchangeUserCode(q.checkDirect) }

// componentUserToken is the same on behalf of an authorizer, with
// component_access_token; see userToken.
func (q *request) componentUserToken() reply { return q.exchangeUserCode(q.checkOnBehalf) }

func (q *request) exchangeUserCode(caller func() int) reply {
	appID, code := q.query.Get("appid"), q.query.Get("code")
	if errcode := firstOf(
		func() int { return q.checkGrantType("authorization_code") },
		caller,
		func() int { return q.spendCode(appID, code) },
	); errcode != 0 {
		return q.fail(errcode)
	}
	grant := userGrant{appID, openID(appID, code), "snsapi_userinfo"}
	refresh := q.values.token()
	q.addUserSecret(refresh)
	if len(q.userRefresh) >= maxUsedCodes {
		clear(q.userRefresh)
	}
	q.userRefresh[refresh] = grant
	return q.userTokenAnswer(grant, refresh)
}

func (q *request) userTokenAnswer(grant userGrant, refresh string) reply {
	t := q.newToken(chain{kind: KindUser, appID: grant.appID}, q.knobs.UserTokenLifetime)
	t.openID = grant.openID
	return q.answer(object{
		"access_token": t.value, "expires_in": q.knobs.UserTokenLifetime.seconds(),
		"refresh_token": refresh, "openid": grant.openID, "scope": grant.scope,
	})
}

// userTokenRefresh renews a user's token; see userToken.
func (q *request) userTokenRefresh() reply {
	return q.refreshUserToken(func() int {
		if q.query.Get("appid") == "" {
			return 41002
		}
		return 0
	})
}

// componentUserTokenRefresh renews a user's token on behalf of an authorizer;
// see userToken.
func (q *request) componentUserTokenRefresh() reply { return q.refreshUserToken(q.checkOnBehalf) }

func (q *request) refreshUserToken(caller func() int) reply {
	if errcode := firstOf(func() int { return q.checkGrantType("refresh_token") }, caller); errcode != 0 {
		return q.fail(errcode)
	}
	refresh := q.query.Get("refresh_token")
	if refresh == "" {
		return q.fail(41003)
	}
	grant, ok := q.userRefresh[refresh]
	if !ok || grant.appID != q.query.Get("appid") {
		return q.fail(40030)
	}
	return q.userTokenAnswer(grant, refresh)
}

// checkOpenID compares the openid of the query with the user token's.
func (q *request) checkOpenID() int {
	switch q.query.Get("openid") {
	case "":
		return 41009
	case q.token.openID:
		return 0
	default:
		return 40003
	}
}

// userInfo describes the user of a user's token.
//
// https://developers.weixin.qq.com/community/develop/doc/483552123f44973079500c2e6d09a18e
func (q *request) userInfo() reply {
	if errcode := q.checkOpenID(); errcode != 0 {
		return q.fail(errcode)
	}
	return q.answer(object{
		"openid": q.token.openID, "nickname": "微信用户", "sex": 0, "province": "", "city": "", "country": "",
		"headimgurl": "https://thirdwx.qlogo.cn/mmopen/" + q.token.openID + "/132", "privilege": []string{},
	})
}

// userAuth says whether a user's token is good; see userInfo.
func (q *request) userAuth() reply {
	if errcode := q.checkOpenID(); errcode != 0 {
		return q.fail(errcode)
	}
	return q.ok(nil)
}

// IssueUserToken makes a user's OAuth token, as /sns/oauth2/access_token would
// for the code, and returns it with the user's openid.
func (s *Server) IssueUserToken(appID, code string) (accessToken, openid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.newToken(chain{kind: KindUser, appID: appID}, s.knobs.UserTokenLifetime)
	t.openID = openID(appID, code)
	return t.value, t.openID
}
