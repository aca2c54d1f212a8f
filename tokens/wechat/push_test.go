package wechat

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseEvent(t *testing.T) {
	const head = `<xml><AppId><![CDATA[wxc]]></AppId><CreateTime>1413192605</CreateTime><InfoType><![CDATA[%s]]></InfoType>`
	at := time.Unix(1413192605, 0)
	for _, c := range []struct {
		infoType, rest string
		appID, code    string // of the authorizer
		status         int
	}{
		{"component_verify_ticket", `<ComponentVerifyTicket><![CDATA[ticket@@@x]]></ComponentVerifyTicket>`, "", "", 0},
		{"authorized", `<AuthorizerAppid>wxa</AuthorizerAppid><AuthorizationCode>code</AuthorizationCode><AuthorizationCodeExpiredTime>1413196205</AuthorizationCodeExpiredTime><PreAuthCode>p</PreAuthCode>`, "wxa", "code", 0},
		{"updateauthorized", `<AuthorizerAppid>wxa</AuthorizerAppid><AuthorizationCode>code</AuthorizationCode><AuthorizationCodeExpiredTime>1413196205</AuthorizationCodeExpiredTime>`, "wxa", "code", 0},
		{"unauthorized", `<AuthorizerAppid>wxa</AuthorizerAppid>`, "wxa", "", 0},
		{"notify_third_fasteregister", `<appid>wxa</appid><status>0</status><auth_code><![CDATA[code]]></auth_code><msg>OK</msg><info><name>n</name><code>123</code><appid>wxinner</appid><status>7</status></info>`, "wxa", "code", 0},
		{"notify_third_fasteregister", `<appid>wxa</appid><status>-1000</status><msg>no</msg><info><wxuser>u</wxuser></info>`, "wxa", "", -1000},
		{"notify_third_fastregisterbetaapp", `<appid>wxa</appid><status>0</status><info><unique_id>u</unique_id></info>`, "wxa", "", 0},
		{"notify_third_fastverifybetaapp", `<appid>wxa</appid><status>0</status>`, "wxa", "", 0},
		{"notify_3rd_wxa_auth", `<appid>wxa</appid><taskid>t</taskid><task_status>1</task_status>`, "wxa", "", 0},
		{"notify_3rd_wxa_wxverify", `<appid>wxa</appid><expired>1</expired>`, "wxa", "", 0},
		{"notify_icpfiling_verify_result", `<task_id>t</task_id><verify_appid>wxa</verify_appid><result>1</result>`, "wxa", "", 0},
		{"notify_apply_icpfiling_result", `<authorizer_appid>wxa</authorizer_appid><beian_status>1</beian_status>`, "wxa", "", 0},
		{"notify_3rd_wxa_auth_and_icp", `<procedure_id>1</procedure_id>`, "", "", 0},
	} {
		for _, end := range []string{"</xml>", "</xml>\n", "<xml>", "<xml>\r\n "} {
			got, err := ParseEvent([]byte(fmt.Sprintf(head, c.infoType) + c.rest + end))
			if err != nil || got.AppID != "wxc" || got.InfoType != c.infoType || !got.CreateTime.Equal(at) ||
				got.AuthorizerID != c.appID || got.Code.Reveal() != c.code || got.Status != c.status {
				t.Errorf("%s ended by %q: %+v %v", c.infoType, end, got, err)
			}
			if strings.Contains(c.rest, "ExpiredTime") != !got.CodeExpires.IsZero() || got.Ticket.Empty() == (c.infoType == InfoTypeTicket) {
				t.Errorf("%s: %+v", c.infoType, got)
			}
		}
	}
}

