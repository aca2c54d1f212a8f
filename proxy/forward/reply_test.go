package forward

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/tokens/secret"
)

func replier() Target {
	t := all("bot")
	t.Reply = true
	return t
}

// reply accepts a message and asks for a reply, as the caller does.
func (w *world) reply(xml string) (answer string, ok bool, took time.Duration) {
	w.t.Helper()
	push := Push{AppID: alice, XML: secret.New(xml)}
	if err := w.f.Accept(w.t.Context(), push); err != nil {
		w.t.Fatal(err)
	}
	began := time.Now()
	body, ok := w.f.Reply(w.t.Context(), push)
	return string(body), ok, time.Since(began)
}

func TestReply(t *testing.T) {
	const answer = "<xml><MsgType>text</MsgType><Content>hush-text</Content></xml>"
	inWorld(t, []Target{replier(), all("a")}, func(t *testing.T, w *world) {
		w.running()
		w.answer(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Host == "bot" {
				if r.Header.Get("X-Lingpai-Reply") != "true" || r.Header.Get("X-Lingpai-Signature") == "" {
					t.Errorf("fields %v", r.Header)
				}
				time.Sleep(2 * time.Second)
				io.WriteString(rw, "\n"+answer+" ")
			}
		})
		got, ok, took := w.reply(text(1))
		if got != answer || !ok || took != 2*time.Second {
			t.Errorf("%q, %t, after %s", got, ok, took)
		}
		w.settle(time.Hour)
		// Each got it once.
		if n := len(w.take()); n != 2 {
			t.Errorf("%d requests", n)
		}
		w.counts(0, 0)
		w.counted("bot", "delivered", 1)
	})
}

// What is no answer is answered success, and the message is not sent again.
func TestNoReply(t *testing.T) {
	for name, answer := range map[string]string{
		"empty":     " \n",
		"success":   "success",
		"no XML":    "hush-text",
		"cut XML":   "<xml><MsgType>",
		"too long":  "<xml>" + strings.Repeat("a", maxReply) + "</xml>",
		"other XML": "<html></html>",
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []Target{replier()}, func(t *testing.T, w *world) {
				w.running()
				w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, answer) })
				if got, ok, _ := w.reply(text(1)); ok || got != "" {
					t.Errorf("%q, %t", got, ok)
				}
				w.settle(time.Hour)
				if n := len(w.take()); n != 1 {
					t.Errorf("%d requests", n)
				}
				w.counts(0, 0)
			})
		})
	}
}

// A message that the replier has not taken in time is queued for it, and its
// answer comes too late.
func TestReplyFails(t *testing.T) {
	for name, test := range map[string]struct {
		app  http.HandlerFunc
		took time.Duration
	}{
		"slow": {func(rw http.ResponseWriter, _ *http.Request) {
			time.Sleep(10 * time.Second)
			io.WriteString(rw, "<xml></xml>")
		}, replyWithin - replyReserve},
		"an error": {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) }, 0},
		"a cut":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []Target{replier()}, func(t *testing.T, w *world) {
				w.running()
				w.answer(test.app)
				got, ok, took := w.reply(text(1))
				if ok || got != "" || took != test.took {
					t.Errorf("%q, %t, after %s", got, ok, took)
				}
				w.counts(1, 0)
				w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "<xml></xml>") })
				w.settle(time.Minute)
				all := w.take()
				if len(all) != 2 || all[0].header.Get("X-Lingpai-Delivery") != all[1].header.Get("X-Lingpai-Delivery") ||
					all[1].header.Get("X-Lingpai-Reply") != "" || all[1].body != text(1) {
					t.Errorf("got %+v", all)
				}
				w.counts(0, 0)
				synctest.Wait()
			})
		})
	}
}

