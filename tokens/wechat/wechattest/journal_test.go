package wechattest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestJournal(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	s.ResetCalls()
	r := httptest.NewRequest("POST", "http://api2.weixin.qq.com/wxa/msg_sec_check?a=1&access_token="+tokens[KindAuthorizer], strings.NewReader(`{"a":1}`))
	r.Header.Set("X-Test", "yes")
	do(t, s, r).want(0)
	call(t, s, "POST", "/wxa/msg_sec_check?access_token="+tokens[KindComponent], nil).want(61015)

	calls := s.Calls()
	if len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	sum := sha256.Sum256([]byte(`{"a":1}`))
	c := calls[0]
	if c.Sequence != 1 || c.Method != "POST" || c.Host != "api2.weixin.qq.com" || c.Header.Get("X-Test") != "yes" ||
		c.RawQuery != "a=1&access_token="+tokens[KindAuthorizer] || c.TokenParam != "access_token" ||
		c.TokenKind != KindAuthorizer || c.TokenAppID != authorizerA || c.AppID != authorizerA || c.TokenSerial != 1 ||
		!c.Executed || !c.Done || c.Errcode != 0 || c.Status != 200 || c.BodyLength != 7 || c.ContentLength != 7 || c.Chunked ||
		c.BodySHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("call %+v", c)
	}
	if c := calls[1]; c.Executed || c.Errcode != 61015 || c.TokenKind != KindComponent {
		t.Errorf("call %+v", c)
	}
	const path = "/wxa/msg_sec_check"
	if s.Count(path) != 2 || s.Executed(path) != 1 || s.CountFor(path, authorizerA) != 1 ||
		s.ExecutedFor(path, authorizerA) != 1 || s.CountFor(path, DefaultComponentAppID) != 1 {
		t.Error("counts")
	}
	refresh(t, s, tokens[KindComponent], authorizerB, "x")
	if s.CountFor(pathAuthorizerToken, authorizerB) != 1 {
		t.Error("a refresh is not counted for the authorizer it names")
	}
}

func TestJournalIsBounded(t *testing.T) {
	s := newSimWith(t, Options{JournalSize: 3})
	for range 5 {
		use(t, s, "x")
	}
	calls := s.Calls()
	if len(calls) != 3 || calls[0].Sequence != 3 || calls[2].Sequence != 5 || s.Dropped() != 2 || s.Count("/wxa/msg_sec_check") != 5 {
		t.Errorf("%d calls, %d dropped", len(calls), s.Dropped())
	}
}

func TestChunked(t *testing.T) {
	s := newSim(t)
	token := plainToken(t, s).text("access_token")
	send := func() answer {
		r := httptest.NewRequest("POST", "/wxa/msg_sec_check?access_token="+token, strings.NewReader("{}"))
		r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
		return do(t, s, r)
	}
	if a := send(); a.status != http.StatusPreconditionFailed {
		t.Errorf("status %d", a.status)
	}
	s.SetKnobs(func(k *Knobs) { k.RefuseChunked = false })
	send().want(0)
	calls := s.CallsTo("/wxa/msg_sec_check")
	if !calls[0].Chunked || calls[0].Executed || calls[0].Status != 412 || !calls[1].Executed {
		t.Errorf("calls %+v", calls)
	}
}

func TestTokenInHeader(t *testing.T) {
	s := newSim(t)
	token := plainToken(t, s).text("access_token")
	r := httptest.NewRequest("GET", "/cgi-bin/user/get", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	do(t, s, r).want(41001)
	v := s.Violations()
	if len(v) != 1 || !strings.Contains(v[0], "header Authorization") || strings.Contains(v[0], token) {
		t.Errorf("violations %q", v)
	}
}

func TestOverlappingRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, func(k *Knobs) { k.TokenLatency = Duration(time.Second) })
		component := componentToken(t, s)
		rtA, rtB := s.AddAuthorizer(authorizerA), s.AddAuthorizer(authorizerB)
		parallel := func(calls ...func()) {
			var wg sync.WaitGroup
			for _, c := range calls {
				wg.Go(c)
			}
			wg.Wait()
		}
		a := func() { refresh(t, s, component, authorizerA, rtA).want(0) }
		b := func() { refresh(t, s, component, authorizerB, rtB).want(0) }
		start := time.Now()
		parallel(a, b)
		a()
		if got := time.Since(start); got != 2*time.Second {
			t.Errorf("latency %v", got)
		}
		if v := s.Violations(); len(v) != 0 {
			t.Fatalf("violations %q", v)
		}
		parallel(a, a)
		if v := s.Violations(); len(v) != 1 || !strings.Contains(v[0], "refresh of authorizer/"+authorizerA) {
			t.Errorf("violations %q", v)
		}
	})
}

func TestSecrets(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	a, _ := s.Authorize(t.Context(), authorizerB)
	secrets := s.Secrets()
	for what, value := range map[string]string{
		"component secret": DefaultComponentAppSecret, "message token": DefaultMessageToken, "key": DefaultEncodingAESKey,
		"account secret": secretOfD, "component token": tokens[KindComponent], "authorizer token": tokens[KindAuthorizer],
		"account token": tokens[KindAccount], "user token": tokens[KindUser], "code": a.Code, "pre_auth_code": a.PreAuthCode,
		"ticket": s.tickets[0].value, "refresh token": s.authorizers[authorizerB].refreshToken,
	} {
		if !slices.Contains(secrets, value) {
			t.Errorf("%s is missing", what)
		}
	}
	s.Reset()
	if len(s.Secrets()) != len(secrets) {
		t.Error("a reset made them fewer")
	}
}

func TestSeed(t *testing.T) {
	one, other := New(Options{Seed: 7}), New(Options{Seed: 7})
	defer one.Close()
	defer other.Close()
	if one.IssueTicket() != other.IssueTicket() {
		t.Error("one seed, two tickets")
	}
	if third := New(Options{}); third.Seed() == 0 || third.Seed() == New(Options{}).Seed() {
		t.Error("seeds repeat")
	}
}

func TestConcurrentUse(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				use(t, s, tokens[KindAuthorizer])
				plainToken(t, s)
				s.SetKnobs(func(k *Knobs) { k.Quotas["/x"]++ })
				s.State()
				s.Calls()
				s.Secrets()
			}
		})
	}
	wg.Wait()
	if n := s.Executed("/wxa/msg_sec_check"); n != 400 {
		t.Errorf("%d executed", n)
	}
}

func TestRevoke(t *testing.T) {
	s := newSim(t)
	tokens := liveTokens(t, s)
	stable := stableToken(t, s, false).text("access_token")
	if n := s.RevokeToken(KindAccount, direct); n != 2 {
		t.Errorf("%d revoked", n)
	}
	use(t, s, tokens[KindAccount]).want(40001)
	use(t, s, stable).want(40001)
	use(t, s, tokens[KindAuthorizer]).want(0)
	if again := stableToken(t, s, false).want(0).text("access_token"); again == stable {
		t.Error("a revoked stable token is given again")
	}
	if live := s.LiveTokens(KindAuthorizer, authorizerA); len(live) != 1 || live[0] != tokens[KindAuthorizer] {
		t.Error("live tokens")
	}
	if other, err := s.IssueToken(KindAuthorizer, authorizerA); err != nil || other == "" {
		t.Error(err)
	}
	use(t, s, tokens[KindAuthorizer]).want(40001)
	if _, err := s.IssueToken(KindAccount, authorizerA); err == nil {
		t.Error("a token for an unknown account")
	}
}
