package wechattest

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/msgcrypt"
)

// receiver plays the platform: it opens pushes by msgcrypt alone. As an
// http.RoundTripper it needs no network.
type receiver struct {
	mu     sync.Mutex
	answer func(n int) (status int, body string) // n counts from 1
	got    []received
}

type received struct {
	at     time.Time
	url    *url.URL
	outer  string // the clear part of the body
	inner  string
	fields map[string]string
}

func (rc *receiver) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	body, _ := io.ReadAll(r.Body)
	var envelope struct {
		AppId, ToUserName, Encrypt string
	}
	if err := xml.Unmarshal(body, &envelope); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	if !msgcrypt.Verify(DefaultMessageToken, q.Get("timestamp"), q.Get("nonce"), envelope.Encrypt, q.Get("msg_signature")) {
		return nil, errors.New("msg_signature")
	}
	key, _ := msgcrypt.ParseKey(DefaultEncodingAESKey)
	msg, appID, err := key.Decrypt(envelope.Encrypt)
	if err != nil || appID != DefaultComponentAppID {
		return nil, fmt.Errorf("tail %q: %v", appID, err)
	}
	fields := map[string]string{}
	for _, name := range []string{"AppId", "InfoType", "CreateTime", "ComponentVerifyTicket", "AuthorizerAppid", "AuthorizationCode",
		"AuthorizationCodeExpiredTime", "PreAuthCode", "appid", "auth_code", "Content"} {
		fields[name] = element(msg, name)
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	rc.got = append(rc.got, received{time.Now(), r.URL, envelope.AppId + envelope.ToUserName, string(msg), fields})
	status, answer := 200, "success"
	if rc.answer != nil {
		status, answer = rc.answer(len(rc.got))
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer))}, nil
}

func (rc *receiver) all() []received {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return slices.Clone(rc.got)
}

func newPushSim(t *testing.T, change ...func(*Knobs)) (*Server, *receiver) {
	t.Helper()
	rc := &receiver{}
	s := newSimWith(t, Options{
		EventURL: "http://platform.test/wechat/events", MessageURL: "http://platform.test/wechat/messages/$APPID$",
		Client: &http.Client{Transport: rc},
	}, change...)
	return s, rc
}

