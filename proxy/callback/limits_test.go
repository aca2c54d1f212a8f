package callback

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lingpai/metrics"
	"lingpai/tokens/secret"
	"lingpai/tokens/store"
	"lingpai/tokens/wechat/wechattest"
)

// padded is an authentic push whose body has the given length.
func (w *world) padded(length int) (query string, body []byte) {
	values, body := w.sim.BuildPush(w.sim.EventXML("something_new"))
	return values.Encode(), append(body, bytes.Repeat([]byte(" "), length-len(body))...)
}

func TestBodyLength(t *testing.T) {
	w := newWorld(t)
	f := func(length, want int) {
		t.Helper()
		query, body := w.padded(length)
		status, answer := post(t, w.server.URL+events+"?"+query, bytes.NewReader(body))
		if status != want || (status == 200) != (answer == "success") {
			t.Errorf("%d announced bytes: %d %q", length, status, answer)
		}
		status, answer = post(t, w.server.URL+events+"?"+query, io.MultiReader(bytes.NewReader(body)))
		if status != want || (status == 200) != (answer == "success") {
			t.Errorf("%d chunked bytes: %d %q", length, status, answer)
		}
	}
	f(maxShort-1, 200)
	f(maxShort, 200)
	f(maxShort+1, 200)
	f(maxPush, 200)
	f(maxPush+1, 413)
	f(2*maxPush, 413)
}

// What is announced as too long is refused before it is sent.
func TestAnnouncedLengthIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t)
	conn := w.dial()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", events, maxPush+1)
	if status := answerOf(t, conn); status != 413 {
		t.Errorf("%d", status)
	}
}

func (w *world) dial() net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func answerOf(t *testing.T, conn net.Conn) int {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func TestMethodsAndPaths(t *testing.T) {
	w := newWorld(t)
	f := func(method, path string, want int) {
		t.Helper()
		request, err := http.NewRequest(method, w.server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != want || string(answer) == "success" {
			t.Errorf("%s %s: %d %q, want %d", method, path, response.StatusCode, answer, want)
		}
		if want == 405 && response.Header.Get("Allow") != "POST" {
			t.Errorf("%s %s: Allow %q", method, path, response.Header.Get("Allow"))
		}
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} {
		f(method, events, 405)
		f(method, messages, 405)
	}
	for _, path := range []string{"/", "/wechat", "/wechat/", "/wechat/events/", "/wechat/events/x", "/wechat/messages", "/wechat/messages/", messages + "/x", "/Wechat/events", "/v1/status", "/metrics"} {
		f("POST", path, 404)
	}
	f("POST", events, 403)
}

func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	for _, err := range []error{errors.New("disk full"), store.ErrClosed, context.DeadlineExceeded} {
		w.store.fail(err)
		if err := w.sim.PushTicket(context.Background()); err == nil {
			t.Error("the ticket was acknowledged")
		}
		status, answer := w.push("unauthorized", text("AuthorizerAppid", authorizer))
		if status != 503 || answer == "success" {
			t.Errorf("%d %q", status, answer)
		}
	}
	if n := w.counted("unauthorized", "error"); n != 3 {
		t.Errorf("%d errors counted", n)
	}
	w.store.err.Store(nil)
	if err := w.sim.PushTicket(context.Background()); err != nil {
		t.Error(err) // WeChat pushes again
	}
}

// receiverFunc receives everything.
type receiverFunc func(ctx context.Context) error

func (f receiverFunc) AnswerReleaseTest(string, secret.String) bool { return false }

func (f receiverFunc) ReceiveTicket(ctx context.Context, _ secret.String, _ time.Time) (bool, error) {
	return true, f(ctx)
}
func (f receiverFunc) ReceiveEvent(ctx context.Context, _ store.Push) (bool, error) {
	return true, f(ctx)
}

// WeChat waits for 5 s: an answer comes before, though the store neither
// answers nor heeds its context.
func TestSlowStore(t *testing.T) {
	sim := wechattest.New(wechattest.Options{Seed: 1})
	defer sim.Close()
	query, body := sim.BuildPush(at(1, "ticket@@@x"))
	for name, heeds := range map[string]bool{"heeds its context": true, "hangs": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				receive := receiverFunc(func(ctx context.Context) error {
					if heeds {
						<-ctx.Done()
						return ctx.Err()
					}
					<-release
					return nil
				})
				h := New(settings(t), receive, nil, metrics.New("", "", ""), (&lines{}).logger())
				began := time.Now()
				rec := serve(h, events, query, body)
				if took := time.Since(began); rec.Code != 503 || took > 5*time.Second || took < time.Second {
					t.Errorf("%d after %v", rec.Code, took)
				}
				close(release)
				synctest.Wait()
				if len(h.slots) != 0 {
					t.Error("a slot was lost")
				}
			})
		})
	}
}

