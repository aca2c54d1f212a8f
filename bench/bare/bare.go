// Package bare is a reverse proxy on fasthttp that does nothing but add one
// token: the least that such a proxy can cost, which lingpai is measured
// against.
package bare

import (
	"time"

	"github.com/valyala/fasthttp"
)

// Client returns a tuned client of host, with connections by dial.
func Client(host string, dial fasthttp.DialFunc) *fasthttp.HostClient {
	return &fasthttp.HostClient{
		Addr:                          host,
		Dial:                          dial,
		MaxConns:                      16 << 10,
		MaxIdleConnDuration:           15 * time.Second,
		ReadBufferSize:                16 << 10,
		ReadTimeout:                   30 * time.Second,
		DisableHeaderNamesNormalizing: true,
		DisablePathNormalizing:        true,
		NoDefaultUserAgentHeader:      true,
	}
}

// Server returns a tuned server that passes requests on by client, each with the
// token that token returns for its X-Wechat-Appid.
func Server(client *fasthttp.HostClient, token func(app []byte) (string, error)) *fasthttp.Server {
	return &fasthttp.Server{
		ReadBufferSize:                16 << 10,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		NoDefaultContentType:          true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			token, err := token(ctx.Request.Header.Peek("X-Wechat-Appid"))
			if err != nil {
				ctx.Error(err.Error(), fasthttp.StatusServiceUnavailable)
				return
			}
			uri := append(ctx.Request.Header.RequestURI(), "&access_token="...)
			ctx.Request.SetRequestURIBytes(append(uri, token...))
			ctx.Request.Header.Del("X-Wechat-Appid")
			ctx.Request.Header.SetHost(client.Addr)
			if err := client.Do(&ctx.Request, &ctx.Response); err != nil {
				ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			}
		},
	}
}
