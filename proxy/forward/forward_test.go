package forward

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lingpai/tokens/secret"
)

func TestDelivery(t *testing.T) {
	jsonTarget := all("json")
	jsonTarget.JSON = true
	inWorld(t, []Target{all("xml"), jsonTarget}, func(t *testing.T, w *world) {
		w.running()
		const push = "<xml>\n<ToUserName>gh_1</ToUserName><MsgType><![CDATA[event]]></MsgType><Event>subscribe</Event></xml>"
		w.settle(1500 * time.Millisecond)
		w.accept(alice, push)
		w.settle(0)
		for _, g := range w.take() {
			wantBody, wantType := push, "application/xml"
			if g.host == "json" {
				wantBody, wantType = `{"ToUserName":"gh_1","MsgType":"event","Event":"subscribe"}`, "application/json"
			}
			timestamp := strconv.FormatInt(time.Now().Unix(), 10)
			mac := hmac.New(sha256.New, []byte(key))
			fmt.Fprintf(mac, "%s.%s", timestamp, wantBody)
			if g.body != wantBody {
				t.Errorf("%s got %q", g.host, g.body)
			}
			for name, want := range map[string]string{
				"Content-Type":        wantType,
				"X-Lingpai-Timestamp": timestamp,
				"X-Lingpai-Signature": "sha256=" + hex.EncodeToString(mac.Sum(nil)),
				"X-Lingpai-Appid":     alice,
				"X-Lingpai-Type":      "event/subscribe",
				"X-Lingpai-Reply":     "",
			} {
				if have := g.header.Get(name); have != want {
					t.Errorf("%s: %s is %q, want %q", g.host, name, have, want)
				}
			}
			if id := g.header.Get("X-Lingpai-Delivery"); len(id) != 32 {
				t.Errorf("delivery id %q", id)
			}
		}
		w.counts(0, 0)
		w.counted("xml", "delivered", 1)
		w.counted("json", "delivered", 1)
		w.settle(time.Hour)
		w.bodies()
	})
}

// The signature of a fixed input, computed with another program: printf
// '1700000000.<xml/>' | openssl dgst -sha256 -hmac k.
func TestSignature(t *testing.T) {
	const want = "sha256=f97a0d1b71c062a072ffde3c49a01edb96c19e39432111ee91a2e28ec884ff76"
	if got := sign(secret.New("k"), "1700000000", []byte("<xml/>")); got != want {
		t.Errorf("got %s", got)
	}
}

func TestFilters(t *testing.T) {
	target := func(events, appIDs string) Target {
		return Target{Events: strings.Fields(events), AppIDs: strings.Fields(appIDs)}
	}
	authorized := message{infoType: "authorized"}
	textMessage := message{msgType: "text"}
	click := message{msgType: "event", event: "CLICK"}
	f := func(events, appIDs string, m message, appID string, want bool) {
		t.Helper()
		target := target(events, appIDs)
		if got := target.wants(m, appID); got != want {
			t.Errorf("events %q, app ids %q, %+v of %q: %t", events, appIDs, m, appID, got)
		}
	}
	f("*", "*", authorized, alice, true)
	f("*", "*", message{}, "", true)
	f("authorized", "*", authorized, alice, true)
	f("unauthorized", "*", authorized, alice, false)
	f("unauthorized authorized", "*", authorized, alice, true)
	f("text", "*", textMessage, alice, true)
	f("image", "*", textMessage, alice, false)
	f("event", "*", textMessage, alice, false)
	f("event", "*", click, alice, true)
	f("CLICK", "*", click, alice, true)
	f("click", "*", click, alice, true)
	f("VIEW", "*", click, alice, false)
	f("", "*", click, alice, false)
	f("*", alice, click, alice, true)
	f("*", alice+" "+bob, click, bob, true)
	f("*", alice, click, bob, false)
	f("*", alice, authorized, "", false)
	f("text", alice, textMessage, bob, false)
}

func TestOnlyWhatIsWantedIsStored(t *testing.T) {
	texts, bobs := all("texts"), all("bobs")
	texts.Events = []string{"text"}
	bobs.AppIDs = []string{bob}
	inWorld(t, []Target{texts, bobs}, func(t *testing.T, w *world) {
		w.accept(alice, "<xml><InfoType>authorized</InfoType></xml>")
		w.counts(0, 0)
		w.accept(alice, text(1))
		w.counts(1, 0)
		w.accept(bob, text(2))
		w.counts(3, 0)
		w.accept("", "<xml><InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>hush-code</ComponentVerifyTicket></xml>")
		w.counts(3, 0)
	})
}

