package proxy

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/jsonedit"
	"lingpai/proxy/mask"
	"lingpai/proxy/route"
	"lingpai/tokens/wechat"
)

// maxLearned bounds the answers that lingpai reads as a whole before it passes
// them on, in bytes: a page of 500 authorizers takes about 150 KiB.
const maxLearned = 4 << 20

// rewrite reads WeChat's answer as a whole, has what it brings stored, and takes
// the tokens out of it. An answer that cannot be read is not passed on. The call
// was sent not before asked.
func (p *Proxy) rewrite(ctx *fasthttp.RequestCtx, work route.Work, asked time.Time) *fault {
	if ctx.Response.StatusCode() != fasthttp.StatusOK || ctx.IsHead() {
		return nil
	}
	answer, f := wholeAnswer(&ctx.Response)
	if f != nil {
		return f
	}
	if work == route.MaskReport {
		ctx.Response.SetBody(mask.Report(answer))
		return nil
	}
	masked, err := mask.Grants(answer)
	if err == nil && errcodeOf(answer) == 0 {
		err = p.learn(work, answer, asked)
	}
	if errors.Is(err, jsonedit.ErrNoObject) || errors.Is(err, wechat.ErrBrokenAnswer) {
		return faultAnswer
	}
	if err != nil {
		return tokenFault(err)
	}
	ctx.Response.SetBody(masked)
	return nil
}

// The faults of answers that lingpai has to read.
var (
	faultAnswer = &fault{status: fasthttp.StatusBadGateway, proxyError: "http_protocol_error",
		message: "WeChat's answer is not the JSON that the path documents; it is not passed on, since it may hold tokens"}
	faultLongAnswer = &fault{status: fasthttp.StatusBadGateway, proxyError: "http_response_body_size",
		message: "WeChat's answer is too long to be searched for tokens; it is not passed on"}
)

// learn has what an answer brings persisted.
func (p *Proxy) learn(work route.Work, answer []byte, asked time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), learnWithin)
	defer cancel()
	if work == route.LearnInfo {
		info, err := wechat.ParseAuthorizerInfo(answer)
		if err != nil {
			return err
		}
		return p.tokens.LearnInfo(ctx, info, asked)
	}
	list, _, err := wechat.ParseAuthorizerList(answer)
	if err != nil {
		return err
	}
	_, err = p.tokens.LearnList(ctx, list)
	return err
}

// learnWithin bounds the time that storing an answer may take.
const learnWithin = 10 * time.Second

// wholeAnswer reads an answer to its end. The response may share its memory.
func wholeAnswer(response *fasthttp.Response) ([]byte, *fault) {
	if !response.IsBodyStream() {
		return response.Body(), nil
	}
	answer, err := io.ReadAll(io.LimitReader(response.BodyStream(), maxLearned+1))
	response.CloseBodyStream()
	switch {
	case err != nil:
		return nil, upstreamFault(readError(err))
	case len(answer) > maxLearned:
		return nil, faultLongAnswer
	}
	return answer, nil
}
