// Package wechat is the client of the few WeChat calls that lingpai makes by
// itself: those that obtain credentials. It speaks net/http: a few calls an
// hour gain nothing from a faster stack, and contexts come with it.
package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lingpai/tokens/secret"
)

// maxAnswer bounds an answer of WeChat, in bytes: a page of 500 authorizers
// takes about 150 KiB.
const maxAnswer = 4 << 20

// ErrBrokenAnswer means that WeChat answered something that is not the JSON
// the endpoint documents.
var ErrBrokenAnswer = errors.New("answer is not what the endpoint documents")

// Client calls WeChat. Make one with NewClient. Safe for concurrent use.
type Client struct {
	http    *http.Client
	base    string
	timeout time.Duration
}

// NewClient returns a client of the WeChat at base (https://api.weixin.qq.com,
// no slash at the end) that gives each call at most timeout. The http client
// must follow no redirects to other hosts with a token in the URL: NewClient
// sets it to follow none.
func NewClient(transport http.RoundTripper, base string, timeout time.Duration) *Client {
	return &Client{
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base:    base,
		timeout: timeout,
	}
}

// CloseIdleConnections closes connections that wait for a next call.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// AccessToken is an access token as WeChat issues it.
type AccessToken struct {
	Value     secret.String
	ExpiresIn time.Duration // counted from before the call
}

// ComponentToken obtains a component_access_token. Every success makes the
// former token die within minutes.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken
func (c *Client) ComponentToken(ctx context.Context, appID string, appSecret, ticket secret.String) (AccessToken, error) {
	const path = "/cgi-bin/component/api_component_token"
	var answer struct {
		Token     string  `json:"component_access_token"`
		ExpiresIn seconds `json:"expires_in"`
	}
	body := map[string]string{
		"component_appid":         appID,
		"component_appsecret":     appSecret.Reveal(),
		"component_verify_ticket": ticket.Reveal(),
	}
	if err := c.post(ctx, path, secret.String{}, body, &answer, appSecret, ticket); err != nil {
		return AccessToken{}, err
	}
	return accessToken(path, answer.Token, answer.ExpiresIn)
}

// Grant is what an authorization or a refresh brings for one authorizer.
type Grant struct {
	AppID        string
	AccessToken  AccessToken   // empty if the account has no API permission
	RefreshToken secret.String // empty: keep the one there is
	Scopes       []int         // ids of the permission sets; nil from a refresh
	// Answer is WeChat's whole answer to api_query_auth. It holds the tokens:
	// never log it.
	Answer []byte
}

// AuthorizerToken obtains an authorizer_access_token with a refresh token.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizeraccesstoken.html
func (c *Client) AuthorizerToken(ctx context.Context, componentToken secret.String, componentAppID, appID string, refreshToken secret.String) (Grant, error) {
	const path = "/cgi-bin/component/api_authorizer_token"
	var answer struct {
		Token        string  `json:"authorizer_access_token"`
		ExpiresIn    seconds `json:"expires_in"`
		RefreshToken string  `json:"authorizer_refresh_token"`
	}
	body := map[string]string{
		"component_appid":          componentAppID,
		"authorizer_appid":         appID,
		"authorizer_refresh_token": refreshToken.Reveal(),
	}
	if err := c.post(ctx, path, componentToken, body, &answer, refreshToken); err != nil {
		return Grant{}, err
	}
	token, err := accessToken(path, answer.Token, answer.ExpiresIn)
	return Grant{AppID: appID, AccessToken: token, RefreshToken: secret.New(answer.RefreshToken)}, err
}

const pathQueryAuth = "/cgi-bin/component/api_query_auth"

// QueryAuth exchanges an authorization code, which can be done once.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizerrefreshtoken
func (c *Client) QueryAuth(ctx context.Context, componentToken secret.String, componentAppID string, code secret.String) (Grant, error) {
	body := map[string]string{"component_appid": componentAppID, "authorization_code": code.Reveal()}
	var raw json.RawMessage
	if err := c.post(ctx, pathQueryAuth, componentToken, body, &raw, code); err != nil {
		return Grant{}, err
	}
	return ParseGrant(raw)
}

// ParseGrant reads an answer of api_query_auth without errcode, and keeps it.
// Errors are *TransportError.
func ParseGrant(raw []byte) (Grant, error) {
	var answer struct {
		Info struct {
			AppID        string  `json:"authorizer_appid"`
			Token        string  `json:"authorizer_access_token"`
			ExpiresIn    seconds `json:"expires_in"`
			RefreshToken string  `json:"authorizer_refresh_token"`
			FuncInfo     scopes  `json:"func_info"`
		} `json:"authorization_info"`
	}
	if json.Unmarshal(raw, &answer) != nil {
		return Grant{}, broken(pathQueryAuth, "a field has another type")
	}
	info := answer.Info
	if info.AppID == "" {
		return Grant{}, broken(pathQueryAuth, "no authorizer_appid")
	}
	grant := Grant{AppID: info.AppID, RefreshToken: secret.New(info.RefreshToken), Scopes: append([]int{}, info.FuncInfo...), Answer: raw}
	// The code is spent: what has come is kept, whatever is missing. An account
	// without API permission gets neither token.
	if token, err := accessToken(pathQueryAuth, info.Token, info.ExpiresIn); err == nil {
		grant.AccessToken = token
	}
	return grant, nil
}

