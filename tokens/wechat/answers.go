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
	AuthorizedAt time.Time     // auth_time, in whole seconds; zero if there is none
}

// ParseAuthorizerList reads an answer of api_get_authorizer_list. An error
// answer gives an empty list. total is -1 if the answer does not say how many there
// are in all.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerlist
func ParseAuthorizerList(answer []byte) (list []ListedAuthorizer, total int, err error) {
	var body struct {
		Total *seconds `json:"total_count"`
		List  []struct {
			AppID        string   `json:"authorizer_appid"`
			RefreshToken string   `json:"refresh_token"`
			AuthTime     authTime `json:"auth_time"`
		} `json:"list"`
	}
	if json.Unmarshal(answer, &body) != nil {
		return nil, 0, ErrBrokenAnswer
	}
	for _, entry := range body.List {
		list = append(list, ListedAuthorizer{entry.AppID, secret.New(entry.RefreshToken), entry.AuthTime.Time})
	}
	if body.Total == nil {
		return list, -1, nil
	}
	return list, int(*body.Total), nil
}

// authTime is a time in seconds since 1970, written as a number or a string.
// What cannot be one is the zero Time: the tokens beside it matter more.
type authTime struct{ time.Time }

func (t *authTime) UnmarshalJSON(raw []byte) error {
	if n, err := numberOrString(raw); err == nil && 0 < n && n <= maxUnix {
		t.Time = time.Unix(n, 0)
	}
	return nil
}

// maxUnix is the end of the year 9999.
const maxUnix = 253402300799
