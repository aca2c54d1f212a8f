package proxy

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/route"
)

// tokenRequest is what SDKs send to the token endpoints. Secrets, tickets and
// refresh tokens that come along are not looked at.
type tokenRequest struct {
	GrantType       looseText `json:"grant_type"`
	AppID           looseText `json:"appid"`
	ForceRefresh    looseBool `json:"force_refresh"`
	ComponentAppID  looseText `json:"component_appid"`
	AuthorizerAppID looseText `json:"authorizer_appid"`
}

// looseText is a string; anything else is the text that it is written as, which
// then names nothing that there is.
type looseText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *looseText) UnmarshalJSON(raw []byte) error {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	*t = looseText(text)
	return nil
}

// looseBool is a bool; 1 and "true" in any case are true as well.
type looseBool bool

// UnmarshalJSON implements json.Unmarshaler.
func (b *looseBool) UnmarshalJSON(raw []byte) error {
	switch strings.ToLower(strings.Trim(string(raw), `"`)) {
	case "true", "1":
		*b = true
	}
	return nil
}

// readTokenRequest reads query and body; refusal is set for what WeChat would
// refuse as well. /cgi-bin/token takes its parameters from the query, and from a
// form or JSON: pages and SDKs disagree.
func readTokenRequest(ctx *fasthttp.RequestCtx, s *settings, c *call, work route.Work) (request tokenRequest, refusal weChatError, f *fault) {
	if work != route.AnswerToken && !ctx.IsPost() {
		return request, errMethod, nil
	}
	if f := c.body.read(ctx, c.fields.chunked, spillAbove, min(s.MaxBody, spillAbove)); f != nil {
		return request, refusal, f
	}
	c.bodyRead = true
	body := bytes.TrimPrefix(c.body.memory, []byte("\ufeff"))
	isJSON := len(body) == 0 || json.Unmarshal(body, &request) == nil
	if work != route.AnswerToken {
		if !isJSON {
			refusal = errDataFormat
		}
		return request, refusal, nil
	}
	sources := [][]byte{c.query.rest}
	if !isJSON {
		request = tokenRequest{}
		sources = append(sources, body)
	}
	for _, source := range sources {
		if v := paramValue(source, "grant_type"); v != "" {
			request.GrantType = looseText(v)
			break
		}
	}
	for _, source := range sources {
		if v := paramValue(source, "appid"); v != "" {
			request.AppID = looseText(v)
			break
		}
	}
	return request, refusal, nil
}