// scopes are the ids of a func_info. One of another form than documented is as
// good as none: the tokens beside it matter more.
type scopes []int

func (s *scopes) UnmarshalJSON(raw []byte) error {
	var info []struct {
		Category struct {
			ID int `json:"id"`
		} `json:"funcscope_category"`
	}
	if json.Unmarshal(raw, &info) != nil {
		return nil
	}
	for _, f := range info {
		*s = append(*s, f.Category.ID)
	}
	return nil
}

// PreAuthCode obtains a pre_auth_code, by which one visitor is let in to WeChat's
// authorization page, once. Several live side by side.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getpreauthcode
func (c *Client) PreAuthCode(ctx context.Context, componentToken secret.String, componentAppID string) (code secret.String, expiresIn time.Duration, err error) {
	const path = "/cgi-bin/component/api_create_preauthcode"
	var answer struct {
		Code      string  `json:"pre_auth_code"`
		ExpiresIn seconds `json:"expires_in"`
	}
	if err := c.post(ctx, path, componentToken, map[string]string{"component_appid": componentAppID}, &answer); err != nil {
		return secret.String{}, 0, err
	}
	if answer.Code == "" {
		return secret.String{}, 0, broken(path, "no pre_auth_code")
	}
	if answer.ExpiresIn <= 0 {
		return secret.String{}, 0, broken(path, "no expires_in")
	}
	return secret.New(answer.Code), time.Duration(answer.ExpiresIn) * time.Second, nil
}

// AuthorizerInfo reads what WeChat has of an account, and the name under which
// users know it, "" if it has none.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo
func (c *Client) AuthorizerInfo(ctx context.Context, componentToken secret.String, componentAppID, appID string) (info AuthorizerInfo, name string, err error) {
	const path = "/cgi-bin/component/api_get_authorizer_info"
	var raw json.RawMessage
	body := map[string]string{"component_appid": componentAppID, "authorizer_appid": appID}
	if err := c.post(ctx, path, componentToken, body, &raw); err != nil {
		return AuthorizerInfo{}, "", err
	}
	var answer struct {
		Info struct {
			NickName string `json:"nick_name"`
		} `json:"authorizer_info"`
	}
	info, err = ParseAuthorizerInfo(raw)
	if err != nil || json.Unmarshal(raw, &answer) != nil {
		return AuthorizerInfo{}, "", broken(path, "a field has another type")
	}
	return info, answer.Info.NickName, nil
}

// AuthorizerList reads a page of at most 500 of the accounts that authorized the
// platform, and says how many there are in all.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerlist
func (c *Client) AuthorizerList(ctx context.Context, componentToken secret.String, componentAppID string, offset, count int) (list []ListedAuthorizer, total int, err error) {
	var raw json.RawMessage
	body := map[string]any{"component_appid": componentAppID, "offset": offset, "count": count}
	const path = "/cgi-bin/component/api_get_authorizer_list"
	if err := c.post(ctx, path, componentToken, body, &raw); err != nil {
		return nil, 0, err
	}
	list, total, err = ParseAuthorizerList(raw)
	if err != nil {
		return nil, 0, broken(path, "a field has another type")
	}
	if total < 0 { // an empty list would say that nobody authorizes the platform
		return nil, 0, broken(path, "no total_count")
	}
	return list, total, nil
}

// StableToken obtains the access token of a direct account. Without force
// WeChat gives the same token until 5 min before its end.
// https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken
func (c *Client) StableToken(ctx context.Context, appID string, appSecret secret.String, force bool) (AccessToken, error) {
	const path = "/cgi-bin/stable_token"
	var answer struct {
		Token     string  `json:"access_token"`
		ExpiresIn seconds `json:"expires_in"`
	}
	body := map[string]any{
		"grant_type":    "client_credential",
		"appid":         appID,
		"secret":        appSecret.Reveal(),
		"force_refresh": force,
	}
	if err := c.post(ctx, path, secret.String{}, body, &answer, appSecret); err != nil {
		return AccessToken{}, err
	}
	return accessToken(path, answer.Token, answer.ExpiresIn)
}

