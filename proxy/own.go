package proxy

import (
	"bytes"
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
)

// ownPrefix begins the paths that are lingpai's own, never WeChat's.
var ownPrefix = []byte("/_lingpai/")

// ownPath returns a path spelled the one way that serveOwn knows; nil if it is
// WeChat's.
func ownPath(path []byte) []byte {
	if bytes.HasPrefix(path, ownPrefix) {
		return path
	}
	if !bytes.Contains(path, []byte("lingpai")) { // all others pay no more than that
		return nil
	}
	if path = route.Canonical(path); bytes.HasPrefix(path, ownPrefix) {
		return path
	}
	return nil
}

// faultMethod is the answer to a path of lingpai's own that takes other methods.
func faultMethod(allow string) *fault {
	return &fault{status: fasthttp.StatusMethodNotAllowed, proxyError: "http_request_error", allow: allow,
		message: "this path takes the method " + allow}
}

// serveOwn serves what lingpai offers apps beside WeChat's API.
func (p *Proxy) serveOwn(ctx *fasthttp.RequestCtx, s *settings, c *call, path, query, named []byte, now time.Time) *fault {
	defer func() { c.outgoing.path = path }() // for the log
	switch string(path) {
	case "/_lingpai/v1/health":
		if !ctx.IsGet() && !ctx.IsHead() {
			return faultMethod("GET, HEAD")
		}
		answerJSON(ctx, []byte(`{"status":"ok"}`))
		return nil
	case "/_lingpai/v1/jssdk-signature":
		if !ctx.IsGet() {
			return faultMethod("GET")
		}
		return p.jssdkSignature(ctx, s, c, query, named, now)
	case "/_lingpai/v1/authorization-link":
		if !ctx.IsPost() {
			return faultMethod("POST")
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
	if o.token, f = p.tokenFor(c, chosen, nil, now); f != nil {
		return f
	}
	return p.cached(ctx, s.names.main, c, now)
}

// jssdkSignature signs a page's URL for wx.config, so that no app needs the
// ticket.
// https://developers.weixin.qq.com/doc/offiaccount/OA_Web_Apps/JS-SDK.html
func (p *Proxy) jssdkSignature(ctx *fasthttp.RequestCtx, s *settings, c *call, query, named []byte, now time.Time) *fault {
	page, f := pageOf(query)
	if f != nil {
		return f
	}
	if len(named) == 0 {
		return faultNoAccount
	}
	appID := string(named)
	chosen := choice{token: route.Authorizer, param: route.AccessToken, appID: named}
	if f := p.ask(ctx, s, c, chosen, "GET", "/cgi-bin/ticket/getticket", "type=jsapi", nil, now); f != nil {
		return f
	}
	answer, f := wholeAnswer(&ctx.Response)
	if f != nil {
		return f
	}
	var ticket struct {
		Ticket string `json:"ticket"`
	}
	if json.Unmarshal(answer, &ticket) != nil || ticket.Ticket == "" {
		return refusedBy(answer, "a jsapi ticket")
	}
	nonce, timestamp := randomText(), time.Now().Unix()
	body, err := json.Marshal(struct {
		AppID     string `json:"appId"`
		Timestamp int64  `json:"timestamp"`
		Nonce     string `json:"nonceStr"`
		Signature string `json:"signature"`
	}{appID, timestamp, nonce, signPage(ticket.Ticket, nonce, strconv.FormatInt(timestamp, 10), page)})
	if err != nil {
		return faultPanic
	}
	answerJSON(ctx, body)
	return nil
}

var faultPage = badRequest("url must be the page's whole address, percent-encoded, such as url=https%3A%2F%2Fexample.com%2F")

// pageOf returns the address of the page to be signed, without its fragment.
func pageOf(query []byte) (string, *fault) {
	page := paramValue(query, "url")
	if strings.Contains(page, "?") && bytes.IndexByte(query, '?') >= 0 && bytes.IndexByte(query, '&') >= 0 {
		return "", faultPage // not percent-encoded: which parameters are the page's?
	}
	page, _, _ = strings.Cut(page, "#")
	if u, err := url.Parse(page); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", faultPage
	}
	return page, nil
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
