package proxy

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/mask"
	"lingpai/proxy/route"
	"lingpai/tokens"
)

// errcodes that are answered in WeChat's shape, since SDKs know them.
var (
	errGrantType     = weChatError{40002, "invalid grant_type"}
	errAppID         = weChatError{40013, "invalid appid"}
	errNoAppID       = weChatError{41002, "appid missing"}
	errComponentAcct = weChatError{61024, "must use api_component_token to get token for component acct"}
	errDataFormat    = weChatError{47001, "data format error"}
	errMethod        = weChatError{43002, "require POST method"}
)

type weChatError struct {
	code    int
	message string
}

// write answers as WeChat does: HTTP 200 with an errcode.
func (e weChatError) write(ctx *fasthttp.RequestCtx) {
	body := append([]byte(`{"errcode":`), strconv.Itoa(e.code)...)
	body = append(body, `,"errmsg":`...)
	answerJSON(ctx, append(appendJSONString(body, e.message), '}'))
}

// answerJSON makes body the call's answer, as one of lingpai's own.
func answerJSON(ctx *fasthttp.RequestCtx, body []byte) {
	response := &ctx.Response
	response.Reset() // which makes fasthttp add a Date
	response.Header.DisableNormalizing()
	response.Header.SetNoDefaultContentType(true)
	response.Header.SetContentType("application/json")
	response.Header.Set("Cache-Control", "no-store")
	response.SetBodyRaw(body)
}

// emulate answers a token endpoint with a placeholder. The app never gets to see
// a token.
func (p *Proxy) emulate(ctx *fasthttp.RequestCtx, s *settings, c *call, work route.Work, named []byte) *fault {
	request, refusal, f := readTokenRequest(ctx, s, c, work)
	if f != nil {
		return f
	}
	if refusal != (weChatError{}) {
		refusal.write(ctx)
		return nil
	}
	if key, ok := p.tokens.ComponentKey(); ok && request.ComponentAppID != "" && string(request.ComponentAppID) != key.AppID {
		errAppID.write(ctx)
		return nil
	}
	switch work {
	case route.AnswerComponentToken:
		return p.answerComponentToken(ctx)
	case route.AnswerAuthorizerToken:
		return p.answerAuthorizerToken(ctx, c, request, named)
	}
	return p.answerAccountToken(ctx, c, request, named)
}

// answerAccountToken serves /cgi-bin/token and /cgi-bin/stable_token: for direct
// accounts and, so that an app written for one account can serve an authorizer
// unchanged, for authorizers.
// https://developers.weixin.qq.com/doc/service/api/base/api_getstableaccesstoken
func (p *Proxy) answerAccountToken(ctx *fasthttp.RequestCtx, c *call, request tokenRequest, named []byte) *fault {
	appID := string(request.AppID)
	if appID == "" {
		appID = string(named)
	}
	component, hasComponent := p.tokens.ComponentKey()
	switch {
	case request.GrantType != "" && request.GrantType != "client_credential":
		errGrantType.write(ctx)
		return nil
	case appID == "":
		errNoAppID.write(ctx)
		return nil
	case hasComponent && appID == component.AppID:
		errComponentAcct.write(ctx)
		return nil
	}
	key := p.tokens.KeyOf(appID)
	obtain := p.tokens.Token
	if request.ForceRefresh {
		obtain = p.tokens.Force
	}
	t, err := obtain(context.Background(), key)
	if errors.Is(err, tokens.ErrUnknown) {
		errAppID.write(ctx)
		return nil
	}
	if err != nil {
		return tokenFault(err)
	}
	c.appID = appID
	answerPlaceholder(ctx, t, "access_token", placeholderOf(key), "")
	return nil
}

// answerComponentToken serves api_component_token.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken
func (p *Proxy) answerComponentToken(ctx *fasthttp.RequestCtx) *fault {
	key, ok := p.tokens.ComponentKey()
	if !ok {
		return faultNoPlatform
	}
	t, err := p.tokens.Token(context.Background(), key)
	if err != nil {
		return tokenFault(err)
	}
	answerPlaceholder(ctx, t, "component_access_token", mask.Component(key.AppID), "")
	return nil
}

// answerAuthorizerToken serves api_authorizer_token.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizeraccesstoken.html
func (p *Proxy) answerAuthorizerToken(ctx *fasthttp.RequestCtx, c *call, request tokenRequest, named []byte) *fault {
	appID := string(request.AuthorizerAppID)
	if appID == "" {
		appID = string(named)
	}
	if appID == "" {
		errAppID.write(ctx)
		return nil
	}
	key := p.tokens.KeyOf(appID)
	t, err := p.tokens.Token(context.Background(), key)
	if err != nil {
		return tokenFault(err)
	}
	c.appID = appID
	answerPlaceholder(ctx, t, "authorizer_access_token", placeholderOf(key), mask.Refresh(appID))
	return nil
}

// placeholderOf is what an app is given in place of an account's token.
func placeholderOf(key tokens.Key) string {
	if key.Kind == tokens.Account {
		return mask.Account(key.AppID)
	}
	return mask.Authorizer(key.AppID)
}

// answerPlaceholder answers in WeChat's shape with a placeholder and the
// lifetime that the token has left.
func answerPlaceholder(ctx *fasthttp.RequestCtx, t *tokens.Token, name, placeholder, refresh string) {
	left := max(int64(time.Until(t.ExpiresAt())/time.Second), 1)
	body := appendJSONString([]byte{'{'}, name)
	body = appendJSONString(append(body, ':'), placeholder)
	body = append(body, `,"expires_in":`...)
	body = strconv.AppendInt(body, left, 10)
	if refresh != "" {
		body = append(body, `,"authorizer_refresh_token":`...)
		body = appendJSONString(body, refresh)
	}
	answerJSON(ctx, append(body, '}'))
}
