package proxy

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/route"
	"lingpai/tokens"
)

// linkRequest is what an app may say of an authorization link.
type linkRequest struct {
	RedirectURI    string `json:"redirect_uri"`
	AuthType       *int   `json:"auth_type"`
	BizAppID       string `json:"biz_appid"`
	CategoryIDList string `json:"category_id_list"`
}

var (
	faultLinkBody = badRequest("the body must be a JSON object with redirect_uri, auth_type (a number), biz_appid, category_id_list, all of them optional")
	faultRedirect = badRequest("redirect_uri must be a whole https address on the domain registered with WeChat (or set callback.public_url)")
	faultAuthType = badRequest("auth_type must be 1 (official accounts), 2 (mini programs), 3 (both), 4, 5, 6 (all) or 8")
	faultBizAppID = badRequest("biz_appid must be the app id of the one account that may authorize")
	faultCategory = badRequest("category_id_list must be ids of permission sets, joined by |")
)

var (
	bizAppID   = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)
	categories = regexp.MustCompile(`^[0-9]{1,9}(\|[0-9]{1,9})*$`)
)

// readLinkRequest reads and checks the body of a request for a link. publicURL
// is where browsers reach listen.callback, "" if that is not known.
func readLinkRequest(body []byte, publicURL string) (request linkRequest, f *fault) {
	if len(bytes.TrimSpace(body)) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(body))
		decoder.DisallowUnknownFields()
		if !json.Valid(body) || decoder.Decode(&request) != nil {
			return request, faultLinkBody
		}
	}
	if request.RedirectURI == "" && publicURL != "" {
		request.RedirectURI = publicURL + "/authorize/done"
	}
	u, err := url.Parse(request.RedirectURI)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return request, faultRedirect
	case request.AuthType != nil && !slices.Contains([]int{1, 2, 3, 4, 5, 6, 8}, *request.AuthType):
		return request, faultAuthType
	case request.BizAppID != "" && !bizAppID.MatchString(request.BizAppID):
		return request, faultBizAppID
	case request.CategoryIDList != "" && !categories.MatchString(request.CategoryIDList):
		return request, faultCategory
	}
	return request, nil
}

// authorizationLink makes a link by which a merchant authorizes the platform,
// with a pre_auth_code that nobody else is given.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (p *Proxy) authorizationLink(ctx *fasthttp.RequestCtx, s *settings, c *call, now time.Time) *fault {
	if f := c.body.read(ctx, c.fields.chunked, spillAbove, min(s.MaxBody, spillAbove)); f != nil {
		return f
	}
	c.bodyRead = true
	request, f := readLinkRequest(c.body.memory, s.PublicURL)
	if f != nil {
		return f
	}
	key, ok := p.tokens.ComponentKey()
	if !ok {
		return faultNoPlatform
	}
	body, err := json.Marshal(map[string]string{"component_appid": key.AppID})
	if err != nil {
		return faultPanic
	}
	chosen := choice{token: route.Component, param: route.ComponentAccessToken}
	if f := p.ask(ctx, s, c, chosen, "POST", "/cgi-bin/component/api_create_preauthcode", "", body, now); f != nil {
		return f
	}
	answer, f := wholeAnswer(&ctx.Response)
	if f != nil {
		return f
	}
	var code struct {
		Code      string      `json:"pre_auth_code"`
		ExpiresIn json.Number `json:"expires_in"` // also as a string
	}
	if json.Unmarshal(answer, &code) != nil || code.Code == "" {
		return refusedBy(answer, "a pre_auth_code")
	}
	expiresIn, _ := code.ExpiresIn.Int64()
	pc, mobile := authorizationLinks(key, code.Code, request)
	var reply bytes.Buffer
	encoder := json.NewEncoder(&reply)
	encoder.SetEscapeHTML(false) // a link is to be copied as it stands
	err = encoder.Encode(struct {
		Code      string `json:"pre_auth_code"`
		ExpiresIn int64  `json:"expires_in"`
		PC        string `json:"pc_url"`
		Mobile    string `json:"mobile_url"`
	}{code.Code, expiresIn, pc, mobile})
	if err != nil {
		return faultPanic
	}
	answerJSON(ctx, bytes.TrimSpace(reply.Bytes()))
	return nil
}

// authorizationLinks are the addresses of WeChat's authorization page, to scan
// on a PC and to open in WeChat.
func authorizationLinks(key tokens.Key, code string, request linkRequest) (pc, mobile string) {
	authType := 3 // official accounts and mini programs
	if request.AuthType != nil {
		authType = *request.AuthType
	}
	var query strings.Builder
	add := func(name, value string) {
		if value != "" {
			query.WriteString("&" + name + "=" + url.QueryEscape(value))
		}
	}
	add("component_appid", key.AppID)
	add("pre_auth_code", code)
	add("redirect_uri", request.RedirectURI)
	add("auth_type", strconv.Itoa(authType))
	add("biz_appid", request.BizAppID)
	add("category_id_list", request.CategoryIDList)
	pc = "https://mp.weixin.qq.com/cgi-bin/componentloginpage?" + query.String()[1:]
	mobile = "https://open.weixin.qq.com/wxaopen/safe/bindcomponent?action=bindcomponent&no_scan=1" + query.String() + "#wechat_redirect"
	return pc, mobile
}
