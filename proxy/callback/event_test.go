package callback

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/store"
	"lingpai/tokens/wechat/wechattest"
)

func text(name, value string) wechattest.Field { return wechattest.Field{Name: name, Value: value} }

// at is a ticket event of that CreateTime.
func at(created int64, ticket string) []byte {
	return []byte("<xml><AppId>" + component + "</AppId><CreateTime>" + strconv.FormatInt(created, 10) +
		"</CreateTime><InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>" + ticket + "</ComponentVerifyTicket></xml>")
}

func (w *world) deliver(message []byte) (status int, answer string) {
	w.t.Helper()
	query, body := w.sim.BuildPush(message)
	return w.post(events, query, body)
}

func (w *world) accepted(message []byte) {
	w.t.Helper()
	if status, answer := w.deliver(message); status != 200 || answer != "success" {
		w.t.Fatalf("%d %q", status, answer)
	}
}

func (w *world) ticket() store.Component {
	w.t.Helper()
	c, err := w.store.Store.Component(context.Background(), component)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		w.t.Fatal(err)
	}
	return c
}

func TestTicketsAreOrderedByCreateTime(t *testing.T) {
	w := newWorld(t)
	now := time.Now().Unix()
	w.accepted(at(now-60, "ticket@@@first"))
	if c := w.ticket(); c.Ticket.Reveal() != "ticket@@@first" || c.TicketCreatedAt.Unix() != now-60 || time.Since(c.TicketReceivedAt) > time.Minute {
		t.Fatalf("%+v", c)
	}
	before := w.snapshot()
	w.accepted(at(now-60, "ticket@@@first")) // a repeat, sealed anew
	if w.snapshot() != before {
		t.Error("a repeat changed the store")
	}
	w.accepted(at(now, "ticket@@@second"))
	if got := w.ticket().Ticket.Reveal(); got != "ticket@@@second" {
		t.Fatal(got)
	}
	before = w.snapshot()
	w.accepted(at(now-600, "ticket@@@older"))
	w.accepted(at(now-60, "ticket@@@first"))
	if w.snapshot() != before {
		t.Error("an older ticket changed the store")
	}
	if ok, repeats := w.counted("component_verify_ticket", "ok"), w.counted("component_verify_ticket", "repeat"); ok != 2 || repeats != 3 {
		t.Errorf("counted %d ok, %d repeats", ok, repeats)
	}
}

