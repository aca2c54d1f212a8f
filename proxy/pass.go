package proxy

import (
	"context"
	"errors"
	"time"
	"unsafe"

	"github.com/valyala/fasthttp"

	"lingpai/metrics"
	"lingpai/proxy/route"
	"lingpai/tokens"
	"lingpai/tokens/wechat"
)

// tokenFor returns the token a call gets, nil for none. If it has to be waited for,
// a connection to u, which may be nil, is opened meanwhile.
func (p *Proxy) tokenFor(c *call, chosen choice, u *upstream, now time.Time) (*tokens.Token, *fault) {
	t, key, missing := p.knownToken(c, chosen, now)
	if !missing {
		return t, nil
	}
	c.waited = true
	opened := u.connectAhead()
	t, err := p.tokens.Token(context.Background(), key)
	if err != nil {
		go opened() // another call may use it
		return nil, tokenFault(err)
	}
	opened()
	return t, nil
}

// knownToken returns the token a call gets, nil for none. If memory does not have
// it, it is missing, and key says which it is.
func (p *Proxy) knownToken(c *call, chosen choice, now time.Time) (t *tokens.Token, key tokens.Key, missing bool) {
	switch chosen.token {
	case route.None:
		return nil, key, false
	case route.User:
		c.label = metrics.TokenUser
		return nil, key, false
	case route.Component:
		c.label = metrics.TokenComponent
		if t = p.tokens.FindComponent(now); t == nil {
			key, _ = p.tokens.ComponentKey()
		}
	default:
		c.label = metrics.TokenAuthorizer
		t = p.tokens.Find(unsafe.String(unsafe.SliceData(chosen.appID), len(chosen.appID)), now)
		if t == nil {
			key = p.tokens.KeyOf(string(chosen.appID))
		} else {
			key = t.Key()
		}
		if key.Kind == tokens.Account {
			c.label = metrics.TokenAccount
		}
		c.appID = key.AppID
	}
	return t, key, t == nil
}

// pass sends a call on, and once more with another token if WeChat refuses the
// first one. now is when it begins.
func (p *Proxy) pass(ctx *fasthttp.RequestCtx, u *upstream, c *call, now time.Time) *fault {
	code, f := p.send(ctx, u, c, now)
	if f != nil {
		return f
	}
	token := c.outgoing.token
	if token == nil || !wechat.BadToken(code) {
		return nil
	}
	if !c.body.kept() {
		// The answer stands, but the next call must not meet the same token.
		go p.tokens.Rejected(context.Background(), token, code)
		p.metrics.Replay("body_not_kept")
		return nil
	}
	better, err := p.tokens.Rejected(context.Background(), token, code)
	if err != nil {
		if !errors.Is(err, tokens.ErrDeclined) {
			p.log.Debug("a refused token was not replaced", "error", err)
		}
		p.metrics.Replay("declined")
		return nil
	}
	c.outgoing.token = better
	code, f = p.send(ctx, u, c, time.Now())
	switch {
	case f != nil:
		p.metrics.Replay("error")
	case wechat.BadToken(code):
		p.metrics.Replay("refused")
	default:
		p.metrics.Replay("ok")
	}
	return f
}

// send makes one exchange, which begins now, and returns the errcode of the answer.
func (p *Proxy) send(ctx *fasthttp.RequestCtx, u *upstream, c *call, now time.Time) (int, *fault) {
	later, err := c.later, error(nil)
	if later == nil {
		_, err = u.exchange(&c.outgoing, &ctx.Response, now)
	} else {
		c.later = nil
		err = later(&ctx.Response)
	}
	c.ended = time.Now()
	p.metrics.Upstream(c.ended.Sub(now))
	if err != nil {
		p.log.Warn("call not answered by WeChat", "path", string(c.outgoing.path), "error", err)
		return 0, upstreamFault(err)
	}
	var body []byte
	switch o := &c.outgoing; {
	case o.answered:
		body = o.answer[o.answerHead:]
	case ctx.Response.IsBodyStream():
		return 0, nil
	default:
		body = ctx.Response.Body()
	}
	code := errcodeOf(body)
	p.metrics.Errcode(code)
	return code, nil
}
