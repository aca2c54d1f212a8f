package proxy

import (
	"context"
	"testing"
	"time"

	"lingpai/tokens"
)

// lateTokens are tokens that have to be waited for.
type lateTokens struct {
	*stubTokens
	come chan struct{} // closed when they are there
	late *tokens.Token // nil: none comes
}

func (l *lateTokens) Find(string, time.Time) *tokens.Token { return nil }

func (l *lateTokens) Token(ctx context.Context, _ tokens.Key) (*tokens.Token, error) {
	select {
	case <-l.come:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l.late == nil {
		return nil, tokens.ErrWait
	}
	return l.late, nil
}

// Before, each caller of a cold start waited for the token first and then for a
// connection.
func TestConnectsWhileTokensAreWaitedFor(t *testing.T) {
	f := func(name string, callers, maxConnections, ahead, status int, with *tokens.Token) {
		t.Run(name, func(t *testing.T) {
			upstream := newPeer(t, okAnswer)
			source := &lateTokens{stubTokens: newStubTokens(t), come: make(chan struct{}), late: with}
			s := startWith(t, upstream.url(), source, func(c *Config, _ *ServerConfig) { c.Upstream.MaxConnections = maxConnections })
			clients := make([]*client, callers)
			for i := range clients {
				clients[i] = s.dial()
				clients[i].send(get(authorizerPath, "X-Wechat-Appid: "+authorizer))
			}
			eventually(t, "all wait", func() bool { return int(upstream.opened.Load()) == ahead && s.proxy.InFlight() == callers })
			if n := len(upstream.requests()); n != 0 {
				t.Errorf("%d calls without a token", n)
			}
			close(source.come)
			for _, c := range clients {
				if r := c.receive("GET"); r.status != status {
					t.Errorf("%d %s", r.status, r.body)
				}
			}
			if opened := int(upstream.opened.Load()); opened > maxConnections || maxConnections > callers && opened != ahead {
				t.Errorf("%d connections were opened, %d of them ahead", opened, ahead)
			}
		})
	}
	token := shared(t, tokens.Authorizer, authorizer, authorizerValue)
	f("one for each", 5, 64, 5, 200, token)
	f("half of all at most", 5, 4, 2, 200, token)
	f("none comes", 3, 64, 3, 504, nil)
}