func TestPushTicket(t *testing.T) {
	s, rc := newPushSim(t)
	for range 3 {
		if err := s.PushTicket(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := rc.all()
	first := got[0]
	if first.fields["InfoType"] != "component_verify_ticket" || first.fields["AppId"] != DefaultComponentAppID || first.outer != DefaultComponentAppID {
		t.Errorf("push %+v", first)
	}
	for _, name := range []string{"signature", "timestamp", "nonce", "encrypt_type", "msg_signature"} {
		if first.url.Query().Get(name) == "" {
			t.Errorf("no %s in the query", name)
		}
	}
	q := first.url.Query()
	if len(q) != 5 || q.Get("encrypt_type") != "aes" || q.Get("signature") != signature(DefaultMessageToken, q.Get("timestamp"), q.Get("nonce")) {
		t.Errorf("query %v", q)
	}
	ticket := func(i int) string { return got[i].fields["ComponentVerifyTicket"] }
	if !strings.HasPrefix(ticket(0), "ticket@@@") || ticket(0) != ticket(1) || ticket(1) == ticket(2) {
		t.Error("each ticket should come twice")
	}
	fetchComponent(t, s, ticket(0)).want(0)
	fetchComponent(t, s, ticket(2)).want(0)
	pushes := s.Pushes()
	if len(pushes) != 3 || !pushes[0].Acknowledged || pushes[0].Status != 200 || pushes[0].Answer != "success" {
		t.Errorf("pushes %+v", pushes)
	}
}

func TestTicketKnob(t *testing.T) {
	for mode, want := range map[string]struct {
		pushes, different int
		errcode           int
	}{
		TicketNew:     {4, 4, 0},
		TicketSame:    {4, 1, 0},
		TicketGarbage: {4, 4, 61006},
		TicketNone:    {0, 0, 0},
	} {
		t.Run(mode, func(t *testing.T) {
			s, rc := newPushSim(t, func(k *Knobs) { k.Ticket = mode })
			tickets := map[string]bool{}
			for range 4 {
				if err := s.PushTicket(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range rc.all() {
				tickets[p.fields["ComponentVerifyTicket"]] = true
				fetchComponent(t, s, p.fields["ComponentVerifyTicket"]).want(want.errcode)
			}
			if len(rc.all()) != want.pushes || len(tickets) != want.different {
				t.Errorf("%d pushes, %d tickets", len(rc.all()), len(tickets))
			}
		})
	}
}

func TestPushRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rc := newPushSim(t)
		rc.answer = func(n int) (int, string) {
			switch n {
			case 1:
				return 500, "success"
			case 2:
				return 200, "success\n"
			}
			return 200, "success"
		}
		if err := s.PushTicket(t.Context()); err != nil {
			t.Error(err)
		}
		if got := rc.all(); len(got) != 3 || got[2].at.Sub(got[0].at) != 2*time.Second || got[0].inner != got[2].inner {
			t.Errorf("attempts %+v", got)
		}
		rc.answer = func(int) (int, string) { return 200, "ok" }
		if err := s.PushTicket(t.Context()); !errors.Is(err, ErrNotAcknowledged) {
			t.Error(err)
		}
		a, err := s.Authorize(t.Context(), authorizerA)
		if err != nil || a.Pushed || a.PushError == "" {
			t.Errorf("%+v %v", a, err)
		}
		if n := len(rc.all()); n != 7 { // 3 + 3 tickets, 1 event
			t.Errorf("%d attempts", n)
		}

		s.SetKnobs(func(k *Knobs) { k.PushPauseAfterFailed = Duration(time.Minute) })
		s.PushTicket(t.Context())
		if err := s.PushTicket(t.Context()); !errors.Is(err, ErrPaused) {
			t.Error(err)
		}
		rc.answer = nil
		time.Sleep(time.Minute)
		if err := s.PushTicket(t.Context()); err != nil {
			t.Error(err)
		}
		s.SetKnobs(func(k *Knobs) { k.TicketAttempts = 0 })
		if err := s.PushTicket(t.Context()); !errors.Is(err, ErrNotAcknowledged) {
			t.Error(err)
		}
		s.SetEventURL("")
		if err := s.PushTicket(t.Context()); !errors.Is(err, ErrNoURL) {
			t.Error(err)
		}
	})
}

func TestAuthorizationEvents(t *testing.T) {
	s, rc := newPushSim(t)
	component := componentToken(t, s)
	pre := componentCall(t, s, "api_create_preauthcode", component, object{}).text("pre_auth_code")
	a, err := s.Authorize(t.Context(), authorizerA, WithPreAuthCode(pre))
	if err != nil || !a.Pushed {
		t.Fatal(a, err)
	}
	s.UpdateAuthorize(t.Context(), authorizerA)
	s.Unauthorize(t.Context(), authorizerA)
	b, _ := s.PushFastRegister(t.Context(), authorizerB)
	s.PushEvent(t.Context(), "notify_3rd_wxa_wxverify", Field{Name: "message", Value: "a]]>b<c"})
	got := rc.all()
	if e := got[0].fields; e["InfoType"] != "authorized" || e["AuthorizerAppid"] != authorizerA || e["AuthorizationCode"] != a.EventCode ||
		e["AuthorizationCodeExpiredTime"] != fmt.Sprint(a.ExpiresAt.Unix()) || e["PreAuthCode"] != pre {
		t.Errorf("authorized %v", e)
	}
	if e := got[1].fields; e["InfoType"] != "updateauthorized" || e["AuthorizationCode"] == a.EventCode {
		t.Errorf("updateauthorized %v", e)
	}
	if e := got[2].fields; e["InfoType"] != "unauthorized" || e["AuthorizerAppid"] != authorizerA || e["AuthorizationCode"] != "" {
		t.Errorf("unauthorized %v", e)
	}
	if e := got[3].fields; e["InfoType"] != "notify_third_fasteregister" || e["appid"] != authorizerB || e["auth_code"] != b.Code {
		t.Errorf("fast register %v", e)
	}
	queryAuth(t, s, component, b.Code).want(0)
	var last struct {
		InfoType string
		Message  string `xml:"message"`
	}
	if err := xml.Unmarshal([]byte(got[4].inner), &last); err != nil || last.Message != "a]]>b<c" {
		t.Errorf("%+v %v", last, err)
	}
	s.SetKnobs(func(k *Knobs) { k.XMLSlip = true })
	if msg := s.EventXML("authorized"); !strings.HasSuffix(string(msg), "<xml>") {
		t.Errorf("no slip in %s", msg)
	}
}

func TestPushOrder(t *testing.T) {
	for order, want := range map[string][]time.Duration{
		OrderEventFirst:    {0},
		OrderRedirectFirst: {time.Second},
		OrderEventLate:     {30 * time.Second},
		OrderEventTwice:    {0, 0},
		OrderEventLost:     nil,
	} {
		t.Run(order, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, rc := newPushSim(t, func(k *Knobs) { k.PushOrder = order })
				start := time.Now()
				if _, err := s.Authorize(t.Context(), authorizerA); err != nil || time.Since(start) != 0 {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				time.Sleep(time.Minute)
				var at []time.Duration
				for _, p := range rc.all() {
					at = append(at, p.at.Sub(start))
				}
				if !slices.Equal(at, want) {
					t.Errorf("events at %v, want %v", at, want)
				}
			})
		})
	}
}

func TestCloseEndsLatePushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rc := newPushSim(t)
		s.Authorize(t.Context(), authorizerA, WithPushDelay(time.Hour))
		s.Authorize(t.Context(), authorizerB, WithoutPush())
		s.Close()
		if len(rc.all()) != 0 {
			t.Error("pushed after Close")
		}
		if _, err := s.Authorize(t.Context(), authorizerA); err == nil {
			t.Error("authorized after Close")
		}
	})
}

func TestPushMessage(t *testing.T) {
	s, rc := newPushSim(t)
	s.AddAuthorizer(authorizerA, WithUserName("gh_3c884a361561"))
	msg := s.TextMessage(authorizerA, "oUser", "TESTCOMPONENT_MSG_TYPE_TEXT")
	key, _ := msgcrypt.ParseKey(DefaultEncodingAESKey)
	encrypt, _ := key.Encrypt([16]byte{}, []byte("<xml><Content>yes</Content></xml>"), DefaultComponentAppID)
	reply := func(sign string) string {
		return "<xml><Encrypt><![CDATA[" + encrypt + "]]></Encrypt><MsgSignature>" + sign +
			"</MsgSignature><TimeStamp>1</TimeStamp><Nonce><![CDATA[2]]></Nonce></xml>"
	}
	for answer, want := range map[string]struct {
		acknowledged bool
		reply        string
	}{
		"":        {true, ""},
		"success": {true, "success"},
		reply(msgcrypt.Signature(DefaultMessageToken, "1", "2", encrypt)): {true, "<xml><Content>yes</Content></xml>"},
		reply("wrong"): {false, ""},
		"oops":         {false, ""},
	} {
		rc.answer = func(int) (int, string) { return 200, answer }
		s.SetKnobs(func(k *Knobs) { k.MessageAttempts = 1 })
		rec, err := s.PushMessage(t.Context(), authorizerA, msg)
		if rec.Acknowledged != want.acknowledged || rec.Reply != want.reply || (err == nil) != want.acknowledged {
			t.Errorf("answer %.60q: %+v %v", answer, rec, err)
		}
	}
	got := rc.all()[0]
	if got.url.Path != "/wechat/messages/"+authorizerA || got.outer != "gh_3c884a361561" || got.url.Query().Get("openid") != "oUser" ||
		got.fields["Content"] != "TESTCOMPONENT_MSG_TYPE_TEXT" {
		t.Errorf("message %+v", got)
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rc := newPushSim(t, func(k *Knobs) { k.TicketAttempts = 1 })
		rc.answer = func(n int) (int, string) {
			if n < 3 {
				return 503, ""
			}
			return 200, "success"
		}
		ctx, cancel := context.WithCancel(t.Context())
		var loop sync.WaitGroup
		start := time.Now()
		loop.Go(func() { s.Run(ctx) })
		time.Sleep(21 * time.Minute)
		var at []time.Duration
		for _, p := range rc.all() {
			at = append(at, p.at.Sub(start))
		}
		second, minute := time.Second, time.Minute
		if want := []time.Duration{0, second, 2 * second, 10*minute + 2*second, 20*minute + 2*second}; !slices.Equal(at, want) {
			t.Errorf("tickets at %v", at)
		}
		s.SetTicketPush(false)
		time.Sleep(time.Hour)
		if n := len(rc.all()); n != 5 {
			t.Errorf("%d pushes while switched off", n-5)
		}
		s.SetTicketPush(true)
		synctest.Wait()
		if n := len(rc.all()); n != 6 {
			t.Errorf("%d pushes after switching on", n-5)
		}
		s.SetKnobs(func(k *Knobs) { k.TicketInterval = Duration(minute) })
		time.Sleep(minute + second)
		if n := len(rc.all()); n != 7 {
			t.Errorf("%d pushes after the interval changed", n-6)
		}
		cancel()
		loop.Wait()
	})
}

