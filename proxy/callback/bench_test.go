package callback

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lingpai/metrics"
	"lingpai/tokens/msgcrypt"
)

// pushed is a push of a message of 600 bytes, as WeChat sends it.
func pushed(t testing.TB, c *Config) (target string, message, body []byte) {
	const head, tail = "<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName>\n<FromUserName><![CDATA[o9AgO5Kd5ggOC-bXrbNODIiE3bGY]]></FromUserName>\n" +
		"<CreateTime>1715943329</CreateTime>\n<MsgType><![CDATA[text]]></MsgType>\n<Content><![CDATA[", "]]></Content>\n<MsgId>24562918372615243</MsgId>\n</xml>"
	message = []byte(head + strings.Repeat("x", 600-len(head)-len(tail)) + tail)
	sealed, err := c.Keys[0].Encrypt([16]byte{1}, message, c.AppID)
	if err != nil {
		t.Fatal(err)
	}
	const timestamp, nonce = "1715943329", "1590219412"
	query := fmt.Sprintf("signature=cc0c594499c1634947d5b502f158ee518947db27&timestamp=%s&nonce=%s&openid=o9AgO5Kd5ggOC-bXrbNODIiE3bGY&encrypt_type=aes&msg_signature=%s",
		timestamp, nonce, msgcrypt.Signature(c.Token.Reveal(), timestamp, nonce, sealed))
	return messages + "?" + query, message, envelope("gh_97417a04a28d", sealed)
}

// takers take each push, and reply if they have an answer.
type takers struct{ answer []byte }

func (takers) Accept(context.Context, Message) error { return nil }

func (a takers) Reply(context.Context, Message) ([]byte, bool) { return a.answer, a.answer != nil }

// request can be sent again and again. It is one as the server makes it, so
// what net/http itself takes for a request is not measured.
type request struct {
	http.Request
	body bytes.Reader
	sent []byte
}

func newRequest(target string, body []byte) *request {
	r := &request{Request: *httptest.NewRequest(http.MethodPost, target, nil), sent: body}
	r.Body, r.ContentLength = io.NopCloser(&r.body), int64(len(body))
	return r
}

func (r *request) again() *http.Request {
	r.body.Reset(r.sent)
	return &r.Request
}

// answer keeps nothing but whether a push was accepted.
type answer struct {
	header http.Header
	status int
	size   int
}

func (a *answer) Header() http.Header    { return a.header }
func (a *answer) WriteHeader(status int) { a.status = status }
func (a *answer) Write(p []byte) (int, error) {
	a.size += len(p)
	return len(p), nil
}

// WriteString spares a copy, as net/http's own does.
func (a *answer) WriteString(s string) (int, error) {
	a.size += len(s)
	return len(s), nil
}

func pushes(t testing.TB) []operation {
	c := settings(t)
	target, message, body := pushed(t, c)
	r := newRequest(target, body)
	reply := message[:300]
	push := func(apps Apps, least int) func() {
		h := New(c, nil, apps, metrics.New("", "", ""), slog.New(slog.DiscardHandler))
		a := &answer{header: http.Header{}}
		return func() {
			a.status, a.size = 0, 0
			clear(a.header)
			h.ServeHTTP(a, r.again())
			if a.status != 0 || a.size < least {
				t.Fatal(a.status, a.size)
			}
		}
	}
	forged := newRequest(strings.Replace(target, "msg_signature=", "msg_signature=0", 1), body)
	return []operation{
		{name: "verify", allocs: 17, bytes: len(body), do: func() {
			if got, err := c.verify(r.again(), body); err != nil || len(got) != len(message) {
				t.Fatal(err)
			}
		}},
		{name: "verify/forged", allocs: 13, bytes: len(body), do: func() {
			if _, err := c.verify(forged.again(), body); err == nil {
				t.Fatal("accepted")
			}
		}},
		{name: "digest", allocs: 2, bytes: len(message), do: func() { digest(message) }},
		{name: "seal", allocs: 16, bytes: len(reply), do: func() {
			if _, err := c.seal(reply); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "whole/nobody-takes-it", allocs: 41, bytes: len(body), do: push(nil, len("success"))},
		{name: "whole/taken", allocs: 57, bytes: len(body), do: push(takers{}, len("success"))},
		{name: "whole/replied", allocs: 76, bytes: len(body), do: push(takers{reply}, 400)},
	}
}

func BenchmarkPush(b *testing.B) { bench(b, pushes) }
