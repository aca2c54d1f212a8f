package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
	"lingpai/tokens/store"
)

// received is when the pushes of tests came.
var received = time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 8*3600))

// dead keeps a dead letter and returns its number.
func (w *world) dead(target string, n int) string {
	w.t.Helper()
	return w.deadWith(target, n, fmt.Sprintf("<xml><MsgType>text</MsgType><Content>hello %d &lt;b&gt;</Content></xml>", n))
}

func (w *world) deadWith(target string, n int, message string) string {
	w.t.Helper()
	ctx, deliveries := context.Background(), w.store.Store.(store.Deliveries)
	d := store.Delivery{
		ID: fmt.Sprintf("id-%s-%d", target, n), Target: target, AppID: authorizer, Type: "text", ReceivedAt: received,
		Message: secret.New(message),
	}
	if _, err := deliveries.AddDeliveries(ctx, []store.Delivery{d}); err != nil {
		w.t.Fatal(err)
	}
	for after := uint64(0); ; {
		page, err := deliveries.Deliveries(ctx, target, after, 1)
		if err != nil || len(page) == 0 {
			w.t.Fatalf("%v was not kept: %v", d.ID, err)
		}
		if after = page[0].Seq; page[0].ID != d.ID {
			continue
		}
		if _, err = deliveries.UpdateDelivery(ctx, after, func(d *store.Delivery) error {
			d.Dead, d.Attempts, d.LastError = true, 17, "status 500"
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
		return strconv.FormatUint(after, 10)
	}
}

func TestDeliveryCounts(t *testing.T) {
	w := newWorld(t)
	f := func(want string) {
		t.Helper()
		if text, _ := json.Marshal(w.call(200, "GET", "/v1/deliveries", "")); string(text) != want {
			t.Errorf("%s, want %s", text, want)
		}
	}
	f(`{"dead":0,"pending":{"crm":0,"orders":0}}`)
	first, last := w.dead("orders", 1), w.dead("former", 2)
	f(`{"dead":2,"pending":{"crm":0,"orders":0}}`)
	w.call(200, "POST", "/v1/deliveries/"+first+"/resend", "")
	f(`{"dead":1,"pending":{"crm":0,"orders":1}}`)
	if _, err := w.store.Store.(store.Deliveries).AddDeliveries(context.Background(), []store.Delivery{{ID: "x", Target: "former", Type: "text"}}); err != nil {
		t.Fatal(err)
	}
	w.call(200, "DELETE", "/v1/deliveries/"+last, "")
	f(`{"dead":0,"pending":{"crm":0,"former":1,"orders":1}}`)

	w.api = w.apiWith(Info{})
	f(`{"dead":0,"pending":{}}`)
	for _, c := range [][2]string{
		{"GET", "/v1/deliveries/dead"}, {"GET", "/v1/deliveries/1"}, {"DELETE", "/v1/deliveries/1"}, {"POST", "/v1/deliveries/1/resend"}, {"POST", "/v1/deliveries/resend"},
	} {
		w.wrong(404, c[0], c[1], "", "forwards no pushes")
	}
}

func TestDeadLetterShape(t *testing.T) {
	w := newWorld(t)
	orders, crm, former := w.dead("orders", 1), w.dead("crm", 2), w.dead("former", 3)
	f := func(seq, target, wantType, wantContent string, n int) {
		t.Helper()
		number, _ := strconv.Atoi(seq)
		want := object{
			"seq": float64(number), "id": fmt.Sprintf("id-%s-%d", target, n), "target": target, "app_id": authorizer, "type": "text",
			"received_at": "2026-01-01T19:04:05Z", "attempts": 17.0, "last_error": "status 500",
			"content_type": wantType, "content": wantContent,
		}
		got := w.call(200, "GET", "/v1/deliveries/"+seq, "")
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %v, want %v", seq, key, got[key], value)
			}
		}
	}
	f(orders, "orders", "application/xml", "<xml><MsgType>text</MsgType><Content>hello 1 &lt;b&gt;</Content></xml>", 1)
	f(crm, "crm", "application/json", `{"MsgType":"text","Content":"hello 2 <b>"}`, 2)
	f(former, "former", "application/xml", "<xml><MsgType>text</MsgType><Content>hello 3 &lt;b&gt;</Content></xml>", 3)
	if n := strings.Count(w.log.String(), "dead letter shown to an operator"); n != 3 {
		t.Errorf("%d of 3 readings are on record", n)
	}

	// What users wrote is in no other answer, and not in the log.
	w.said.Reset()
	w.call(200, "GET", "/v1/deliveries/dead", "")
	w.call(200, "POST", "/v1/deliveries/"+orders+"/resend", "")
	w.call(200, "POST", "/v1/deliveries/resend", `{"target":"crm"}`)
	w.call(200, "DELETE", "/v1/deliveries/"+former, "")
	w.call(200, "GET", "/v1/deliveries", "")
	if strings.Contains(w.said.String(), "hello") || strings.Contains(w.log.String(), "hello") {
		t.Error("what users wrote was shown elsewhere or logged")
	}
}