func TestTicketPushes(t *testing.T) {
	w := newWorld(t)
	for _, slip := range []bool{false, true} {
		if err := w.sim.SetKnobs(func(k *wechattest.Knobs) { k.XMLSlip = slip }); err != nil {
			t.Fatal(err)
		}
		if err := w.sim.PushTicket(context.Background()); err != nil {
			t.Fatalf("slip %v: %v", slip, err)
		}
	}
	if _, err := w.service.ComponentToken(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestAuthenticPushesWithoutTheirField(t *testing.T) {
	w := newWorld(t)
	before := w.snapshot()
	f := func(want int, infoType string, fields ...wechattest.Field) {
		t.Helper()
		if status, answer := w.push(infoType, fields...); status != want || (status == 200) != (answer == "success") {
			t.Errorf("%s: %d %q, want %d", infoType, status, answer, want)
		}
	}
	f(400, "component_verify_ticket")
	f(400, "authorized", text("AuthorizationCode", "queryauthcode@@@x"))
	f(400, "unauthorized")
	// What lingpai has no use for is WeChat's business.
	f(200, "notify_third_fasteregister", text("status", "89249"), text("msg", "no"))
	f(200, "notify_third_fasteregister", text("appid", authorizer), text("status", "89249"))
	f(200, "notify_3rd_wxa_auth", text("appid", authorizer), text("taskid", "1"))
	f(200, "something_new")
	f(200, "")
	if w.snapshot() != before {
		t.Errorf("the store changed: %s", w.snapshot())
	}
	if n := w.counted("other", "ok"); n != 3 {
		t.Errorf("%d counted as other", n)
	}
}

func TestEventsAreStoredThenWorkedOn(t *testing.T) {
	w := newWorld(t)
	if err := w.sim.PushTicket(context.Background()); err != nil {
		t.Fatal(err)
	}
	authorization, err := w.sim.Authorize(context.Background(), authorizer)
	if err != nil || !authorization.Pushed {
		t.Fatal(authorization.PushError, err)
	}
	if w.pending() != 1 {
		t.Fatalf("%d pushes stored", w.pending())
	}
	// The Service that acknowledged it never ran, as if the process had been
	// killed after success: another one on the same store goes on.
	w.run(w.newService())
	eventually(t, "the authorizer", func() bool {
		a, err := w.store.Store.Authorizer(context.Background(), authorizer)
		return err == nil && a.State == store.StateActive && !a.RefreshToken.Empty()
	})
	eventually(t, "no pending push", func() bool { return w.pending() == 0 })
}

func TestRepeatedEvents(t *testing.T) {
	w := newWorld(t)
	if err := w.sim.PushTicket(context.Background()); err != nil {
		t.Fatal(err)
	}
	authorization, err := w.sim.Authorize(context.Background(), authorizer, wechattest.WithoutPush())
	if err != nil {
		t.Fatal(err)
	}
	event := w.sim.EventXML("authorized", text("AuthorizerAppid", authorizer), text("AuthorizationCode", authorization.Code))
	w.accepted(event)
	before := w.snapshot()
	for range 3 {
		w.accepted(event)
	}
	if w.snapshot() != before || w.pending() != 1 {
		t.Errorf("repeats of a waiting push changed the store: %d pending", w.pending())
	}
	if n := w.counted("authorized", "repeat"); n != 3 {
		t.Errorf("%d repeats counted", n)
	}
	w.run(w.service)
	eventually(t, "the authorization", func() bool { return w.counted("authorized", "ok") == 1 && w.pending() == 0 })
	before = w.snapshot()
	w.accepted(event) // once it has been worked on
	eventually(t, "the repeat", func() bool { return w.counted("authorized", "repeat") == 4 && w.pending() == 0 })
	if after := w.snapshot(); after != before {
		t.Errorf("a repeat changed\n%s to\n%s", before, after)
	}
	if n := w.sim.Executed("/cgi-bin/component/api_query_auth"); n != 1 {
		t.Errorf("%d exchanges", n)
	}

	w.accepted(w.sim.EventXML("unauthorized", text("AuthorizerAppid", authorizer)))
	eventually(t, "the end", func() bool {
		a, err := w.store.Store.Authorizer(context.Background(), authorizer)
		return err == nil && a.State == store.StateUnauthorized && a.RefreshToken.Empty()
	})
}

func TestFastRegister(t *testing.T) {
	w := newWorld(t)
	w.run(w.service)
	if err := w.sim.PushTicket(context.Background()); err != nil {
		t.Fatal(err)
	}
	if registered, err := w.sim.PushFastRegister(context.Background(), authorizer); err != nil || !registered.Pushed {
		t.Fatal(registered.PushError, err)
	}
	eventually(t, "the new account", func() bool {
		a, err := w.store.Store.Authorizer(context.Background(), authorizer)
		return err == nil && a.State == store.StateActive
	})
}

func TestMessages(t *testing.T) {
	w := newWorld(t)
	before := w.snapshot()
	for _, appID := range []string{authorizer, "wx0000000000000001", component} {
		rec, err := w.sim.PushMessage(context.Background(), appID, w.sim.TextMessage(appID, "o1", "hello"))
		if err != nil || rec.Answer != "success" {
			t.Errorf("%s: %q %v", appID, rec.Answer, err)
		}
	}
	// An authorization is believed on its own URL only.
	query, body := w.sim.BuildPush(at(time.Now().Unix(), "ticket@@@x"))
	if status, _ := w.post(messages, query, body); status != 200 {
		t.Errorf("a ticket on the message URL: %d", status)
	}
	if w.snapshot() != before {
		t.Error("a message changed the store")
	}
}

func TestNoComponent(t *testing.T) {
	w := newWorld(t)
	w.handler.Reconfigure(nil)
	if status, answer := w.push("something_new"); status != 403 || answer == "success" {
		t.Errorf("%d %q", status, answer)
	}
	w.handler.Reconfigure(settings(t))
	if status, _ := w.push("something_new"); status != 200 {
		t.Errorf("%d", status)
	}
}

func TestAnswersAndLogHoldNoSecret(t *testing.T) {
	w := newWorld(t)
	w.run(w.service)
	if err := w.sim.PushTicket(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sim.Authorize(context.Background(), authorizer); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the authorization", func() bool { return w.counted("authorized", "ok") == 1 })
	// Secrets in every part that a stranger or a mistake can put them into.
	code, err := w.sim.Authorize(context.Background(), authorizer, wechattest.WithoutPush())
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	keep := func(_ int, answer string) { answers = append(answers, answer) }
	query, body := w.sim.BuildPush([]byte(code.Code))
	keep(w.post(events, query, body))
	keep(w.post("/wechat/messages/"+code.Code, query, body))
	for _, part := range wechattest.Tamperings {
		query, body := wechattest.Tamper(query, body, part)
		query.Set("nonce", code.Code)
		keep(w.post(events, query, body))
	}
	keep(w.push(code.Code))
	w.store.fail(errors.New("the disk is full"))
	keep(w.push("component_verify_ticket", text("ComponentVerifyTicket", w.sim.IssueTicket())))
	keep(w.push("authorized", text("AuthorizerAppid", authorizer), text("AuthorizationCode", code.Code)))
	w.noSecrets("an answer", strings.Join(answers, "\n"))
	log := w.log.String()
	w.noSecrets("the log", log)
	if !strings.Contains(log, "push refused") || !strings.Contains(log, "could not be stored") {
		t.Errorf("the log says too little: %s", log)
	}
}
