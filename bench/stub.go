package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// The stub upstream. It is not the simulator that the tests use: that keeps a
// journal of all calls, and here the upstream must cost as little as it can.

type stubSpec struct {
	Apps      int
	Cert, Key string // files in PEM

	// Of the stampede; zero where tokens do not matter.
	Lifetime     time.Duration // of an authorizer's token
	TokenLatency time.Duration // of the calls that give one
}

type stubReady struct {
	Plain, TLS string // host:port
}

// stub answers calls and the token endpoints.
type stub struct {
	stubSpec
	small      []byte
	large      []byte
	plain, tls atomic.Int64 // connections accepted

	tokenCalls atomic.Int64
	mu         sync.Mutex
	asked      []time.Time // when tokens of authorizers were, if they have a lifetime
}

// stubCounts is what the stub tells of itself.
type stubCounts struct {
	Plain, TLS int64 // connections accepted so far

	// Of calls for a token of an authorizer, since they were last told; not told
	// unless asked for.
	TokenCalls int64
	TokenTimes []time.Time // in the stampede
}

// countsPath tells stubCounts, with "?tokens" those too.
const countsPath = "/bench/counts"

// countsOf asks the stub.
func countsOf(client *http.Client, address string, tokens bool) (counts stubCounts, err error) {
	url := "http://" + address + countsPath
	if tokens {
		url += "?tokens"
	}
	response, err := client.Get(url)
	if err != nil {
		return counts, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body) // whole, for the connection to be kept
	if err != nil {
		return counts, err
	}
	return counts, json.Unmarshal(text, &counts)
}

func (s *stub) counts(tokens bool) stubCounts {
	c := stubCounts{Plain: s.plain.Load(), TLS: s.tls.Load()}
	if tokens {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.TokenCalls, c.TokenTimes, s.asked = s.tokenCalls.Swap(0), s.asked, nil
	}
	return c
}

// countingListener counts what it accepts: with TLS, each is a handshake.
//
// Its connections send an answer together with the wait for the next request.
type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
		conn = turning(conn)
	}
	return conn, err
}

// smallAnswer is 194 bytes, what many of WeChat's answers are.
const smallAnswer = `{"subscribe":1,"openid":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","language":"zh_CN","subscribe_time":1382694957,` +
	`"unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL","remark":"vip","groupid":0,"tagid_list":[128,2,1]}`

func stubPart(in io.Reader, out io.Writer) error {
	var spec stubSpec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return err
	}
	s := &stub{stubSpec: spec, small: []byte(smallAnswer), large: make([]byte, 1<<20)}
	for i := range s.large {
		s.large[i] = 'a' + byte(i%23)
	}
	copy(s.large, `{"errcode":0,"errmsg":"ok","text":"`)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secured, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &fasthttp.Server{
		Handler:                       s.handle,
		Name:                          "stub",
		ReadBufferSize:                16 << 10,
		DisableHeaderNamesNormalizing: true,
	}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(countingListener{plain, &s.plain}) }()
	go func() { ended <- server.ServeTLS(countingListener{secured, &s.tls}, spec.Cert, spec.Key) }()
	if err := json.NewEncoder(out).Encode(stubReady{Plain: plain.Addr().String(), TLS: secured.Addr().String()}); err != nil {
		return err
	}
	go func() { ended <- untilEnd(in) }()
	return <-ended
}

// untilEnd returns when the input has ended: the process that started this one
// is gone.
func untilEnd(in io.Reader) error {
	_, err := io.Copy(io.Discard, in)
	return err
}

func (s *stub) handle(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("application/json; encoding=utf-8")
	path := ctx.Path()
	if string(path) == countsPath {
		json.NewEncoder(ctx).Encode(s.counts(ctx.QueryArgs().Has("tokens")))
		return
	}
	if bytes.HasPrefix(path, []byte("/cgi-bin/component/")) {
		s.tokenEndpoint(ctx, string(path[len("/cgi-bin/component/"):]))
		return
	}
	args := ctx.QueryArgs()
	app, token := args.Peek("openid"), args.Peek("access_token")
	if !tokenFits(token, app) {
		fmt.Fprintf(ctx, `{"errcode":40001,"errmsg":"the token is not that of %s"}`, app)
		return
	}
	if s.Lifetime > 0 {
		if at := issuedAt(token); !at.IsZero() && time.Since(at) > s.Lifetime {
			fmt.Fprint(ctx, `{"errcode":42001,"errmsg":"access_token expired"}`)
			return
		}
	}
	if size, err := args.GetUint("size"); err == nil {
		ctx.Response.SetBodyRaw(s.large[:min(size, len(s.large))])
		return
	}
	ctx.Response.SetBodyRaw(s.small)
}

// tokenFits reports whether token is tokenOf(app), once.
func tokenFits(token, app []byte) bool {
	const before = len("bench-")
	return len(token) == tokenBytes && len(app) > 0 && len(token) > before+len(app) && bytes.Equal(token[before:before+len(app)], app)
}

// tokenEndpoint answers what lingpai asks for itself.
//
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/ThirdParty/token/component_access_token.html
func (s *stub) tokenEndpoint(ctx *fasthttp.RequestCtx, name string) {
	var asked struct {
		App    string `json:"authorizer_appid"`
		Offset int    `json:"offset"`
		Count  int    `json:"count"`
	}
	if err := json.Unmarshal(ctx.PostBody(), &asked); err != nil {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	var answer any
	switch name {
	case "api_component_token":
		answer = map[string]any{"component_access_token": tokenOf(componentAppID), "expires_in": 7200}
	case "api_authorizer_token":
		s.tokenCalls.Add(1)
		token, lifetime := tokenOf(asked.App), 2*time.Hour
		if s.Lifetime > 0 {
			s.mu.Lock()
			s.asked = append(s.asked, time.Now())
			s.mu.Unlock()
			time.Sleep(s.TokenLatency)
			token, lifetime = issued(asked.App, time.Now()), s.Lifetime
		}
		answer = map[string]any{"authorizer_access_token": token, "expires_in": lifetime / time.Second, "authorizer_refresh_token": refreshTokenOf(asked.App)}
	case "api_get_authorizer_list":
		type listed struct {
			App          string `json:"authorizer_appid"`
			RefreshToken string `json:"refresh_token"`
			AuthTime     int64  `json:"auth_time"`
		}
		list := []listed{}
		for i := asked.Offset; i < min(s.Apps, asked.Offset+asked.Count); i++ {
			list = append(list, listed{appID(i), refreshTokenOf(appID(i)), 1700000000})
		}
		answer = map[string]any{"total_count": s.Apps, "list": list}
	default:
		answer = map[string]any{"errcode": 40066, "errmsg": "invalid url"}
	}
	json.NewEncoder(ctx).Encode(answer)
}

// issued returns a token that tells when it was made.
func issued(app string, at time.Time) string {
	before := fmt.Sprintf("bench-%s-%d-", app, at.UnixMilli())
	return before + strings.Repeat("t", tokenBytes-len(before))
}

// issuedAt returns the zero time of a token that does not tell, which is good
// for ever.
func issuedAt(token []byte) time.Time {
	parts := bytes.SplitN(token, []byte("-"), 4)
	if len(parts) < 4 {
		return time.Time{}
	}
	n, err := strconv.ParseInt(string(parts[2]), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

const componentAppID = "wx0123456789abcdef"

func refreshTokenOf(app string) string {
	return "refreshtoken@@@" + strings.TrimPrefix(app, "wx")
}