func TestSealAndTamper(t *testing.T) {
	s := newSim(t)
	open := func(token, aesKey string, query url.Values, body []byte) (signed bool, appID string, err error) {
		encrypt := element(body, "Encrypt")
		key, _ := msgcrypt.ParseKey(aesKey)
		_, appID, err = key.Decrypt(encrypt)
		return msgcrypt.Verify(token, query.Get("timestamp"), query.Get("nonce"), encrypt, query.Get("msg_signature")), appID, err
	}
	query, body := s.BuildPush(s.EventXML("x"))
	if signed, appID, err := open(DefaultMessageToken, DefaultEncodingAESKey, query, body); !signed || appID != DefaultComponentAppID || err != nil {
		t.Error(signed, appID, err)
	}
	for _, part := range Tamperings {
		q, b := Tamper(query, body, part)
		if signed, _, _ := open(DefaultMessageToken, DefaultEncodingAESKey, q, b); signed {
			t.Errorf("%s spoiled, and still good", part)
		}
	}
	if signed, _, _ := open(DefaultMessageToken, DefaultEncodingAESKey, query, body); !signed {
		t.Error("Tamper changed its arguments")
	}
	const otherKey = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
	q, b, _ := s.SealPush([]byte("x"), Sealing{AppID: authorizerA, Token: "other", EncodingAESKey: otherKey, Timestamp: 5})
	if signed, appID, err := open("other", otherKey, q, b); !signed || appID != authorizerA || err != nil || q.Get("timestamp") != "5" {
		t.Error(signed, appID, err)
	}
	if _, _, err := s.SealPush(nil, Sealing{EncodingAESKey: "short"}); err == nil {
		t.Error("a short key sealed")
	}
	if err := s.SetMessageSecurity("next", otherKey); err != nil {
		t.Fatal(err)
	}
	q, b = s.BuildPush([]byte("x"))
	if signed, _, err := open("next", otherKey, q, b); !signed || err != nil {
		t.Error(signed, err)
	}
}

func TestPushOverNetwork(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Query().Get("own") != "1" || r.ContentLength <= 0 {
			w.WriteHeader(400)
		}
		io.WriteString(w, "success")
	}))
	defer ts.Close()
	s := newSimWith(t, Options{EventURL: ts.URL + "/?own=1"})
	if err := s.PushTicket(t.Context()); err != nil {
		t.Error(err)
	}
	s.SetEventURL("http://127.0.0.1:1/?secret=1")
	s.SetKnobs(func(k *Knobs) { k.TicketAttempts = 1 })
	if err := s.PushTicket(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}
