package wechattest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// openPage opens a login page past the network, for tests in a bubble.
func openPage(t *testing.T, s *Server, code string) string {
	t.Helper()
	l, err := s.OpenLogin(loginLink(pathLoginPC, code), entryPage)
	if err != nil {
		t.Fatal(err)
	}
	return l.ID
}

func newCode(t *testing.T, s *Server) string {
	t.Helper()
	return componentCall(t, s, "api_create_preauthcode", componentToken(t, s), object{}).text("pre_auth_code")
}

func postPage(s *Server, id, appID string) *httptest.ResponseRecorder {
	form := url.Values{"login": {id}, "app_id": {appID}, "action": {"confirm"}, "scope": {"1", "17"}}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", pathLoginPC, strings.NewReader(form.Encode())))
	return w
}

// The knob decides when the browser goes on and when the event comes. The
// receiver takes two seconds for each.
func TestLoginOrder(t *testing.T) {
	const second = time.Second
	for order, c := range map[string]struct {
		page     string
		redirect time.Duration
		events   []time.Duration // when they were answered
	}{
		OrderEventFirst:    {"redirect", 2 * second, []time.Duration{2 * second}},
		OrderRedirectFirst: {"redirect", 0, []time.Duration{3 * second}},
		OrderEventLate:     {"redirect", 0, []time.Duration{32 * second}},
		OrderEventTwice:    {"redirect", 4 * second, []time.Duration{2 * second, 4 * second}},
		OrderEventLost:     {"redirect", 0, nil},
		OrderEventHeld:     {"redirect", 0, nil},
		OrderRedirectLost:  {"redirect_lost", 2 * second, []time.Duration{2 * second}},
	} {
		t.Run(order, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, rc := newPushSim(t, func(k *Knobs) { k.PushOrder = order })
				id := openPage(t, s, newCode(t, s))
				start := time.Now()
				rc.answer = func(int) (int, string) { time.Sleep(2 * second); return 200, "success" }
				w := postPage(s, id, officialOne)
				if took := time.Since(start); w.Header().Get(PageHeader) != c.page || took != c.redirect {
					t.Errorf("page %q after %v", w.Header().Get(PageHeader), took)
				}
				if lost := c.page == "redirect_lost"; (w.Header().Get("Location") == "") != lost || (w.Code == http.StatusOK) != lost {
					t.Errorf("%d to %q", w.Code, w.Header().Get("Location"))
				}
				time.Sleep(time.Minute)
				var at []time.Duration
				for _, p := range s.Pushes() {
					at = append(at, p.Time.Add(p.Duration).Sub(start))
				}
				if fmt.Sprint(at) != fmt.Sprint(c.events) {
					t.Errorf("events at %v, want %v", at, c.events)
				}
				held := s.HeldEvents()
				if (len(held) == 1) != (order == OrderEventHeld) {
					t.Fatalf("held %+v", held)
				}
				for _, h := range held {
					record, err := s.ReleaseEvent(t.Context(), h.ID)
					if err != nil || record.Kind != "authorized" || record.AppID != officialOne {
						t.Errorf("%+v %v", record, err)
					}
					if _, err := s.ReleaseEvent(t.Context(), h.ID); err == nil {
						t.Error("released twice")
					}
				}
			})
		})
	}
}

func TestLoginCodes(t *testing.T) {
	for mode, same := range map[string]bool{CodeSame: true, CodeDifferent: false} {
		s, _ := newPushSim(t, func(k *Knobs) { k.RedirectCode = mode })
		a, err := s.ConfirmLogin(t.Context(), openPage(t, s, newCode(t, s)), officialOne)
		if err != nil || (a.Code == a.EventCode) != same {
			t.Errorf("%s: %+v %v", mode, a, err)
		}
		component := componentToken(t, s)
		queryAuth(t, s, component, a.EventCode).want(0)
		queryAuth(t, s, component, a.Code).want(61010)
	}
}