func TestRefusedDocuments(t *testing.T) {
	for _, document := range []string{
		``, ` `, `<xml>`, `</xml>`, `xml`, `{}`, `<html></html>`, `<xml><a></xml>`, `<xml><a>1</a>`, `<xml></xml><xml></xml>`, `<xml></xml>x`, `x<xml></xml>x`,
		`<!DOCTYPE xml [<!ENTITY a "b">]><xml><AppId>&a;</AppId></xml>`, `<!DOCTYPE xml><xml></xml>`, `<xml><AppId>&a;</AppId></xml>`,
		`<xml></xml><!DOCTYPE xml>`, `<?xml version="1.0" encoding="GBK"?><xml></xml>`, "<xml><a>\xff</a></xml>", "<xml><a>\x00</a></xml>",
		strings.Repeat("<xml>", maxDepth+1) + strings.Repeat("</xml>", maxDepth+1),
		`<xml>` + strings.Repeat("<a/>", maxFields+1) + `</xml>`,
		`<xml><![CDATA[</xml>`, `<xml a="1></xml>`,
	} {
		if got, err := ParseEvent([]byte(document)); err == nil {
			t.Errorf("%.60q: %+v", document, got)
		}
	}
	for _, document := range []string{
		`<xml/>`, `<xml></xml>`, `<?xml version="1.0" encoding="utf-8"?><!-- c --><xml><a/></xml><!-- c -->`[:len(`<?xml version="1.0" encoding="utf-8"?><!-- c --><xml><a/></xml>`)],
		`<xml>` + strings.Repeat("<a/>", maxFields) + `</xml>`, `<xml><AppId><![CDATA[<xml>&amp;]]></AppId></xml>`,
	} {
		if _, err := ParseEvent([]byte(document)); err != nil {
			t.Errorf("%.60q: %v", document, err)
		}
	}
	if got, _ := ParseEvent([]byte(`<xml><CreateTime>99999999999999999999</CreateTime><AuthorizationCodeExpiredTime>-5</AuthorizationCodeExpiredTime></xml>`)); !got.CreateTime.IsZero() || !got.CodeExpires.IsZero() {
		t.Errorf("%+v", got)
	}
}

// The caller's bytes are left as they are, the slip mended or not.
func TestParseEventDoesNotWriteToItsArgument(t *testing.T) {
	message := append(make([]byte, 0, 100), "<xml><AppId>a</AppId><xml>"...)
	before := string(message[:cap(message)])
	if _, err := ParseEvent(message); err != nil || string(message[:cap(message)]) != before {
		t.Error("changed", err)
	}
}

func TestParseEnvelope(t *testing.T) {
	got, err := ParseEnvelope([]byte(`<xml><AppId><![CDATA[wxc]]></AppId><Encrypt><![CDATA[a+/=]]></Encrypt></xml>`))
	if err != nil || got != (Envelope{AppID: "wxc", Encrypt: "a+/="}) {
		t.Errorf("%+v %v", got, err)
	}
	got, err = ParseEnvelope([]byte("<xml>\n<ToUserName>gh_1</ToUserName>\n<Encrypt>abc</Encrypt>\n</xml>"))
	if err != nil || got != (Envelope{ToUserName: "gh_1", Encrypt: "abc"}) {
		t.Errorf("%+v %v", got, err)
	}
	whole := `<xml><AppId>wxc</AppId><Encrypt>abc</Encrypt></xml>`
	for i := range len(whole) {
		if got, err := ParseEnvelope([]byte(whole[:i])); err == nil {
			t.Errorf("cut to %q: %+v", whole[:i], got)
		}
	}
	for _, body := range []string{`<xml></xml>`, `<xml><a><Encrypt>abc</Encrypt></a></xml>`, `<xml><Encrypt></Encrypt></xml>`} {
		if _, err := ParseEnvelope([]byte(body)); err == nil {
			t.Errorf("%s: no error", body)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	for _, seed := range []string{
		`<xml><AppId>a</AppId><CreateTime>1</CreateTime><InfoType>authorized</InfoType><xml>`, `<xml><info><a>1</a></info></xml>`,
		`<!DOCTYPE a><xml/>`, `<xml><Encrypt><![CDATA[x]]></Encrypt></xml>`, `<?xml version="1.0"?><xml>&lt;</xml>`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		before := string(message)
		event, err := ParseEvent(message)
		if string(message) != before {
			t.Error("the argument was changed")
		}
		if err == nil && len(event.InfoType)+len(event.Code.Reveal()) > len(message) {
			t.Errorf("%q gave %+v", message, event)
		}
		if e, err := ParseEnvelope(message); err == nil && e.Encrypt == "" {
			t.Error("no Encrypt, no error")
		}
	})
}
