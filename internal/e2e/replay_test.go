package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lingpai/tokens/wechat/wechattest"
)

// callUnkept is call for loads whose answers hold nothing of interest, or a
// code that WeChat means for the app.
func (s *sidecar) callUnkept(method, path, app string, body []byte) (result, error) {
	r, err := s.call(method, path, app, body)
	s.answers.Delete(r.body)
	return r, err
}

// TestRevokedUnderLoad: 500 calls are in flight while WeChat revokes the token.
// One refresh, all succeed, every POST is executed once with its exact body.
func TestRevokedUnderLoad(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(1)
	s.pushTicket()
	app := appID(0)
	const path, calls = "/cgi-bin/menu/create", 500
	warm, err := s.call("POST", path, app, []byte(`{"warm":true}`))
	if err != nil || warm.failed() != "" {
		t.Fatalf("%v %s", err, warm.failed())
	}
	w.ResetCalls()
	// Calls wait at WeChat's door long enough that all are under way when the
	// token is revoked: those that are let in after that are refused.
	delay := w.AddFault(wechattest.Fault{Path: path, Kind: wechattest.FaultDelay, Delay: wechattest.Duration(1500 * time.Millisecond)})
	want := map[string]bool{}
	var failed failures
	var done sync.WaitGroup
	for i := range calls {
		body := fmt.Appendf(nil, `{"touser":"o%d","msgtype":"text","text":{"content":%q}}`, i, strings.Repeat("字", i%97))
		sum := sha256.Sum256(body)
		want[hex.EncodeToString(sum[:])] = true
		done.Go(func() {
			r, err := s.callUnkept("POST", path, app, body)
			if err != nil {
				failed.add(err.Error())
			} else if why := r.failed(); why != "" {
				failed.add(why)
			}
		})
	}
	eventually(t, 20*time.Second, "all calls are in flight", func() bool { return w.Count(path) == calls })
	if n := w.RevokeToken(wechattest.KindAuthorizer, app); n != 1 {
		t.Fatalf("%d tokens revoked", n)
	}
	w.RemoveFault(delay)
	done.Wait()
	failed.check(t, calls)
	if n := w.CountFor(authorizerPath, app); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
	got := map[string]int{}
	refused := 0
	for _, call := range w.CallsTo(path) {
		if call.Executed {
			got[call.BodySHA256]++
		} else {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no call met the revoked token: the test shows nothing")
	}
	if len(got) != calls {
		t.Errorf("%d different bodies were executed, want %d", len(got), calls)
	}
	for sum, n := range got {
		if n != 1 || !want[sum] {
			t.Errorf("body %.12s was executed %d times, sent: %v", sum, n, want[sum])
		}
	}
	if n := s.metric("lingpai_replays_total", `result="ok"`); int(n) != refused {
		t.Errorf("lingpai_replays_total says %v, %d calls were refused", n, refused)
	}
	t.Logf("%d of %d calls were refused and sent again", refused, calls)
}

// TestNeverReplayed: errors other than the token codes, and network errors.
func TestNeverReplayed(t *testing.T) {
	w := newWeChat(t, nil)
	s := start(t, w, binaries.race, "")
	s.addAuthorizers(1)
	s.pushTicket()
	const path = "/cgi-bin/menu/create"
	if r, err := s.call("POST", path, appID(0), []byte("{}")); err != nil || r.failed() != "" {
		t.Fatalf("%v %s", err, r.failed())
	}
	f := func(fault wechattest.Fault, wantStatus, wantErrcode int) {
		t.Helper()
		for _, method := range []string{"GET", "POST"} {
			w.ResetCalls()
			w.ClearFaults()
			fault.Path = path
			w.AddFault(fault)
			r, err := s.call(method, path, appID(0), []byte(`{"x":1}`))
			if err != nil {
				t.Fatal(err)
			}
			if r.status != wantStatus || r.errcode != wantErrcode {
				t.Errorf("%s %v %d: status %d errcode %d, want %d %d", method, fault.Kind, fault.Errcode, r.status, r.errcode, wantStatus, wantErrcode)
			}
			if n := w.Count(path); n != 1 {
				t.Errorf("%s %v %d: sent %d times", method, fault.Kind, fault.Errcode, n)
			}
			if n := w.Count(authorizerPath); n != 0 {
				t.Errorf("%s %v %d: %d refreshes", method, fault.Kind, fault.Errcode, n)
			}
		}
	}
	for _, errcode := range []int{-1, 40003, 40013, 41001, 42002, 42007, 45009, 45011, 48001, 61003, 61007, 61023, 86000} {
		f(wechattest.Fault{Kind: wechattest.FaultErrcode, Errcode: errcode}, 200, errcode)
	}
	f(wechattest.Fault{Kind: wechattest.FaultCut}, http.StatusBadGateway, 990502)
	f(wechattest.Fault{Kind: wechattest.FaultReset}, http.StatusBadGateway, 990502)
	f(wechattest.Fault{Kind: wechattest.FaultLost}, http.StatusBadGateway, 990502)
	f(wechattest.Fault{Kind: wechattest.FaultStatus, Status: 500}, 500, 0)
	w.ClearFaults()
	if r, err := s.call("POST", path, appID(0), []byte("{}")); err != nil || r.failed() != "" {
		t.Errorf("afterwards: %v %s", err, r.failed())
	}
}

// TestTokenCodesAreReplayed: each of the token codes, once.
func TestTokenCodesAreReplayed(t *testing.T) {
	for i, errcode := range []int{40001, 40014, 42001, 42006, 40094} {
		w := newWeChat(t, func(k *wechattest.Knobs) {
			if i%2 == 1 {
				k.ErrcodeType = wechattest.ErrcodeString
			}
		})
		s := start(t, w, binaries.race, "")
		s.addAuthorizers(1)
		s.pushTicket()
		const path = "/cgi-bin/menu/create"
		w.AddFault(wechattest.Fault{Path: path, Kind: wechattest.FaultErrcode, Errcode: errcode, Times: 1})
		r, err := s.call("POST", path, appID(0), []byte(`{"x":1}`))
		if err != nil || r.failed() != "" {
			t.Errorf("%d: %v %s", errcode, err, r.failed())
		}
		if n := w.Count(path); n != 2 {
			t.Errorf("%d: sent %d times, want 2", errcode, n)
		}
		// Refused again at once: the interval between forced refreshes holds, and
		// WeChat's answer goes to the app.
		w.ResetCalls()
		w.AddFault(wechattest.Fault{Path: path, Kind: wechattest.FaultErrcode, Errcode: errcode, Times: 1})
		r, err = s.call("POST", path, appID(0), []byte(`{"x":2}`))
		if err != nil || r.status != 200 || w.Count(path) != 1 || w.Count(authorizerPath) != 0 {
			t.Errorf("%d again: %v, status %d, sent %d times, %d refreshes", errcode, err, r.status, w.Count(path), w.Count(authorizerPath))
		}
		if !strings.Contains(r.body, fmt.Sprint(errcode)) {
			t.Errorf("%d again: answer %s", errcode, r.body)
		}
	}
}
