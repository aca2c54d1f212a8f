package wechat

import (
	"encoding/json"
	"time"

	"lingpai/tokens/secret"
)

// AuthorizerInfo is what lingpai reads of an answer of api_get_authorizer_info.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo
type AuthorizerInfo struct {
	AppID        string
	RefreshToken secret.String
	Scopes       []int
}

// ParseAuthorizerInfo reads an answer of api_get_authorizer_info. An error
// answer gives the zero AuthorizerInfo.
func ParseAuthorizerInfo(answer []byte) (AuthorizerInfo, error) {
	var body struct {
		Info struct {
			AppID        string `json:"authorizer_appid"`
			RefreshToken string `json:"authorizer_refresh_token"`
			FuncInfo     scopes `json:"func_info"`
		} `json:"authorization_info"`
	}
	if json.Unmarshal(answer, &body) != nil {
		return AuthorizerInfo{}, ErrBrokenAnswer
	}
	return AuthorizerInfo{body.Info.AppID, secret.New(body.Info.RefreshToken), body.Info.FuncInfo}, nil
}

// ListedAuthorizer is an entry of api_get_authorizer_list.
type ListedAuthorizer struct {
	AppID        string
	RefreshToken secret.String // empty if its code was never exchanged
	AuthorizedAt time.Time     // auth_time
}

// ParseAuthorizerList reads an answer of api_get_authorizer_list. An error
// answer gives an empty list.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerlist
func ParseAuthorizerList(answer []byte) (list []ListedAuthorizer, total int, err error) {
	var body struct {
		Total seconds `json:"total_count"`
		List  []struct {
			AppID        string  `json:"authorizer_appid"`
			RefreshToken string  `json:"refresh_token"`
			AuthTime     seconds `json:"auth_time"`
		} `json:"list"`
	}
	if json.Unmarshal(answer, &body) != nil {
		return nil, 0, ErrBrokenAnswer
	}
	for _, entry := range body.List {
		list = append(list, ListedAuthorizer{entry.AppID, secret.New(entry.RefreshToken), time.Unix(int64(entry.AuthTime), 0)})
	}
	return list, int(body.Total), nil
}