func TestAcceptRefuses(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		for _, push := range []Push{
			{XML: secret.New("hush-text")},
			{XML: secret.New("<xml><a></xml>")},
			{AppID: "wx\r\nX-Other: 1", XML: secret.New(text(1))},
		} {
			if err := w.f.Accept(t.Context(), push); !errors.Is(err, ErrMalformed) || strings.Contains(err.Error(), "hush") {
				t.Errorf("%v", err)
			}
		}
		w.disk.failing("add")
		if err := w.f.Accept(t.Context(), Push{XML: secret.New(text(1))}); !errors.Is(err, errDisk) {
			t.Errorf("the store failed: %v", err)
		}
		w.counts(0, 0)
	})
}

// A repeat is known by its digest, and the same text to two accounts is two.
func TestRepeats(t *testing.T) {
	inWorld(t, []Target{all("a"), all("b")}, func(t *testing.T, w *world) {
		w.accept(alice, text(1))
		w.accept(alice, text(1))
		w.counts(2, 0)
		w.accept(bob, text(1))
		w.counts(4, 0)
		for range 2 {
			if err := w.f.Accept(t.Context(), Push{Digest: "d", AppID: alice, XML: secret.New(text(1))}); err != nil {
				t.Fatal(err)
			}
		}
		w.counts(6, 0)
		w.running()
		ids := map[string]int{}
		for _, g := range w.take() {
			ids[g.header.Get("X-Lingpai-Delivery")]++
		}
		if len(ids) != 6 {
			t.Errorf("ids %v", ids)
		}
	})
}

func TestTargetsAreChecked(t *testing.T) {
	replying := func(name string) Target { return Target{Name: name, Reply: true} }
	for name, targets := range map[string][]Target{
		"no name":     {{}},
		"zero byte":   {{Name: "a\x00b"}},
		"same name":   {all("a"), all("b"), all("a")},
		"two replies": {replying("a"), replying("b")},
	} {
		if _, err := New(Options{Targets: targets}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReconfigure(t *testing.T) {
	inWorld(t, []Target{all("a"), all("b")}, func(t *testing.T, w *world) {
		w.running()
		w.answerStatus(http.StatusServiceUnavailable)
		w.accept(alice, text(1))
		w.settle(0)
		if n := len(w.take()); n != 2 {
			t.Fatalf("%d attempts", n)
		}
		// b goes, c comes, a has another URL and form.
		a, c := all("a"), all("c")
		a.URL, a.JSON = "http://elsewhere/", true
		if err := w.f.Reconfigure([]Target{a, c}); err != nil {
			t.Fatal(err)
		}
		if names := w.f.Targets(); !slices.Equal(names, []string{"a", "c"}) {
			t.Errorf("targets %q", names)
		}
		if err := w.f.Reconfigure([]Target{a, a}); err == nil {
			t.Error("no error")
		}
		w.answerStatus(http.StatusOK)
		w.accept(bob, text(2))
		w.settle(time.Minute)
		var hosts []string
		for _, g := range w.take() {
			hosts = append(hosts, g.host)
		}
		slices.Sort(hosts)
		if !slices.Equal(hosts, []string{"c", "elsewhere", "elsewhere"}) {
			t.Errorf("delivered to %q", hosts)
		}
		// What waits for b is there for its return, or dies.
		w.counts(1, 0)
		if err := w.f.Reconfigure([]Target{all("b")}); err != nil {
			t.Fatal(err)
		}
		w.settle(0)
		w.bodies(text(1))
		w.counts(0, 0)
	})
}

func TestWhatNoTargetHasLeftDies(t *testing.T) {
	inWorld(t, []Target{all("a")}, func(t *testing.T, w *world) {
		w.accept(alice, text(1))
		w.settle(time.Hour)
		w.accept(alice, text(2))
		w.f.Reconfigure(nil)
		w.running()
		w.settle(23*time.Hour - time.Minute)
		w.counts(2, 0)
		w.settle(12 * time.Minute)
		w.counts(1, 1)
		w.settle(time.Hour)
		w.counts(0, 2)
		w.bodies()
		w.counted("other", "dead", 2)
		w.logged("not configured")
	})
}

// The ids do not change from one version to the next: apps remember them.
func TestDeliveryID(t *testing.T) {
	push := Push{Digest: "digest", AppID: alice}
	ids := []string{
		deliveryID(push, "a"), deliveryID(push, "b"),
		deliveryID(Push{Digest: "digest", AppID: bob}, "a"), deliveryID(Push{Digest: "other", AppID: alice}, "a"),
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 4 {
		t.Errorf("ids %q", ids)
	}
	sum := sha256.Sum256([]byte("lingpai delivery\x00digest\x00" + alice + "\x00a"))
	if got := deliveryID(push, "a"); got != hex.EncodeToString(sum[:])[:32] {
		t.Errorf("id %s", got)
	}
}