// StartPushTicket asks WeChat to push component_verify_tickets. The answer is
// WeChat's errmsg: "ok" if the push was off, "in a normal state" if it was on.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_startpushticket.html
func (c *Client) StartPushTicket(ctx context.Context, appID string, appSecret secret.String) (string, error) {
	var answer struct {
		Message string `json:"errmsg"`
	}
	body := map[string]string{"component_appid": appID, "component_secret": appSecret.Reveal()}
	err := c.post(ctx, "/cgi-bin/component/api_start_push_ticket", secret.String{}, body, &answer, appSecret)
	return scrub(answer.Message, appSecret), err
}

// ClearQuota clears the platform's call quotas, 10 times a month at most. It
// needs no token: it is the way out when none can be had.
// https://developers.weixin.qq.com/doc/oplatform/openApi/openapi/api_componentclearquota_v2.html
func (c *Client) ClearQuota(ctx context.Context, appID string, appSecret secret.String) error {
	body := map[string]string{"component_appid": appID, "appid": appID, "appsecret": appSecret.Reveal()}
	return c.post(ctx, "/cgi-bin/component/clear_quota/v2", secret.String{}, body, &struct{}{}, appSecret)
}

// post sends body as JSON with the component's token, if there is one, and
// decodes the answer. The values in sent never show in an error.
func (c *Client) post(ctx context.Context, path string, componentToken secret.String, body, answer any, sent ...secret.String) error {
	query := ""
	if !componentToken.Empty() {
		// Old pages and SDKs name it so, new pages access_token; WeChat takes both.
		query = "?component_access_token=" + url.QueryEscape(componentToken.Reveal())
		sent = append(sent, componentToken)
	}
	return c.send(ctx, path, query, body, answer, sent...)
}

// send is post with a query, which begins with a question mark or is empty.
func (c *Client) send(ctx context.Context, path, query string, body, answer any, sent ...secret.String) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	payload, err := json.Marshal(body)
	if err != nil {
		return &TransportError{path, err}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path+query, bytes.NewReader(payload))
	if err != nil {
		return &TransportError{path, errors.New("upstream.url is not a URL")}
	}
	request.Header.Set("Content-Type", "application/json; charset=utf-8")
	response, err := c.http.Do(request)
	if err != nil {
		return &TransportError{path, harmless(err, sent...)}
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return &TransportError{path, harmless(err, sent...)}
	}
	if response.StatusCode != http.StatusOK {
		return &TransportError{path, fmt.Errorf("HTTP status %d", response.StatusCode)}
	}
	if len(raw) > maxAnswer {
		return broken(path, "it is too long")
	}
	var status struct {
		Code    errcode `json:"errcode"`
		Message string  `json:"errmsg"`
	}
	if object := bytes.TrimSpace(raw); len(object) == 0 || object[0] != '{' || json.Unmarshal(raw, &status) != nil {
		return broken(path, "it is no JSON object")
	}
	if status.Code != 0 {
		return &Error{Code: int(status.Code), Message: scrub(status.Message, sent...), Endpoint: path}
	}
	if json.Unmarshal(raw, answer) != nil {
		return broken(path, "a field has another type")
	}
	return nil
}

// harmless unwraps *url.Error, whose text is the whole URL with its query, the
// token included, and takes the values in sent out of what is left: a Location
// that cannot be read, say, is repeated in full.
func harmless(err error, sent ...secret.String) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if text := err.Error(); scrub(text, sent...) != text {
		return errors.New(scrub(text, sent...))
	}
	return err
}

func broken(path, what string) error {
	return &TransportError{path, fmt.Errorf("%w: %s", ErrBrokenAnswer, what)}
}

// accessToken refuses what would be taken for a token by hope: an empty value
// or no lifetime, even with HTTP 200 and no errcode.
func accessToken(path, value string, expiresIn seconds) (AccessToken, error) {
	if value == "" {
		return AccessToken{}, broken(path, "no access token")
	}
	if expiresIn <= 0 {
		return AccessToken{}, broken(path, "no expires_in")
	}
	return AccessToken{Value: secret.New(value), ExpiresIn: time.Duration(expiresIn) * time.Second}, nil
}

// seconds is a number of seconds, written as a number or a string.
type seconds int64

// maxSeconds bounds expires_in: 10 years, so that no arithmetic overflows.
const maxSeconds = 10 * 365 * 24 * 3600

func (s *seconds) UnmarshalJSON(raw []byte) error {
	n, err := numberOrString(raw)
	*s = seconds(min(max(n, 0), maxSeconds))
	return err
}

// errcode is an errcode, written as a number or a string.
type errcode int

func (e *errcode) UnmarshalJSON(raw []byte) error {
	n, err := numberOrString(raw)
	*e = errcode(n)
	return err
}

// numberOrString reads an integer; one that is too large gives the largest.
func numberOrString(raw []byte) (int64, error) {
	text := strings.TrimSpace(strings.Trim(string(raw), `"`))
	if text == "" || text == "null" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64) // 7200.0, 7.2e3
	return int64(min(max(f, math.MinInt32), math.MaxInt32)), err
}
