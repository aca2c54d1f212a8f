package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/metrics"
	"lingpai/proxy/cache"
	"lingpai/proxy/mask"
	"lingpai/proxy/route"
	"lingpai/tokens"
	"lingpai/tokens/wechat"
)

// maxLearned bounds the answers that lingpai reads as a whole before it passes
// them on, in bytes: a page of 500 authorizers takes about 150 KiB.
const maxLearned = 4 << 20

// rewrite reads WeChat's answer as a whole, has what it brings stored, and takes
// the tokens out of it. An answer that cannot be read is not passed on.
func (p *Proxy) rewrite(ctx *fasthttp.RequestCtx, work route.Work) *fault {
	if ctx.Response.StatusCode() != fasthttp.StatusOK {
		return nil
	}
	answer, err := wholeAnswer(&ctx.Response)
	if err != nil {
		return upstreamFault(errAnswer)
	}
	if code := errcodeOf(answer); code != 0 {
		return nil // it brings nothing
	}
	if work == route.MaskReport {
		ctx.Response.SetBody(mask.Report(answer))
		return nil
	}
	masked, err := mask.Grants(answer)
	if err == nil {
		err = p.learn(work, answer)
	}
	if _, ok := errors.AsType[*tokens.Unavailable](err); ok {
		return tokenFault(err)
	}
	if err != nil {
		return upstreamFault(errBroken)
	}
	ctx.Response.SetBody(masked)
	return nil
}

// learn has what an answer brings persisted.
func (p *Proxy) learn(work route.Work, answer []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), learnWithin)
	defer cancel()
	if work == route.LearnInfo {
		info, err := wechat.ParseAuthorizerInfo(answer)
		if err != nil {
			return err
		}
		return p.tokens.LearnInfo(ctx, info)
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

// wholeAnswer reads an answer to its end.
func wholeAnswer(response *fasthttp.Response) ([]byte, error) {
	if !response.IsBodyStream() {
		return bytes.Clone(response.Body()), nil
	}
	answer, err := io.ReadAll(io.LimitReader(response.BodyStream(), maxLearned+1))
	response.CloseBodyStream()
	if err != nil || len(answer) > maxLearned {
		return nil, errAnswer
	}
	return answer, nil
}

// flown is what one flight of a cached call brought for all who wait for it.
type flown struct {
	answer *cache.Answer // nil if it may not be given to others
	fault  *fault
}

// cached answers a call from the cache, else passes it on, once for all who
// make the same call at the time.
func (p *Proxy) cached(ctx *fasthttp.RequestCtx, u *upstream, c *call, now time.Time) *fault {
	token := c.outgoing.token
	if token == nil || !cache.Cacheable(string(ctx.Method()), cachePath(c)) {
		return p.pass(ctx, u, c)
	}
	key := cache.Key(token.Key.String(), cachePath(c), string(c.outgoing.rest))
	if cache.Bypass(string(ctx.Request.Header.Peek("Cache-Control"))) {
		p.metrics.ResponseCache(metrics.CacheBypass)
		if f := p.pass(ctx, u, c); f != nil {
			return f
		}
		stored := p.keep(ctx, key, token, cachePath(c))
		setCacheStatus(ctx, "lingpai; fwd=request", stored != nil)
		return nil
	}
	if kept := p.answers.Get(key, now, token.AuthorizedAt); kept != nil {
		p.metrics.ResponseCache(metrics.CacheHit)
		giveKept(ctx, kept, now)
		return nil
	}
	p.metrics.ResponseCache(metrics.CacheMiss)
	led := false
	result, _, _ := p.flights.Do(key, func() (any, error) {
		led = true
		// Another's flight may have ended between the look above and this one.
		if kept := p.answers.Get(key, time.Now(), token.AuthorizedAt); kept != nil {
			giveKept(ctx, kept, time.Now())
			return flown{answer: kept}, nil
		}
		if f := p.pass(ctx, u, c); f != nil {
			return flown{fault: f}, nil
		}
		kept := p.keep(ctx, key, token, cachePath(c))
		setCacheStatus(ctx, "lingpai; fwd=uri-miss", kept != nil)
		return flown{answer: kept}, nil
	})
	brought := result.(flown)
	switch {
	case led:
		return brought.fault
	case brought.fault != nil:
		return brought.fault
	case brought.answer != nil:
		giveKept(ctx, brought.answer, time.Now())
		return nil
	}
	return p.pass(ctx, u, c) // an error answer is each call's own
}

func cachePath(c *call) string { return string(c.outgoing.path) }

// keep stores the answer of a call if it may be given again.
func (p *Proxy) keep(ctx *fasthttp.RequestCtx, key string, token *tokens.Token, path string) *cache.Answer {
	response := &ctx.Response
	if response.IsBodyStream() {
		return nil
	}
	lifetime := cache.Lifetime(path, response.StatusCode(), response.Body())
	if lifetime <= 0 {
		return nil
	}
	now := time.Now()
	answer := &cache.Answer{
		Key: key, Body: bytes.Clone(response.Body()), ContentType: string(response.Header.ContentType()),
		StoredAt: now, ExpiresAt: now.Add(lifetime), AuthorizedAt: token.AuthorizedAt,
	}
	p.answers.Put(answer)
	return answer
}

// giveKept makes a kept answer the call's.
func giveKept(ctx *fasthttp.RequestCtx, kept *cache.Answer, now time.Time) {
	answerJSON(ctx, kept.BodyAt(now))
	header := &ctx.Response.Header
	header.Del("Cache-Control")
	header.SetContentType(kept.ContentType)
	header.Set("Cache-Status", kept.Status(now))
	header.Set("Age", kept.Age(now))
}

func setCacheStatus(ctx *fasthttp.RequestCtx, status string, stored bool) {
	if stored {
		status += "; stored"
	}
	ctx.Response.Header.Set("Cache-Status", status)
}
