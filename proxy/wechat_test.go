package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lingpai/metrics"
	"lingpai/tokens"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/store/memory"
	"lingpai/tokens/wechat"
	"lingpai/tokens/wechat/wechattest"
)

const directSecret = "dddddddddddddddddddddddddddddddd"

// withWeChat runs a sidecar with a real token service in front of the simulator.
func withWeChat(t *testing.T, change func(*Config, *ServerConfig)) (*sidecar, *wechattest.Server) {
	t.Helper()
	knobs := wechattest.DefaultKnobs()
	knobs.TokenLatency = 0
	sim := wechattest.New(wechattest.Options{Knobs: &knobs, Seed: 1, Accounts: map[string]string{direct: directSecret}})
	t.Cleanup(sim.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := sim.HTTPServer()
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	url := "http://" + l.Addr().String()

	st := memory.New()
	ctx := context.Background()
	st.UpdateComponent(ctx, platform, func(c *store.Component) error {
		c.Ticket, c.TicketReceivedAt = secret.New(sim.IssueTicket()), time.Now()
		return nil
	})
	refresh := sim.AddAuthorizer(authorizer)
	st.UpdateAuthorizer(ctx, authorizer, func(a *store.Authorizer) error {
		a.State, a.RefreshToken = store.StateActive, secret.New(refresh)
		return nil
	})
	config := tokens.Config{
		Component:          &tokens.ComponentConfig{AppID: platform, AppSecret: secret.New(wechattest.DefaultComponentAppSecret)},
		Accounts:           map[string]secret.String{direct: secret.New(directSecret)},
		RefreshAhead:       time.Minute,
		RefreshTimeout:     patience,
		WaitTimeout:        patience,
		MinRefreshInterval: 30 * time.Second,
		Client:             wechat.NewClient(&http.Transport{}, url, patience),
	}
	service, err := tokens.NewService(config, st, 1<<20, metrics.New("", "", ""), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Close(ctx) })
	return startWith(t, url, service, change), sim
}

const sendBody = `{"touser":"oABCDEFGHIJKLMNOPQRSTUVWXYZ1","msgtype":"text","text":{"content":"x"}}`

func TestThroughWeChat(t *testing.T) {
	s, sim := withWeChat(t, nil)
	f := func(rule, text, wantIn string) {
		t.Helper()
		r := s.call(text)
		if r.status != 200 || !strings.Contains(r.body, wantIn) || strings.Contains(r.body, "40001") {
			t.Errorf("%s: %d %s", rule, r.status, r.body)
		}
	}
	f("authorizer", request("POST", authorizerPath, sendBody), `"errcode":0`)
	f("direct account", request("POST", authorizerPath, sendBody, "X-Wechat-Appid: "+direct), `"errcode":0`)
	f("chunked", "POST "+authorizerPath+" HTTP/1.1\r\nHost: api.weixin.qq.com\r\nTransfer-Encoding: chunked\r\n\r\n"+
		itoaHex(len(sendBody))+"\r\n"+sendBody+"\r\n0\r\n\r\n", `"errcode":0`)
	f("platform", request("POST", componentPath, `{"component_appid":"`+platform+`"}`), "pre_auth_code")
	if r := s.call(get("/x", "X-Wechat-Appid: wxcccccccccccccccc")); r.status != 404 || !strings.Contains(r.body, `"errcode":990404`) {
		t.Errorf("an unknown account: %d %s", r.status, r.body)
	}
	if v := sim.Violations(); len(v) > 0 {
		t.Errorf("violations: %q", v)
	}
}

// Each message is sent once, though every call meets a dead token first.
func TestManyCallsWithADeadToken(t *testing.T) {
	const calls = 500
	s, sim := withWeChat(t, nil)
	if r := s.call(request("POST", authorizerPath, sendBody)); r.status != 200 {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	sim.RevokeToken(wechattest.KindAuthorizer, authorizer)
	refreshes := sim.Refreshes(wechattest.KindAuthorizer, authorizer)
	var all sync.WaitGroup
	var failed atomic.Int32
	for range calls {
		all.Go(func() {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				failed.Add(1)
				return
			}
			defer c.Close()
			io.WriteString(c, request("POST", authorizerPath, sendBody, "Connection: close"))
			if answer, err := io.ReadAll(c); err != nil || !strings.Contains(string(answer), `"errcode":0`) {
				failed.Add(1)
			}
		})
	}
	all.Wait()
	if n := sim.Executed(authorizerPath); n != calls+1 || failed.Load() > 0 {
		t.Errorf("%d messages were sent, %d calls failed", n, failed.Load())
	}
	if n := sim.Refreshes(wechattest.KindAuthorizer, authorizer) - refreshes; n != 1 {
		t.Errorf("%d refreshes", n)
	}
	if v := sim.Violations(); len(v) > 0 {
		t.Errorf("violations: %q", v)
	}
}

