package callback

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/msgcrypt"
	"lingpai/tokens/wechat/wechattest"
)

// app is an Apps that does as it is told.
type app struct {
	mu       sync.Mutex
	accepted []Message
	err      error
	answer   string
	delay    time.Duration
}

func (a *app) Accept(_ context.Context, m Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		a.accepted = append(a.accepted, m)
	}
	return a.err
}

func (a *app) Reply(ctx context.Context, _ Message) ([]byte, bool) {
	timer := time.NewTimer(a.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return []byte(a.answer), a.answer != ""
	case <-ctx.Done():
		return nil, false
	}
}

// answerTo delivers a message and returns the status and body of the answer.
func answerTo(t *testing.T, config *Config, apps Apps, sim *wechattest.Server, path string, message []byte) (status int, body string) {
	t.Helper()
	h := New(config, receiverFunc(func(context.Context) error { return nil }), apps, metrics.New("", "", ""), (&lines{}).logger())
	query, sealed := sim.BuildPush(message)
	request := httptest.NewRequest("POST", path+"?"+query.Encode(), strings.NewReader(string(sealed)))
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, request)
	return rec.Code, rec.Body.String()
}

// opened is what WeChat reads of a passive reply.
func opened(t *testing.T, body string) string {
	t.Helper()
	var envelope struct {
		Encrypt, MsgSignature, TimeStamp, Nonce string
	}
	if err := xml.Unmarshal([]byte(body), &envelope); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if !msgcrypt.Verify(wechattest.DefaultMessageToken, envelope.TimeStamp, envelope.Nonce, envelope.Encrypt, envelope.MsgSignature) {
		t.Fatalf("the signature of the reply does not hold: %s", body)
	}
	message, appID, err := parseKey(t, wechattest.DefaultEncodingAESKey).Decrypt(envelope.Encrypt)
	if err != nil || appID != component {
		t.Fatalf("%q %v", appID, err)
	}
	return string(message)
}

func TestMessagesReachApps(t *testing.T) {
	sim := wechattest.New(wechattest.Options{})
	defer sim.Close()
	text := sim.TextMessage(authorizer, "o1", "hello")
	plain := "<xml><MsgType>text</MsgType><Content>你好 ]]&gt; &amp;</Content></xml>"
	f := func(name string, a *app, status int, want string, accepted int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			config := settings(t)
			began := time.Now()
			gotStatus, body := answerTo(t, config, a, sim, messages, text)
			if gotStatus != status {
				t.Errorf("%s: status %d, want %d", name, gotStatus, status)
			}
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("%s: answered after %s", name, took)
			}
			if strings.HasPrefix(want, "<xml>") {
				body = opened(t, body)
			}
			if status == 200 && body != want {
				t.Errorf("%s: answered %q, want %q", name, body, want)
			}
			if len(a.accepted) != accepted {
				t.Errorf("%s: %d messages accepted", name, len(a.accepted))
			}
			for _, m := range a.accepted {
				if m.AppID != authorizer || m.XML.Reveal() != string(text) || m.Digest == "" || m.ReceivedAt.IsZero() {
					t.Errorf("%s: accepted for %q", name, m.AppID)
				}
			}
		})
	}
	f("no reply", &app{}, 200, "success", 1)
	f("reply", &app{answer: plain}, 200, plain, 1)
	f("reply of success", &app{answer: " success\n"}, 200, "success", 1)
	f("late reply", &app{answer: plain, delay: 10 * time.Second}, 200, "success", 1)
	f("reply in time", &app{answer: plain, delay: 3 * time.Second}, 200, plain, 1)
	f("store down", &app{err: errors.New("down"), answer: plain}, 503, "", 0)
}

// Events that lingpai does not work on are passed on; tickets are not.
func TestOtherEventsReachApps(t *testing.T) {
	sim := wechattest.New(wechattest.Options{})
	defer sim.Close()
	f := func(message []byte, want int, appID string) {
		t.Helper()
		a := &app{}
		if status, body := answerTo(t, settings(t), a, sim, events, message); status != 200 || body != "success" {
			t.Errorf("%d %q", status, body)
		}
		if len(a.accepted) != want || want > 0 && a.accepted[0].AppID != appID {
			t.Errorf("%d accepted of %s", len(a.accepted), message)
		}
	}
	f(sim.EventXML("something_new", text("AuthorizerAppid", authorizer)), 1, authorizer)
	f(sim.EventXML("something_new"), 1, "")
	f(sim.EventXML("notify_third_fasteregister", text("appid", authorizer), text("status", "86004")), 1, authorizer)
	f(at(1, "ticket@@@x"), 0, "")
	// These come when they have been worked on.
	f(sim.EventXML("unauthorized", text("AuthorizerAppid", authorizer)), 0, "")
}

// WeChat's release test passes, with every one of its pairs of accounts.
func TestReleaseTest(t *testing.T) {
	w := newWorld(t)
	config := settings(t)
	config.ReleaseTest = true
	w.handler.Reconfigure(config)
	w.run(w.service)
	if err := w.sim.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	for pair := range 5 {
		report, err := w.sim.RunReleaseTest(t.Context(), wechattest.ReleaseTest{Pair: pair, WithEvent: pair == 1})
		if err != nil {
			t.Fatal(err)
		}
		if !report.Passed {
			t.Errorf("pair %d: %+v", pair, report)
		}
	}
	for _, value := range w.sim.Secrets() {
		if strings.Contains(w.log.String(), value) {
			t.Errorf("the log holds the secret %.8s…", value)
		}
	}
	// Without the key they are messages like others.
	w.handler.Reconfigure(settings(t))
	report, err := w.sim.RunReleaseTest(t.Context(), wechattest.ReleaseTest{Wait: wechattest.Duration(100 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	if report.Passed {
		t.Error("it passed without callback.release_test")
	}
	// Other accounts' messages are not answered, whatever they say.
	status, body := answerTo(t, config, nil, w.sim, messages, w.sim.TextMessage(authorizer, "o1", releaseText))
	if status != 200 || body != "success" {
		t.Errorf("%d %q", status, body)
	}
}