func TestLoginAgain(t *testing.T) {
	for name, c := range map[string]struct {
		knob   string
		scopes []int
		end    bool // unauthorized in between
		want   string
	}{
		"other permission sets": {ReauthorizeAsChanged, []int{1}, false, "updateauthorized"},
		"the same, reordered":   {ReauthorizeAsChanged, []int{2, 1}, false, ""},
		"after the end":         {ReauthorizeAsChanged, []int{1, 2}, true, "authorized"},
		"as a new one":          {ReauthorizeNew, []int{1, 2}, false, "authorized"},
		"always an update":      {ReauthorizeUpdate, []int{1, 2}, false, "updateauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			s, rc := newPushSim(t, func(k *Knobs) { k.ReauthorizeEvent = c.knob })
			component := componentToken(t, s)
			first, err := s.ConfirmLogin(t.Context(), openPage(t, s, newCode(t, s)), officialOne, 1, 2)
			if err != nil || first.Event != "authorized" {
				t.Fatal(first, err)
			}
			info := queryAuth(t, s, component, first.Code).want(0).object("authorization_info")
			if c.end {
				if _, err := s.Unauthorize(t.Context(), officialOne, WithoutPush()); err != nil {
					t.Fatal(err)
				}
			}
			before := len(rc.all())
			again, err := s.ConfirmLogin(t.Context(), openPage(t, s, newCode(t, s)), officialOne, c.scopes...)
			if err != nil || again.Event != c.want {
				t.Errorf("%+v %v", again, err)
			}
			events := rc.all()[before:]
			if (len(events) == 1) != (c.want != "") || c.want != "" && events[0].fields["InfoType"] != c.want {
				t.Errorf("events %+v", events)
			}
			// The old tokens are dead, and the new code brings others.
			use(t, s, info.text("authorizer_access_token")).want(map[bool]int{false: 40001, true: 61003}[c.end])
			refresh(t, s, component, officialOne, info.text("authorizer_refresh_token")).want(61023)
			renewed := queryAuth(t, s, component, again.Code).want(0).object("authorization_info")
			refresh(t, s, component, officialOne, renewed.text("authorizer_refresh_token")).want(0)
			if st := s.State().Authorizers[0]; !sameScopes(st.Scopes, c.scopes) {
				t.Errorf("scopes %v", st.Scopes)
			}
		})
	}
}

func TestPreAuthCodeUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newPushSim(t, func(k *Knobs) { k.PreAuthCodeUse = UseOnVisit })
		code := newCode(t, s)
		id := openPage(t, s, code)
		if _, err := s.OpenLogin(loginLink(pathLoginPC, code), entryPage); err == nil || !strings.Contains(err.Error(), RefusedUsedCode) {
			t.Errorf("a second visit: %v", err)
		}
		if _, err := s.Authorize(t.Context(), officialOne, WithPreAuthCode(code)); err == nil {
			t.Error("authorized by a code that a page uses")
		}
		if _, err := s.ConfirmLogin(t.Context(), id, officialOne); err != nil {
			t.Error(err)
		}
		expiring := newCode(t, s)
		id = openPage(t, s, expiring)
		time.Sleep(30*time.Minute - time.Nanosecond)
		if l := s.Logins(); l[1].Status != LoginPending {
			t.Errorf("%+v", l[1])
		}
		time.Sleep(time.Nanosecond)
		if _, err := s.ConfirmLogin(t.Context(), id, officialOne); err == nil || !strings.Contains(err.Error(), RefusedExpiredCode) {
			t.Errorf("an expired code: %v", err)
		}
		if l := s.Logins(); l[0].Status != LoginConfirmed || l[0].AppID != officialOne || l[1].Status != LoginSpent {
			t.Errorf("%+v", l)
		}
		s.Reset()
		if _, err := s.ConfirmLogin(t.Context(), id, officialOne); err == nil || !strings.Contains(err.Error(), RefusedPage) {
			t.Errorf("after a reset: %v", err)
		}
		s.Close()
		if _, err := s.ConfirmLogin(t.Context(), id, officialOne); err == nil || !strings.Contains(err.Error(), RefusedClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Faults break login pages as they break any call.
func TestLoginFaults(t *testing.T) {
	b := newBrowser(t)
	link := loginLink(pathLoginPC, b.code())
	b.s.AddFault(Fault{Path: pathLoginPC, Kind: FaultStatus, Status: 503, Times: 1})
	if got := b.visit(link, entryPage); got.status != 503 {
		t.Errorf("status %d", got.status)
	}
	opened := b.visit(link, entryPage)
	// Confirm has its effect, and the browser gets nothing.
	b.s.AddFault(Fault{Path: pathLoginPC, AppID: officialOne, Kind: FaultLost, Times: 1})
	form := opened.form(t, officialOne, "confirm")
	r, _ := http.NewRequest("POST", b.url+pathLoginPC, strings.NewReader(form.Encode()))
	if resp, err := b.client.Do(r); err == nil {
		resp.Body.Close()
		t.Errorf("answered %s", resp.Status)
	}
	if len(b.rc.all()) != 1 || b.submit(form).page != "error/"+RefusedUsedCode {
		t.Error("the lost Confirm had no effect")
	}
}

func TestAddQuery(t *testing.T) {
	for uri, want := range map[string]string{
		"https://a/b":        "https://a/b?q=1",
		"https://a/b?":       "https://a/b?q=1",
		"https://a/b?x=%2F&": "https://a/b?x=%2F&q=1",
		"https://a/b?x#f?":   "https://a/b?x&q=1#f?",
		"https://a":          "https://a?q=1",
	} {
		if got := addQuery(uri, "q=1"); got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
	}
}
