package proxy

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/link"
	"lingpai/proxy/route"
	"lingpai/tokens/secret"
)

// authorizationLink makes a link by which a merchant authorizes the platform,
// with a pre_auth_code that nobody else is given.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (p *Proxy) authorizationLink(ctx *fasthttp.RequestCtx, s *settings, c *call, now time.Time) *fault {
	if f := c.body.read(ctx, c.fields.chunked, spillAbove, min(s.MaxBody, spillAbove)); f != nil {
		return f
	}
	c.bodyRead = true
	if s.Follower {
		return faultFollower // the code that the link leads to could not be exchanged
	}
	links := link.Config{PublicURL: s.PublicURL, LoginURL: s.LoginURL}
	request, err := links.Read(c.body.memory)
	if err != nil {
		return badRequest(err.Error()) // link.Invalid, whose texts are for callers
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
	var reply bytes.Buffer
	encoder := json.NewEncoder(&reply)
	encoder.SetEscapeHTML(false) // a link is to be copied as it stands
	pc, mobile := links.URLs(key.AppID, secret.New(code.Code), request)
	if encoder.Encode(link.Answer{PreAuthCode: code.Code, ExpiresIn: expiresIn, PC: pc, Mobile: mobile}) != nil {
		return faultPanic
	}
	answerJSON(ctx, bytes.TrimSpace(reply.Bytes()))
	return nil
}
