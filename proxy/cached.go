package proxy

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/metrics"
	"lingpai/proxy/cache"
	"lingpai/proxy/route"
	"lingpai/tokens"
)

// flown is what one flight of a cached call brought for all who wait for it.
type flown struct {
	fault  *fault
	answer *cache.Answer // nil if it is not kept
	// refused is an answer that is not kept, such as an error of WeChat: those who
	// waited for it share it, since asking again at once, all of them, would
	// bring the same. nil if it is a stream.
	refused *fasthttp.Response
}

// cached answers a call from the cache, else passes it on, once for all who
// make the same call at the time.
func (p *Proxy) cached(ctx *fasthttp.RequestCtx, u *upstream, c *call, now time.Time) *fault {
	path := string(route.Canonical(c.outgoing.path))
	if c.outgoing.token == nil || !cache.Cacheable(string(ctx.Method()), path) {
		return p.pass(ctx, u, c, time.Now())
	}
	token := c.outgoing.token
	key := cache.Key(token.Key().String(), path, string(c.outgoing.rest))
	if cache.Bypass(fieldValues(c.outgoing.forward, "cache-control")) {
		p.metrics.ResponseCache(metrics.CacheBypass)
		brought := p.fetch(ctx, u, c, key, path, "lingpai; fwd=request")
		return brought.fault
	}
	if kept := p.answers.Get(key, now, token.AuthorizedAt()); kept != nil {
		p.metrics.ResponseCache(metrics.CacheHit)
		giveKept(ctx, kept, kept.Status(now), now)
		return nil
	}
	p.metrics.ResponseCache(metrics.CacheMiss)
	led := false
	// An answer under a former authorization is none for this one.
	flight := key + "\n" + strconv.FormatInt(token.AuthorizedAt().UnixNano(), 10)
	result, _, _ := p.flights.Do(flight, func() (any, error) {
		led = true
		// Another's flight may have ended between the look above and this one.
		now := time.Now()
		if kept := p.answers.Get(key, now, token.AuthorizedAt()); kept != nil {
			giveKept(ctx, kept, kept.Status(now), now)
			return flown{answer: kept}, nil
		}
		brought := p.fetch(ctx, u, c, key, path, "lingpai; fwd=uri-miss")
		if brought.fault == nil && brought.answer == nil && !ctx.Response.IsBodyStream() {
			brought.refused = &fasthttp.Response{}
			ctx.Response.CopyTo(brought.refused)
		}
		return brought, nil
	})
	brought := result.(flown)
	switch {
	case led || brought.fault != nil:
		return brought.fault
	case brought.answer != nil:
		giveKept(ctx, brought.answer, collapsed, time.Now())
		return nil
	case brought.refused != nil:
		brought.refused.CopyTo(&ctx.Response)
		ctx.Response.Header.Set("Cache-Status", collapsed)
		return nil
	}
	return p.pass(ctx, u, c, time.Now()) // each has a stream of its own
}

// collapsed is the Cache-Status of a call that waited for another one's answer.
const collapsed = "lingpai; fwd=uri-miss; collapsed"

// fetch passes a call on and keeps the answer if it may be given again.
func (p *Proxy) fetch(ctx *fasthttp.RequestCtx, u *upstream, c *call, key, path, status string) flown {
	if f := p.pass(ctx, u, c, time.Now()); f != nil {
		return flown{fault: f}
	}
	answer, f := p.keep(&ctx.Response, key, c.outgoing.token, path)
	if f != nil {
		return flown{fault: f}
	}
	if answer != nil {
		status += "; stored"
	}
	ctx.Response.Header.Set("Cache-Status", status)
	return flown{answer: answer}
}

// keep stores an answer if it may be given again; else it is nil.
func (p *Proxy) keep(response *fasthttp.Response, key string, token *tokens.Token, path string) (*cache.Answer, *fault) {
	if f := gather(response); f != nil || response.IsBodyStream() {
		return nil, f
	}
	lifetime := cache.Lifetime(path, response.StatusCode(), response.Body())
	if lifetime <= 0 {
		return nil, nil
	}
	now := time.Now()
	answer := &cache.Answer{
		Key: key, Body: bytes.Clone(response.Body()), ContentType: string(response.Header.ContentType()),
		StoredAt: now, ExpiresAt: now.Add(lifetime), AuthorizedAt: token.AuthorizedAt(),
	}
	p.answers.Put(answer)
	return answer, nil
}

// gather reads an answer that comes as a stream if it is short enough to be
// kept; a longer one stays a stream.
func gather(response *fasthttp.Response) *fault {
	stream, ok := response.BodyStream().(*answerStream)
	if !ok {
		return nil
	}
	body := make([]byte, cache.MaxAnswer+1)
	n, err := io.ReadFull(stream, body)
	switch {
	case err == nil:
		stream.prefix = body
		return nil
	case !errors.Is(err, io.EOF) && !errors.Is(stream.err, io.EOF):
		return upstreamFault(readError(err))
	}
	response.SetBody(body[:n]) // which closes the stream
	return nil
}

// giveKept makes a kept answer the call's.
func giveKept(ctx *fasthttp.RequestCtx, kept *cache.Answer, status string, now time.Time) {
	answerJSON(ctx, kept.BodyAt(now))
	header := &ctx.Response.Header
	header.Del("Cache-Control")
	header.SetContentType(kept.ContentType)
	header.Set("Cache-Status", status)
	header.Set("Age", kept.Age(now))
}
