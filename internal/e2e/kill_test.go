package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// TestKilled kills lingpai in a loop at random moments, under load that keeps
// it refreshing, while WeChat rotates the refresh token on each refresh without
// grace. After each restart the ticket is still there and every authorizer
// works: what was persisted is used, and an answer of WeChat that was lost with
// the process is made good from its list of authorizers.
func TestKilled(t *testing.T) {
	t.Parallel()
	const authorizers = 40
	rounds := 25
	if testing.Short() {
		rounds = 6
	}
	w := newWeChat(t, func(k *wechattest.Knobs) {
		k.TokenLatency = wechattest.Duration(5 * time.Millisecond)
		k.AuthorizerTokenLifetime = wechattest.Duration(2 * time.Second)
		k.ComponentTokenLifetime = wechattest.Duration(3 * time.Second)
		k.RefreshToken = wechattest.RefreshTokenRotated
		k.RefreshTokenGrace = 0
	})
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(authorizers)
	s.pushTicket()
	random := rand.New(rand.NewPCG(20261121, 2))
	ticketAt := s.ticketReceivedAt()
	acknowledged := 0
	for round := range rounds {
		newcomer := appID(1000 + round)
		pushed := s.loadAndKill(authorizers, newcomer, time.Duration(100+random.IntN(900))*time.Millisecond)
		s.run()
		if got := s.ticketReceivedAt(); got != ticketAt {
			t.Fatalf("round %d: ticket received at %s, before the kill %s", round, got, ticketAt)
		}
		for i := range authorizers {
			eventually(t, 10*time.Second, appID(i)+" works after the restart", func() bool { return s.usable(appID(i)) })
		}
		if pushed {
			acknowledged++
			eventually(t, 15*time.Second, newcomer+", whose event was acknowledged, works", func() bool { return s.usable(newcomer) })
		}
	}
	if acknowledged == 0 {
		t.Error("no authorization was acknowledged before a kill: the test shows too little")
	}
	// Each is a rotation whose answer was lost with the process.
	t.Logf("%d rounds: %d acknowledged authorizations, %d lost rotations healed", rounds, acknowledged, len(w.Violations()))
}

// loadAndKill calls for all authorizers without a pause, lets a newcomer
// authorize, and kills the process after a while. It reports whether the
// newcomer's event was acknowledged.
func (s *sidecar) loadAndKill(authorizers int, newcomer string, after time.Duration) (acknowledged bool) {
	ctx, cancel := context.WithCancel(context.Background())
	var load sync.WaitGroup
	for c := range 8 {
		load.Go(func() {
			for i := c; ctx.Err() == nil; i++ {
				s.callUnkept("GET", "/cgi-bin/menu/get", appID(i%authorizers), nil)
			}
		})
	}
	load.Go(func() {
		time.Sleep(time.Duration(rand.Int64N(int64(after) + 1)))
		authorization, err := s.wechat.Authorize(context.Background(), newcomer)
		acknowledged = err == nil && authorization.Pushed
	})
	time.Sleep(after)
	s.kill()
	cancel()
	load.Wait()
	return acknowledged
}

// usable reports whether a call for an app succeeds.
func (s *sidecar) usable(app string) bool {
	s.t.Helper()
	r, err := s.callUnkept("GET", "/cgi-bin/menu/get", app, nil)
	if err != nil {
		s.t.Fatalf("call for %s: %v", app, err)
	}
	return r.failed() == ""
}

func (s *sidecar) ticketReceivedAt() string {
	s.t.Helper()
	var status struct {
		Component struct {
			Ticket struct {
				ReceivedAt string `json:"received_at"`
			}
		}
	}
	body := s.get(s.admin + "/v1/status").body
	if err := json.Unmarshal([]byte(body), &status); err != nil || status.Component.Ticket.ReceivedAt == "" {
		s.t.Fatalf("no ticket in %s", body)
	}
	return fmt.Sprint(status.Component.Ticket.ReceivedAt)
}
