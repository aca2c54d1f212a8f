package forward

import (
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"

	"lingpai/tokens/store"
)

// letters has two dead letters to a and one to b.
func (w *world) letters() []Letter {
	w.t.Helper()
	w.answerStatus(http.StatusGone)
	w.accept(alice, "<xml><InfoType>authorized</InfoType><AuthorizationCode>hush-code</AuthorizationCode></xml>")
	w.settle(0)
	w.accept(bob, text(2))
	w.settle(0)
	w.take()
	letters, err := w.f.DeadLetters(w.t.Context(), "", 0, 100)
	if err != nil || len(letters) != 3 {
		w.t.Fatalf("%+v, %v", letters, err)
	}
	return letters
}

func TestDeadLetters(t *testing.T) {
	b := all("b")
	b.JSON, b.AppIDs = true, []string{bob}
	inWorld(t, []Target{all("a"), b}, func(t *testing.T, w *world) {
		w.running()
		letters := w.letters()
		ctx := t.Context()
		want := Letter{Seq: letters[0].Seq, ID: letters[0].ID, Target: "a", AppID: alice, Type: "authorized",
			ReceivedAt: w.began.UTC(), Attempts: 1, LastError: "status 410"}
		if letters[0] != want {
			t.Errorf("%+v, want %+v", letters[0], want)
		}
		f := func(target string, after uint64, limit int, want ...Letter) {
			t.Helper()
			got, err := w.f.DeadLetters(ctx, target, after, limit)
			if err != nil || got == nil || len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
				t.Errorf("DeadLetters(%q, %d, %d): %+v, %v", target, after, limit, got, err)
			}
		}
		f("", letters[0].Seq, 1, letters[1])
		f("b", 0, 100, letters[2])
		f("a", 0, 1, letters[0])
		f("a", letters[1].Seq, 100)
		f("none", 0, 100)

		for i, body := range []string{
			"<xml><InfoType>authorized</InfoType><AuthorizationCode></AuthorizationCode></xml>", text(2),
			`{"MsgType":"text","Content":"hush-text 2"}`,
		} {
			letter, content, err := w.f.DeadLetter(ctx, letters[i].Seq)
			contentType := map[string]string{"a": "application/xml", "b": "application/json"}[letter.Target]
			if err != nil || letter != letters[i] || string(content.Body) != body || content.Type != contentType {
				t.Errorf("%+v, %s %s, %v", letter, content.Type, content.Body, err)
			}
		}
		if err := w.f.DeleteDeadLetter(ctx, letters[1].Seq); err != nil {
			t.Error(err)
		}
		w.counts(0, 2)
		for name, err := range map[string]error{
			"show": func() error { _, _, err := w.f.DeadLetter(ctx, letters[1].Seq); return err }(),
			"send": func() error { _, err := w.f.Resend(ctx, letters[1].Seq); return err }(),
			"drop": w.f.DeleteDeadLetter(ctx, letters[1].Seq),
		} {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s what is not there: %v", name, err)
			}
		}
	})
}

func TestResend(t *testing.T) {
	inWorld(t, []Target{all("a"), all("b")}, func(t *testing.T, w *world) {
		w.running()
		b := all("b")
		b.AppIDs = []string{bob}
		w.f.Reconfigure([]Target{all("a"), b})
		letters := w.letters()
		ctx := t.Context()
		w.settle(48 * time.Hour) // age does not count any more
		w.answerStatus(http.StatusInternalServerError)
		again, err := w.f.Resend(ctx, letters[0].Seq)
		if err != nil || again.ID != letters[0].ID || again.Seq <= letters[2].Seq {
			t.Errorf("%+v, %v", again, err)
		}
		w.settle(23 * time.Hour)
		w.counts(1, 2)
		for name, err := range map[string]error{
			"send": func() error { _, err := w.f.Resend(ctx, again.Seq); return err }(),
			"drop": w.f.DeleteDeadLetter(ctx, again.Seq),
		} {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s what is no dead letter: %v", name, err)
			}
		}
		w.settle(2 * time.Hour)
		w.counts(0, 3)
		w.answerStatus(http.StatusOK)
		w.take()
		if n, err := w.f.ResendAll(ctx, "a"); n != 2 || err != nil {
			t.Errorf("%d are sent, %v", n, err)
		}
		w.settle(0)
		for _, g := range w.take() {
			if g.host != "a" {
				t.Errorf("sent to %s", g.host)
			}
		}
		w.counts(0, 1)
		if n, err := w.f.ResendAll(ctx, "c"); n != 0 || !errors.Is(err, ErrNoTarget) {
			t.Errorf("%d are sent, %v", n, err)
		}
		w.f.Reconfigure([]Target{all("a")})
		if _, err := w.f.Resend(ctx, letters[2].Seq); !errors.Is(err, ErrNoTarget) {
			t.Error(err)
		}
		w.counts(0, 1)
	})
}

// A target that still refuses all gets each once, and that ends.
func TestResendAllEnds(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.running()
		w.answerStatus(http.StatusGone)
		for n := range 100 {
			w.accept(alice, text(n))
		}
		w.settle(0)
		w.take()
		w.disk.slow.Store(int64(time.Millisecond)) // so that some die again meanwhile
		if n, err := w.f.ResendAll(t.Context(), "a"); n != 100 || err != nil {
			t.Errorf("%d are sent, %v", n, err)
		}
		w.settle(time.Minute)
		if n := len(w.take()); n != 100 {
			t.Errorf("%d requests", n)
		}
		w.counts(0, 100)
	})
}
