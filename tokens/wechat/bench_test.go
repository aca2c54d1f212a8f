package wechat

import (
	"strings"
	"testing"
)

// parses are of documents as WeChat pushes them: a message of 600 bytes, its
// envelope, a ticket and an authorization.
func parses(t testing.TB) []operation {
	const (
		textMessage = "<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName>\n<FromUserName><![CDATA[o9AgO5Kd5ggOC-bXrbNODIiE3bGY]]></FromUserName>\n" +
			"<CreateTime>1715943329</CreateTime>\n<MsgType><![CDATA[text]]></MsgType>\n<Content><![CDATA[TEXT]]></Content>\n<MsgId>24562918372615243</MsgId>\n</xml>"
		envelope      = "<xml>\n    <ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName>\n    <Encrypt><![CDATA[TEXT]]></Encrypt>\n</xml>"
		eventHead     = "<xml><AppId><![CDATA[wx0123456789abcdef]]></AppId>\n<CreateTime>1413192605</CreateTime>\n"
		ticket        = eventHead + "<InfoType><![CDATA[component_verify_ticket]]></InfoType>\n<ComponentVerifyTicket><![CDATA[TEXT]]></ComponentVerifyTicket>\n</xml>"
		authorization = eventHead + "<InfoType><![CDATA[authorized]]></InfoType>\n<AuthorizerAppid>wxaaaaaaaaaaaaaaaa</AuthorizerAppid>\n" +
			"<AuthorizationCode>TEXT</AuthorizationCode>\n<AuthorizationCodeExpiredTime>1413196205</AuthorizationCodeExpiredTime>\n<PreAuthCode>preauthcode@@@x</PreAuthCode>\n</xml>"
	)
	// of returns a document of a length.
	of := func(document string, length int) []byte {
		return []byte(strings.Replace(document, "TEXT", strings.Repeat("x", length-len(document)+len("TEXT")), 1))
	}
	parse := func(name string, allocs float64, document []byte, parse func([]byte) error) operation {
		return operation{name, allocs, len(document), func() {
			if err := parse(document); err != nil {
				t.Fatal(err)
			}
		}}
	}
	return []operation{
		parse("Envelope", 1, of(envelope, 1000), func(b []byte) error { _, err := ParseEnvelope(b); return err }),
		parse("Message", 1, of(textMessage, 600), func(b []byte) error { _, err := ParseMessage(b); return err }),
		parse("Event/ticket", 5, of(ticket, 400), func(b []byte) error { _, err := ParseEvent(b); return err }),
		parse("Event/authorized", 8, of(authorization, 500), func(b []byte) error { _, err := ParseEvent(b); return err }),
	}
}

func BenchmarkParse(b *testing.B) { bench(b, parses) }