func TestResendAndDelete(t *testing.T) {
	w := newWorld(t)
	first, second, third := w.dead("orders", 1), w.dead("orders", 2), w.dead("crm", 3)
	again := w.call(200, "POST", "/v1/deliveries/"+first+"/resend", "")
	if again["id"] != "id-orders-1" || again["attempts"] != 0.0 || again["last_error"] != "" || fmt.Sprint(again["seq"]) <= third {
		t.Errorf("%v", again)
	}
	for _, seq := range []string{first, fmt.Sprint(again["seq"]), "0", "-1", "01", "+" + second, "x", "1.0", "1e0", "18446744073709551616", "99999999999999999999", strings.Repeat("9", 500), "%20", "%00"} {
		w.wrong(404, "GET", "/v1/deliveries/"+seq, "", "no such dead letter")
		w.wrong(404, "DELETE", "/v1/deliveries/"+seq, "", "no such dead letter")
		w.wrong(404, "POST", "/v1/deliveries/"+seq+"/resend", "", "no such dead letter")
	}
	f := func(target string, want float64) {
		t.Helper()
		if got := w.call(200, "POST", "/v1/deliveries/resend", `{"target":"`+target+`"}`); got["target"] != target || got["resent"] != want {
			t.Errorf("%v, want %v of %s", got, want, target)
		}
	}
	f("orders", 1)
	f("orders", 0)
	if gone := w.call(200, "DELETE", "/v1/deliveries/"+third, ""); gone["id"] != "id-crm-3" || gone["content"] != nil {
		t.Errorf("%v", gone)
	}
	w.wrong(404, "DELETE", "/v1/deliveries/"+third, "", "no such dead letter")
	f("crm", 0)

	former := w.dead("former", 4)
	w.wrong(409, "POST", "/v1/deliveries/"+former+"/resend", "", "add it to callback.forward")
	w.wrong(409, "POST", "/v1/deliveries/resend", `{"target":"former"}`, "add it to callback.forward")
	w.call(200, "GET", "/v1/deliveries/"+former, "") // it stays

	broken := w.deadWith("crm", 5, "<xml><unfinished>")
	w.wrong(409, "GET", "/v1/deliveries/"+broken, "", "delete it")
	w.call(200, "DELETE", "/v1/deliveries/"+broken, "")
}

// What was queued before the store failed is no secret: asking again is safe.
func TestResendStopsHalfWay(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		w.dead("orders", n)
	}
	w.store.updates.Store(4)
	w.wrong(503, "POST", "/v1/deliveries/resend", `{"target":"orders"}`, "only 3 dead letters")
	if !strings.Contains(w.log.String(), "disk full") {
		t.Error("the log does not say what failed")
	}
	if rest := w.call(200, "POST", "/v1/deliveries/resend", `{"target":"orders"}`); rest["resent"] != 2.0 {
		t.Errorf("%v", rest)
	}
	w.store.fail(errors.New("disk on fire"))
	w.wrong(503, "POST", "/v1/deliveries/resend", `{"target":"orders"}`, "store does not work")
}

// letters follows cursors through the list of dead letters and returns their ids
// and how many pages there were. between is called between two pages.
func (w *world) letters(query string, between func(page int)) (ids []string, pages int) {
	w.t.Helper()
	for cursor := ""; ; pages++ {
		page := w.call(200, "GET", "/v1/deliveries/dead?"+query+"&cursor="+cursor, "")
		for _, letter := range page["dead_letters"].([]any) {
			ids = append(ids, letter.(map[string]any)["id"].(string))
		}
		if cursor = page["next_cursor"].(string); cursor == "" {
			return ids, pages + 1
		}
		if between != nil {
			between(pages)
		}
	}
}