// No token or secret of WeChat's is in the log, in a metric or in an answer of
// lingpai's own.
func TestNothingLeaks(t *testing.T) {
	s, sim := withWeChat(t, func(c *Config, _ *ServerConfig) { c.Upstream.Timeout = time.Second })
	var told strings.Builder
	tell := func(text string) { told.WriteString(s.call(text).body) }
	tell(request("POST", authorizerPath, sendBody))
	tell(request("POST", authorizerPath, sendBody, "X-Wechat-Appid: "+direct))
	tell(request("POST", eitherPath, "{}"))
	sim.RevokeAll()
	tell(request("POST", authorizerPath, sendBody))
	for _, kind := range []wechattest.FaultKind{wechattest.FaultCut, wechattest.FaultTruncated, wechattest.FaultGarbage, wechattest.FaultReset} {
		id := sim.AddFault(wechattest.Fault{Path: authorizerPath, Kind: kind})
		tell(request("POST", authorizerPath, sendBody))
		sim.RemoveFault(id)
	}
	tell(get("/x", "X-Wechat-Appid: wxcccccccccccccccc"))
	for _, live := range sim.LiveTokens(wechattest.KindAuthorizer, authorizer) {
		tell(get("/x?access_token="+live, "X-Wechat-Token: nonsense"))
		tell(get("/x?access_token=" + live + "#"))
	}
	log := s.log.String()
	if !strings.Contains(log, "app_id="+authorizer) {
		t.Errorf("nothing was logged: %s", log)
	}
	for _, value := range sim.Secrets() {
		if strings.Contains(log, value) || strings.Contains(told.String(), value) {
			t.Errorf("a secret is told: %q", value)
		}
	}
}

func TestTokenFaults(t *testing.T) {
	f := func(rule string, err error, wantStatus int, wantRetry, wantError string) {
		t.Helper()
		p := newPeer(t, okAnswer)
		s := start(t, p.url(), nil)
		s.tokens.err = err
		r := s.call(request("POST", "/x", "body", "X-Wechat-Appid: wxcccccccccccccccc"))
		if r.status != wantStatus || r.header.Get("Retry-After") != wantRetry || r.header.Get("Proxy-Status") != "lingpai; error="+wantError ||
			!strings.HasPrefix(r.body, `{"errcode":`+itoa(990000+wantStatus)+`,"errmsg":"lingpai: `) {
			t.Errorf("%s: %q %s", rule, r.head, r.body)
		}
		if r.header.Get("Date") == "" || len(r.header["Date"]) != 1 {
			t.Errorf("%s: Date %q", rule, r.header["Date"])
		}
		if n := len(p.requests()); n > 0 {
			t.Errorf("%s: sent all the same", rule)
		}
	}
	f("unknown", tokens.ErrUnknown, 404, "", "destination_not_found")
	f("to be authorized again", tokens.ErrReauthorize, 409, "", "http_request_denied")
	f("waited too long", tokens.ErrWait, 504, "1", "http_response_timeout")
	f("none now", &tokens.Unavailable{Detail: "no \"ticket\" yet", RetryAfter: 1500 * time.Millisecond}, 503, "2", "destination_unavailable")
	f("anything else", errors.New("boom"), 503, "1", "proxy_internal_error")
}

// panicking is a token source with a fault.
type panicking struct{ *stubTokens }

func (panicking) Token(context.Context, tokens.Key) (*tokens.Token, error) { panic("sesame") }

func TestPanicIsAnAnswer(t *testing.T) {
	p := newPeer(t, okAnswer)
	s := startWith(t, p.url(), panicking{newStubTokens(t)}, nil)
	c := s.dial()
	c.send(request("POST", "/x", "body", "X-Wechat-Appid: wxcccccccccccccccc"))
	if r := c.receive("POST"); r.status != 500 || !strings.Contains(r.body, `"errcode":990500`) || !c.closed() {
		t.Errorf("%d %s", r.status, r.body)
	}
	if n := s.proxy.InFlight(); n != 0 {
		t.Errorf("%d calls under way", n)
	}
	if log := s.log.String(); strings.Contains(log, "sesame") || !strings.Contains(log, "panic while serving a call") {
		t.Errorf("log: %s", log)
	}
}
