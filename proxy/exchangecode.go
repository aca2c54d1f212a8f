package proxy

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/mask"
	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// refusedCode is an answer of WeChat to api_query_auth that brings nothing.
type refusedCode struct{ answer []byte }

func (r *refusedCode) Error() string { return "WeChat refuses the code" }

// exchangeCode serves api_query_auth. A code can be spent once, but the push may
// bring the same one, and an app may ask twice: all of them get the one answer,
// after what it brings is stored.
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizerrefreshtoken
func (p *Proxy) exchangeCode(ctx *fasthttp.RequestCtx, u *upstream, c *call) *fault {
	code := ""
	if c.body.inMemory() {
		code = stringMember(c.body.memory, "authorization_code")
	}
	if code == "" { // WeChat says what is wrong with that
		if f := p.pass(ctx, u, c, time.Now()); f != nil {
			return f
		}
		answer, f := wholeAnswer(&ctx.Response)
		if f != nil {
			return f
		}
		return giveMasked(ctx, answer, true)
	}
	led := false
	answer, err := p.tokens.ExchangeCode(context.Background(), secret.New(code), func() (_ wechat.Grant, err error) {
		led = true
		// It runs in a goroutine of the flight, where Handle's recover is not.
		defer func() {
			if recover() != nil {
				p.log.Error("panic while serving a call", "stack", string(debug.Stack()))
				err = faultPanic
			}
		}()
		if f := p.pass(ctx, u, c, time.Now()); f != nil {
			return wechat.Grant{}, f
		}
		answer, f := wholeAnswer(&ctx.Response)
		if f != nil {
			return wechat.Grant{}, f
		}
		answer = bytes.Clone(answer)
		if ctx.Response.StatusCode() != fasthttp.StatusOK || errcodeOf(answer) != 0 {
			return wechat.Grant{}, &refusedCode{answer}
		}
		grant, err := wechat.ParseGrant(answer)
		if err != nil { // nothing that could be kept; the app may know what it is
			return wechat.Grant{}, &refusedCode{answer}
		}
		return grant, nil
	})
	if refused, ok := errors.AsType[*refusedCode](err); ok {
		answer, err = refused.answer, nil
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	// The exchange was lingpai's own, for the push.
	if _, ok := errors.AsType[*wechat.TransportError](err); ok {
		return &fault{status: fasthttp.StatusBadGateway, proxyError: "http_response_incomplete",
			message: "WeChat's answer to the exchange of this code did not come, or is broken; lingpai tries again"}
	}
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		weChatError{e.Code, e.Message}.write(ctx)
		return nil
	}
	if err != nil {
		return tokenFault(err)
	}
	return giveMasked(ctx, answer, led)
}

// giveMasked gives an app an answer without the tokens in it: in the place of
// WeChat's own, whose fields stay, or as one of lingpai's.
func giveMasked(ctx *fasthttp.RequestCtx, answer []byte, relayed bool) *fault {
	if relayed && ctx.Response.StatusCode() != fasthttp.StatusOK {
		return nil // an error page
	}
	masked, err := mask.Grants(answer)
	if err != nil {
		return faultAnswer
	}
	if relayed {
		ctx.Response.SetBody(masked)
	} else {
		answerJSON(ctx, masked)
	}
	return nil
}