func TestReplyIsForMessages(t *testing.T) {
	target := replier()
	target.AppIDs = []string{alice}
	target.Events = []string{"text", "authorized"}
	inWorld(t, []Target{target}, func(t *testing.T, w *world) {
		f := func(appID, xml string, queued int) {
			t.Helper()
			push := Push{AppID: appID, XML: secret.New(xml)}
			if err := w.f.Accept(t.Context(), push); err != nil {
				t.Error(err)
			}
			if _, ok := w.f.Reply(t.Context(), push); ok {
				t.Error("ok")
			}
			w.bodies()
			w.counts(queued, 0)
		}
		f(bob, text(1), 0)
		f(alice, "<xml><MsgType>image</MsgType></xml>", 0)
		// An authorization event gets no reply: it comes from the queue, at once.
		f(alice, "<xml><InfoType>authorized</InfoType></xml>", 1)
		w.running()
		w.bodies("<xml><InfoType>authorized</InfoType></xml>")
		if _, ok := w.f.Reply(t.Context(), Push{XML: secret.New("hush-text")}); ok {
			t.Error("ok")
		}
		w.f.Reconfigure([]Target{all("a")})
		if _, ok := w.f.Reply(t.Context(), Push{XML: secret.New(text(1))}); ok {
			t.Error("ok")
		}
		w.bodies()
	})
}

// A process that dies before it has asked loses no message.
func TestReplyNeverAsked(t *testing.T) {
	inWorld(t, []Target{replier()}, func(t *testing.T, w *world) {
		w.running()
		w.accept(alice, text(1))
		w.settle(replyFirst - time.Millisecond)
		w.bodies()
		w.settle(time.Millisecond)
		w.bodies(text(1))
		w.counts(0, 0)
	})
}

// A store that fails after the answer has come takes nothing from it; the message
// comes once more, as at least once allows.
func TestReplyStaysQueued(t *testing.T) {
	for _, op := range []string{"find", "delete"} {
		inWorld(t, []Target{replier()}, func(t *testing.T, w *world) {
			w.answer(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "<xml></xml>") })
			w.disk.failing(op)
			if got, ok, _ := w.reply(text(1)); !ok || got != "<xml></xml>" {
				t.Errorf("%q, %t", got, ok)
			}
			w.logged("is delivered again")
			w.counts(1, 0)
			w.disk.failing()
			w.running()
			w.settle(time.Minute)
			w.bodies(text(1), text(1))
			w.counts(0, 0)
		})
	}
}

// What was not replied to and waits goes to the target in order.
func TestUnrepliedKeepTheirOrder(t *testing.T) {
	inWorld(t, []Target{replier()}, func(t *testing.T, w *world) {
		w.running()
		w.answerStatus(http.StatusInternalServerError)
		for n := range 3 {
			w.reply(text(n))
		}
		w.answerStatus(http.StatusOK)
		w.take()
		w.settle(time.Minute)
		w.bodies(text(0), text(1), text(2))
	})
}

// Beyond the bound messages stay in the queue, and the caller's deadline counts.
func TestReplyBounds(t *testing.T) {
	inWorld(t, []Target{replier()}, func(t *testing.T, w *world) {
		w.f.replies = make(chan struct{}, 1)
		w.answer(func(rw http.ResponseWriter, _ *http.Request) {
			time.Sleep(3 * time.Second)
			io.WriteString(rw, "<xml></xml>")
		})
		done := make(chan bool)
		go func() {
			_, ok, _ := w.reply(text(1))
			done <- ok
		}()
		synctest.Wait()
		if _, ok, took := w.reply(text(2)); ok || took > 0 {
			t.Errorf("%t, after %s", ok, took)
		}
		if !<-done {
			t.Error("the first got no reply")
		}
		w.counts(1, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		_, ok := w.f.Reply(ctx, Push{AppID: alice, XML: secret.New(text(2))})
		if took := time.Since(began); ok || took != 2*time.Second-replyReserve {
			t.Errorf("%t, after %s", ok, took)
		}
		w.counts(1, 0)
		time.Sleep(time.Minute)
	})
}