func TestDeadLetterPages(t *testing.T) {
	w := newWorld(t)
	f := func(query string, wantPages int, want ...string) {
		t.Helper()
		if ids, pages := w.letters(query, nil); strings.Join(ids, " ") != strings.Join(want, " ") || pages != wantPages {
			t.Errorf("%s: %d pages of %v, want %d of %v", query, pages, ids, wantPages, want)
		}
	}
	f("", 1)
	f("limit=1", 1)
	w.dead("orders", 1)
	w.dead("crm", 2)
	w.dead("orders", 3)
	all := []string{"id-orders-1", "id-crm-2", "id-orders-3"}
	f("", 1, all...)
	f("limit=1", 3, all...)
	f("limit=2", 2, all...)
	f("limit=3", 1, all...)
	f("limit=1000", 1, all...)
	f("target=orders&limit=1", 2, all[0], all[2])
	f("target=crm&limit=1", 1, all[1])
	f("target=nobody", 1)
	for _, limit := range []string{"0", "-1", "1001", "x", "1.5", "99999999999999999999", "%00"} {
		w.wrong(400, "GET", "/v1/deliveries/dead?limit="+limit, "", "limit must be")
	}
	for _, cursor := range []string{"0", "-1", "01", "x", "1x", "%2B1", "1.0", "wx1", "99999999999999999999", "%00", "%20"} {
		w.wrong(400, "GET", "/v1/deliveries/dead?cursor="+cursor, "", "cursor is not one")
	}
	// What cannot be read could be the cursor: not the first page once more.
	for _, query := range []string{"cursor=%zz", "cursor=1;limit=1", "%=1", "cursor=%"} {
		w.wrong(400, "GET", "/v1/deliveries/dead?"+query, "", "percent-encode")
		w.wrong(400, "GET", "/v1/authorizers?"+query, "", "percent-encode")
	}
	if end := w.call(200, "GET", "/v1/deliveries/dead?cursor=9999999999999999999", ""); len(end["dead_letters"].([]any)) != 0 || end["next_cursor"] != "" {
		t.Errorf("behind the end: %v", end)
	}
}

// Of what changes between two pages the rest is listed once all the same.
func TestDeadLettersChangeBetweenPages(t *testing.T) {
	w := newWorld(t)
	var seqs []string
	for n := range 6 {
		seqs = append(seqs, w.dead("orders", n))
	}
	ids, _ := w.letters("limit=2", func(page int) {
		switch page {
		case 0: // the entry that the cursor names goes, and one ahead, and one comes
			w.call(200, "DELETE", "/v1/deliveries/"+seqs[1], "")
			w.call(200, "DELETE", "/v1/deliveries/"+seqs[2], "")
			w.dead("orders", 6)
		case 1: // one that was listed is sent again and fails again, one is sent again
			resent := w.call(200, "POST", "/v1/deliveries/"+seqs[0]+"/resend", "")
			w.call(200, "POST", "/v1/deliveries/"+seqs[5]+"/resend", "")
			w.bury(uint64(resent["seq"].(float64)))
		}
	})
	if got, want := strings.Join(ids, " "), "id-orders-0 id-orders-1 id-orders-3 id-orders-4 id-orders-6 id-orders-0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func (w *world) bury(seq uint64) {
	w.t.Helper()
	if _, err := w.store.Store.(store.Deliveries).UpdateDelivery(context.Background(), seq, func(d *store.Delivery) error {
		d.Dead = true
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
}

func TestLargestPageOfDeadLetters(t *testing.T) {
	w := newWorld(t)
	many := make([]store.Delivery, 1001)
	for i := range many {
		many[i] = store.Delivery{ID: strconv.Itoa(i), Target: "orders", Type: "text", Message: secret.New("<xml/>")}
	}
	deliveries := w.store.Store.(store.Deliveries)
	if _, err := deliveries.AddDeliveries(context.Background(), many); err != nil {
		t.Fatal(err)
	}
	pending, err := deliveries.Deliveries(context.Background(), "orders", 0, len(many))
	if err != nil || len(pending) != len(many) {
		t.Fatalf("%d, %v", len(pending), err)
	}
	for _, d := range pending {
		w.bury(d.Seq)
	}
	for query, want := range map[string]int{"limit=1000": 2, "": 11} {
		ids, pages := w.letters(query, nil)
		if len(ids) != len(many) || pages != want || ids[1000] != "1000" {
			t.Errorf("%q: %d on %d pages", query, len(ids), pages)
		}
	}
}