// A push under way is stored though its client has gone.
func TestClientGone(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	w.store.hang.Store(&hang)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		w.sim.PushEvent(ctx, "unauthorized", text("AuthorizerAppid", authorizer))
	}()
	eventually(t, "the push", func() bool { return w.store.held.Load() == 1 })
	cancel()
	<-gone
	close(hang)
	eventually(t, "the push in the store", func() bool { return w.pending() == 1 })
}

func TestPanicIsAnswered(t *testing.T) {
	sim := wechattest.New(wechattest.Options{Seed: 1})
	defer sim.Close()
	log := &lines{}
	h := New(settings(t), receiverFunc(func(context.Context) error { panic("secret text") }), nil, metrics.New("", "", ""), log.logger())
	query, body := sim.BuildPush(at(1, "ticket@@@x"))
	if rec := serve(h, events, query, body); rec.Code != 503 || len(h.slots) != 0 {
		t.Errorf("%d, %d slots taken", rec.Code, len(h.slots))
	}
	if text := log.String(); !strings.Contains(text, "panic while storing") || strings.Contains(text, "secret text") {
		t.Error(text)
	}
}

// No more pushes than maxUnderWay are worked on at a time; the others wait and
// are answered too.
func TestConcurrencyIsBounded(t *testing.T) {
	w := newWorld(t)
	hang := make(chan struct{})
	w.store.hang.Store(&hang)
	var posts sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range maxUnderWay + 20 {
		posts.Go(func() {
			query, body := w.sim.BuildPush(w.sim.EventXML("unauthorized", text("AuthorizerAppid", fmt.Sprintf("wx%016d", i))))
			rec := serve(w.handler, events, query, body)
			mu.Lock()
			statuses[rec.Code]++
			mu.Unlock()
		})
	}
	eventually(t, "all slots taken", func() bool { return w.store.held.Load() == maxUnderWay })
	if len(w.handler.slots) != maxUnderWay {
		t.Errorf("%d slots", len(w.handler.slots))
	}
	w.store.hang.Store(nil)
	close(hang)
	posts.Wait()
	if statuses[200] != maxUnderWay+20 || w.pending() != maxUnderWay+20 {
		t.Errorf("answers %v, %d stored", statuses, w.pending())
	}
	eventually(t, "all slots free", func() bool { return len(w.handler.slots) == 0 })
}

// Strangers who send slowly take no slot from WeChat.
func TestSlowStrangers(t *testing.T) {
	w := newWorld(t)
	for range 2 * maxUnderWay {
		fmt.Fprintf(w.dial(), "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n<xml>", events)
	}
	began := time.Now()
	if err := w.sim.PushTicket(context.Background()); err != nil || time.Since(began) > 2*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// A body that does not come in time is answered, by the deadline on its
// connection.
func TestTrickle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := w.dial()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n<xml>", events)
	if status := answerOf(t, conn); status != http.StatusRequestTimeout {
		t.Errorf("%d", status)
	}
	if w.counted("other", "malformed") != 1 {
		t.Error("not counted")
	}
}

func TestRefusalsDoNotFillTheLog(t *testing.T) {
	w := newWorld(t)
	for range 1000 {
		serve(w.handler, events, nil, nil)
	}
	if n := strings.Count(w.log.String(), "push refused"); n < 1 || n > 10*maxLines {
		t.Errorf("%d lines", n)
	}
	if n := w.counted("other", "refused"); n != 1000 {
		t.Errorf("%d counted", n)
	}
	var limit throttle
	now := time.Now()
	for range maxLines {
		limit.allow(now)
	}
	if _, ok := limit.allow(now.Add(time.Second - 1)); ok {
		t.Error("more lines than allowed")
	}
	if dropped, ok := limit.allow(now.Add(time.Second)); !ok || dropped != 1 {
		t.Errorf("%d %v", dropped, ok)
	}
}
