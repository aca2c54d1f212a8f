package wechattest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// onNetwork serves s on a port and returns a GET that tells status, body and
// error.
func onNetwork(t *testing.T, s *Server) func(target string) (int, string, error) {
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	t.Cleanup(s.Close) // first
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(target string) (int, string, error) {
		resp, err := client.Get(ts.URL + target)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
}

func TestFaults(t *testing.T) {
	const path = "/cgi-bin/user/get"
	for _, c := range []struct {
		fault    Fault
		status   int
		body     string // begins with
		fails    bool
		executed bool
	}{
		{Fault{Kind: FaultErrcode, Errcode: -1}, 200, `{"errcode":-1,"errmsg":"system error rid: `, false, false},
		{Fault{Kind: FaultErrcode, Errcode: 40001, Errmsg: "mine"}, 200, `{"errcode":40001,"errmsg":"mine rid: `, false, false},
		{Fault{Kind: FaultErrcode, Errcode: -1, AfterEffect: true}, 200, `{"errcode":-1`, false, true},
		{Fault{Kind: FaultStatus}, 502, "<html>", false, false},
		{Fault{Kind: FaultStatus, Status: 503, AfterEffect: true}, 503, "<html>", false, true},
		{Fault{Kind: FaultCut}, 0, "", true, false},
		{Fault{Kind: FaultReset}, 0, "", true, false},
		{Fault{Kind: FaultLost}, 0, "", true, true},
		{Fault{Kind: FaultGarbage}, 200, `{"access_token": `, false, false},
		{Fault{Kind: FaultEmpty}, 200, "", false, false},
		{Fault{Kind: FaultTruncated}, 200, `{"errcode":0,`, true, true},
		{Fault{Kind: FaultHuge, Size: 1000}, 200, `{"errcode":0,"errmsg":"ok","filler":"xxx`, false, false},
		{Fault{Kind: FaultDelay, Delay: Duration(time.Millisecond)}, 200, `{"errcode":0`, false, true},
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			s := newSim(t)
			get := onNetwork(t, s)
			token := plainToken(t, s).text("access_token")
			c.fault.Path, c.fault.Times = path, 1
			s.AddFault(c.fault)
			status, body, err := get(path + "?access_token=" + token)
			if status != c.status || !strings.HasPrefix(body, c.body) || (err != nil) != c.fails {
				t.Errorf("%d %.100q %v", status, body, err)
			}
			if c.fault.Kind == FaultHuge && len(body) != 1000 {
				t.Errorf("%d bytes", len(body))
			}
			if got := s.Executed(path) == 1; got != c.executed {
				t.Errorf("executed: %v", got)
			}
			if status, _, err := get(path + "?access_token=" + token); status != 200 || err != nil {
				t.Errorf("after the fault: %d %v", status, err)
			}
			if f := s.Faults(); len(f) != 1 || f[0].Hits != 1 {
				t.Errorf("faults %+v", f)
			}
		})
	}
}

func TestFaultSelection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t)
		tokens := liveTokens(t, s)
		account := tokens[KindAccount]
		only := func(f Fault) {
			s.ClearFaults()
			f.Kind, f.Errcode = FaultErrcode, -1
			s.AddFault(f)
		}
		only(Fault{Path: "/wxa/*"})
		use(t, s, account).want(-1)
		call(t, s, "GET", "/cgi-bin/user/get?access_token="+account, nil).want(0)
		only(Fault{AppID: authorizerA})
		use(t, s, account).want(0)
		use(t, s, tokens[KindAuthorizer]).want(-1)
		only(Fault{Path: pathAuthorizerToken, AppID: authorizerB})
		refresh(t, s, tokens[KindComponent], authorizerB, "x").want(-1)
		refresh(t, s, tokens[KindComponent], authorizerA, "x").want(61023)
		only(Fault{For: Duration(time.Minute)})
		time.Sleep(time.Minute - time.Nanosecond)
		use(t, s, account).want(-1)
		time.Sleep(time.Nanosecond)
		use(t, s, account).want(0)
		only(Fault{Probability: 0.5})
		failed := 0
		for range 100 {
			if use(t, s, account).errcode() != 0 {
				failed++
			}
		}
		if failed < 25 || failed > 75 {
			t.Errorf("%d of 100 failed", failed)
		}
		only(Fault{})
		s.AddFault(Fault{Kind: FaultDelay, Delay: Duration(time.Second)})
		start := time.Now()
		use(t, s, account).want(-1)
		if got := time.Since(start); got != time.Second {
			t.Errorf("delay %v", got)
		}
		if !s.RemoveFault(s.Faults()[0].ID) || s.RemoveFault(99) {
			t.Error("RemoveFault")
		}
		use(t, s, account).want(0)
	})
}

func TestLostReplySpendsCode(t *testing.T) {
	s := newSim(t)
	component := componentToken(t, s)
	a, _ := s.Authorize(t.Context(), authorizerA)
	s.AddFault(Fault{Path: pathQueryAuth, Kind: FaultLost, Times: 1})
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("the handler was not aborted")
			}
		}()
		queryAuth(t, s, component, a.Code)
	}()
	queryAuth(t, s, component, a.Code).want(61010)
	list := componentCall(t, s, "api_get_authorizer_list", component, object{"offset": 0, "count": 1})
	if !strings.Contains(list.raw, "refreshtoken@@@") {
		t.Errorf("list %s", list.raw)
	}
}

func TestCloseEndsDelays(t *testing.T) {
	s := newSim(t, func(k *Knobs) { k.CallLatency = Duration(time.Hour) })
	done := make(chan int)
	go func() { done <- use(t, s, "x").errcode() }()
	for s.Count("/wxa/msg_sec_check") == 0 {
		runtime.Gosched()
	}
	s.Close()
	if got := <-done; got != 40014 {
		t.Errorf("errcode %d", got)
	}
}

func TestBodyLimitAndConnections(t *testing.T) {
	s := newSim(t, func(k *Knobs) { k.CloseAfterReply, k.IdleTimeout = true, Duration(7*time.Second) })
	if got := s.HTTPServer().IdleTimeout; got != 7*time.Second {
		t.Errorf("idle timeout %v", got)
	}
	r := httptest.NewRequest("POST", "/wxa/msg_sec_check", io.LimitReader(repeat('x'), MaxBody+1))
	r.ContentLength = MaxBody + 1
	a := do(t, s, r)
	if a.status != http.StatusRequestEntityTooLarge || a.header.Get("Connection") != "close" {
		t.Errorf("%d %v", a.status, a.header)
	}
}
