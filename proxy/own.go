package proxy

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/route"
	"lingpai/tokens"
)

// ownPrefix begins the paths that are lingpai's own, never WeChat's.
var ownPrefix = []byte("/_lingpai/")

var faultMethod = &fault{status: fasthttp.StatusMethodNotAllowed, proxyError: "http_request_error",
	message: "this path takes another method; see README.md"}

// serveOwn serves what lingpai offers apps beside WeChat's API.
func (p *Proxy) serveOwn(ctx *fasthttp.RequestCtx, s *settings, c *call, path, query, named []byte, now time.Time) *fault {
	switch string(path) {
	case "/_lingpai/v1/health":
		if !ctx.IsGet() && !ctx.IsHead() {
			return faultMethod
		}
		answerJSON(ctx, []byte(`{"status":"ok"}`))
		return nil
	case "/_lingpai/v1/jssdk-signature":
		if !ctx.IsGet() {
			return faultMethod
		}
		return p.jssdkSignature(ctx, s, c, paramValue(query, "url"), named, now)
	case "/_lingpai/v1/authorization-link":
		if !ctx.IsPost() {
			return faultMethod
		}
		return p.authorizationLink(ctx, s, c, now)
	}
	return faultOwnPath
}

// ask makes a call of lingpai's own to WeChat's path, with the token of key; the
// answer is in ctx.Response.
func (p *Proxy) ask(ctx *fasthttp.RequestCtx, s *settings, c *call, chosen choice, method, path, query string, body []byte, now time.Time) *fault {
	o := &c.outgoing
	o.method, o.path, o.rest, o.param = []byte(method), []byte(path), []byte(query), chosen.param.String()
	o.hasQuery, o.forward, o.body = query != "", nil, &c.body
	c.body.close()
	if body != nil {
		c.body.replace(body)
		o.forward = []byte("Content-Type: application/json\r\n")
	}
	var f *fault
	if o.token, f = p.tokenFor(c, chosen, now); f != nil {
		return f
	}
	return p.cached(ctx, s.names.main, c, now)
}

// jssdkSignature signs a page's URL for wx.config, so that no app needs the
// ticket.
// https://developers.weixin.qq.com/doc/offiaccount/OA_Web_Apps/JS-SDK.html
func (p *Proxy) jssdkSignature(ctx *fasthttp.RequestCtx, s *settings, c *call, page string, named []byte, now time.Time) *fault {
	page, _, _ = strings.Cut(page, "#")
	if u, err := url.Parse(page); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return badRequest("url must be the page's whole address, percent-encoded, such as url=https%3A%2F%2Fexample.com%2F")
	}
	if len(named) == 0 {
		return faultNoAccount
	}
	appID := string(named)
	chosen := choice{token: route.Authorizer, param: route.AccessToken, appID: named}
	if f := p.ask(ctx, s, c, chosen, "GET", "/cgi-bin/ticket/getticket", "type=jsapi", nil, now); f != nil {
		return f
	}
	answer, err := wholeAnswer(&ctx.Response)
	var ticket struct {
		Ticket string `json:"ticket"`
	}
	if err != nil || json.Unmarshal(answer, &ticket) != nil || ticket.Ticket == "" {
		return refusedBy(answer, "a jsapi ticket")
	}
	nonce, timestamp := randomText(), strconv.FormatInt(time.Now().Unix(), 10)
	body, err := json.Marshal(struct {
		AppID     string `json:"appId"`
		Timestamp int64  `json:"timestamp"`
		Nonce     string `json:"nonceStr"`
		Signature string `json:"signature"`
	}{appID, time.Now().Unix(), nonce, signPage(ticket.Ticket, nonce, timestamp, page)})
	if err != nil {
		return faultPanic
	}
	answerJSON(ctx, body)
	return nil
}

// signPage is the signature of wx.config: SHA-1 of the sorted parameters.
func signPage(ticket, nonce, timestamp, page string) string {
	sum := sha1.Sum([]byte("jsapi_ticket=" + ticket + "&noncestr=" + nonce + "&timestamp=" + timestamp + "&url=" + page))
	return hex.EncodeToString(sum[:])
}

func randomText() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// refusedBy is the answer when WeChat refuses what an own path needs.
func refusedBy(answer []byte, what string) *fault {
	f := &fault{status: fasthttp.StatusBadGateway, proxyError: "http_response_incomplete", message: "WeChat does not give " + what + " now"}
	if code := errcodeOf(answer); code != 0 {
		f.message = "WeChat refuses " + what + " with errcode " + strconv.Itoa(code)
	}
	return f
}

// linkRequest is what an app may say of an authorization link.
type linkRequest struct {
	RedirectURI    string `json:"redirect_uri"`
	AuthType       *int   `json:"auth_type"`
	BizAppID       string `json:"biz_appid"`
	CategoryIDList string `json:"category_id_list"`
}

// authorizationLink makes a link by which a merchant authorizes the platform,
// with a pre_auth_code that nobody else is given.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (p *Proxy) authorizationLink(ctx *fasthttp.RequestCtx, s *settings, c *call, now time.Time) *fault {
	if f := c.body.read(ctx, c.fields.chunked, spillAbove, min(s.MaxBody, spillAbove)); f != nil {
		return f
	}
	c.bodyRead = true
	var request linkRequest
	if len(c.body.memory) > 0 && json.Unmarshal(c.body.memory, &request) != nil {
		return badRequest("the body must be a JSON object with redirect_uri, auth_type (a number), biz_appid, category_id_list, all of them optional")
	}
	if request.RedirectURI == "" && s.PublicURL != "" {
		request.RedirectURI = s.PublicURL + "/authorize/done"
	}
	if u, err := url.Parse(request.RedirectURI); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return badRequest("redirect_uri must be a whole https address on the domain registered with WeChat (or set callback.public_url)")
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
	answer, err := wholeAnswer(&ctx.Response)
	var code struct {
		Code      string `json:"pre_auth_code"`
		ExpiresIn int64  `json:"expires_in"`
	}
	if err != nil || json.Unmarshal(answer, &code) != nil || code.Code == "" {
		return refusedBy(answer, "a pre_auth_code")
	}
	pc, mobile := authorizationLinks(key, code.Code, request)
	reply, err := json.Marshal(struct {
		Code      string `json:"pre_auth_code"`
		ExpiresIn int64  `json:"expires_in"`
		PC        string `json:"pc_url"`
		Mobile    string `json:"mobile_url"`
	}{code.Code, code.ExpiresIn, pc, mobile})
	if err != nil {
		return faultPanic
	}
	answerJSON(ctx, reply)
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
