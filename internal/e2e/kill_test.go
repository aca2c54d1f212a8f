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
// grace. After each restart: the ticket is still there, and every authorizer
// works, except one whose last refresh was answered but not persisted. The
// token of such an answer was used by nobody, or it would have been published
// before it was persisted.
func TestKilled(t *testing.T) {
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
	lost, resumed := 0, 0
	for round := range rounds {
		newcomer := appID(1000 + round)
		acknowledged := s.loadAndKill(authorizers, newcomer, time.Duration(100+random.IntN(900))*time.Millisecond)
		restarted := time.Now()
		s.run()
		if got := s.ticketReceivedAt(); got != ticketAt {
			t.Fatalf("round %d: ticket received at %s, before the kill %s", round, got, ticketAt)
		}
		for i := range authorizers {
			if s.usable(appID(i)) {
				continue
			}
			lost++
			issued, used := w.Refreshes(wechattest.KindAuthorizer, appID(i)), usedSerial(w, appID(i))
			if used >= issued {
				t.Errorf("round %d: %s is lost though its last token (%d of %d) had been used", round, appID(i), used, issued)
			}
			if _, err := w.Reauthorize(context.Background(), appID(i)); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, appID(i)+" works after it authorized again", func() bool { return s.usable(appID(i)) })
		}
		if acknowledged && s.exchanged(newcomer, restarted) {
			resumed++
			eventually(t, 10*time.Second, newcomer+", whose event was acknowledged, works", func() bool { return s.usable(newcomer) })
		}
	}
	if resumed == 0 {
		t.Error("no authorization was acknowledged before a kill: the test shows too little")
	}
	if lost > rounds*authorizers/4 {
		t.Errorf("%d authorizers were lost in %d rounds: too many for replies that were under way", lost, rounds)
	}
	t.Logf("%d rounds: %d replies lost with the process, %d acknowledged authorizations, %d violations", rounds, lost, resumed, len(w.Violations()))
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

// usable reports whether a call for an app succeeds. What is no success has to
// be the answer to a dead refresh token.
func (s *sidecar) usable(app string) bool {
	s.t.Helper()
	var r result
	for range 2 {
		var err error
		r, err = s.callUnkept("GET", "/cgi-bin/menu/get", app, nil)
		if err != nil {
			s.t.Fatalf("call for %s: %v", app, err)
		}
		if r.failed() == "" {
			return true
		}
		if r.status != 200 || r.errcode != 40001 {
			break
		}
		// The call that finds the token dead gets WeChat's answer, the next one
		// is told why.
	}
	if r.status != 409 && r.status != 404 {
		s.t.Fatalf("call for %s: %s\n%s", app, r.failed(), tail(s.log.sinceMark()))
	}
	return false
}

// exchanged reports, once it is settled, whether the code of an acknowledged
// event brought tokens whose answer was not lost with the process: either the
// app works, or its code was spent by a process that was killed over it.
func (s *sidecar) exchanged(app string, since time.Time) bool {
	const path = "/cgi-bin/component/api_query_auth"
	settled, works := false, false
	eventually(s.t, 15*time.Second, "the exchange for "+app+" is settled", func() bool {
		works = s.usable(app)
		spentBefore := false
		for _, call := range s.wechat.CallsTo(path) {
			spentBefore = spentBefore || call.Errcode == 61010 && call.Time.After(since)
		}
		settled = works || spentBefore
		return settled
	})
	return works
}

// usedSerial is the newest token of an app that came with a call.
func usedSerial(w *wechat, app string) int {
	newest := 0
	for _, call := range w.CallsTo("/cgi-bin/menu/get") {
		if call.TokenAppID == app {
			newest = max(newest, call.TokenSerial)
		}
	}
	return newest
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
