package forward

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"strings"
	"testing"

	"lingpai/tokens/secret"
)

func TestCodesAreTakenOut(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		m, err := readMessage(secret.New(in))
		if err != nil || m.xml.Reveal() != want {
			t.Errorf("%s\n got %s, %v\nwant %s", in, m.xml.Reveal(), err, want)
		}
	}
	same := func(in string) {
		t.Helper()
		f(in, in)
	}
	f("<xml><AuthorizationCode>c</AuthorizationCode></xml>", "<xml><AuthorizationCode></AuthorizationCode></xml>")
	f("<xml><AuthorizationCode><![CDATA[c]]></AuthorizationCode><a>b</a></xml>", "<xml><AuthorizationCode></AuthorizationCode><a>b</a></xml>")
	f("<xml><PreAuthCode> c&amp;\n</PreAuthCode></xml>", "<xml><PreAuthCode></PreAuthCode></xml>")
	f("<xml><ComponentVerifyTicket>c</ComponentVerifyTicket></xml>", "<xml><ComponentVerifyTicket></ComponentVerifyTicket></xml>")
	f("<xml><auth_code>c</auth_code><status>0</status></xml>", "<xml><auth_code></auth_code><status>0</status></xml>")
	f("<xml><AUTHCODE>c</AUTHCODE></xml>", "<xml><AUTHCODE></AUTHCODE></xml>")
	f("<xml><pre_auth_code>c</pre_auth_code></xml>", "<xml><pre_auth_code></pre_auth_code></xml>")
	f("<xml><n:auth_code>c</n:auth_code></xml>", "<xml><n:auth_code></n:auth_code></xml>")
	f("<xml><info><auth_code>c</auth_code><x/></info></xml>", "<xml><info><auth_code></auth_code><x/></info></xml>")
	f("<xml><auth_code a='>' >c</auth_code ></xml>", "<xml><auth_code a='>' ></auth_code ></xml>")
	f("<xml><auth_code>1</auth_code><auth_code>2</auth_code></xml>", "<xml><auth_code></auth_code><auth_code></auth_code></xml>")
	f("<xml><auth_code>a<b>c</b><!-- d --><auth_code>e</auth_code>f</auth_code></xml>", "<xml><auth_code></auth_code></xml>")
	f("<xml><auth_code><PreAuthCode>e</PreAuthCode></auth_code><a/></xml>", "<xml><auth_code></auth_code><a/></xml>")
	f(" \n<xml><a>b</a></xml>\n ", "<xml><a>b</a></xml>")
	f("<xml><a>b</a><xml>", "<xml><a>b</a></xml>")
	same("<xml><AuthorizationCodeExpiredTime>600</AuthorizationCodeExpiredTime></xml>")
	same("<xml><auth_code/></xml>")
	same("<xml><Content>&lt;auth_code&gt;c&lt;/auth_code&gt;</Content></xml>")
	same("<xml><Content><![CDATA[<auth_code>c</auth_code>]]></Content></xml>")
	same("<?xml version=\"1.0\" encoding=\"GBK\"?><xml a=\"b\" >\r\n<!-- c --><T></T>\t<T/>你好&#20320;</xml>")
}

func TestWhatIsNoMessage(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":            "",
		"text":               "hush",
		"another root":       "<json></json>",
		"open":               "<xml><a>",
		"crossed":            "<xml><a></b></xml>",
		"two roots":          "<xml></xml><xml></xml>",
		"text behind":        "<xml></xml>hush",
		"an unknown entity":  "<xml>&hush;</xml>",
		"a doctype":          "<!DOCTYPE xml [<!ENTITY a \"b\">]><xml></xml>",
		"no UTF-8":           "<xml>\xff</xml>",
		"a zero byte":        "<xml>\x00</xml>",
		"nested too deeply":  "<xml>" + strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth) + "</xml>",
		"an open code":       "<xml><auth_code>c</xml>",
		"a code in the root": "<auth_code><xml></xml></auth_code>",
	} {
		m, err := readMessage(secret.New(in))
		if !errors.Is(err, ErrMalformed) || !m.xml.Empty() {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s is quoted", name)
		}
	}
	deep := "<xml>" + strings.Repeat("<a>", maxDepth-1) + strings.Repeat("</a>", maxDepth-1) + "</xml>"
	if _, err := readMessage(secret.New(deep)); err != nil {
		t.Errorf("as deep as may be: %v", err)
	}
}

func TestTypes(t *testing.T) {
	f := func(in, label string, ticket, replyable bool) {
		t.Helper()
		m, err := readMessage(secret.New("<xml>" + in + "</xml>"))
		if err != nil || m.label() != label || m.ticket != ticket || m.replyable() != replyable {
			t.Errorf("%s: %q, ticket %t, replyable %t, %v", in, m.label(), m.ticket, m.replyable(), err)
		}
	}
	f("<InfoType>authorized</InfoType>", "authorized", false, false)
	f("<InfoType>\n<![CDATA[unauthorized]]> </InfoType>", "unauthorized", false, false)
	f("<InfoType>component_verify_ticket</InfoType>", "component_verify_ticket", true, false)
	f("<InfoType> <![CDATA[Component_Verify_Ticket]]></InfoType>", "Component_Verify_Ticket", true, false)
	f("<InfoType>component_verify_ticket</InfoType><InfoType>other</InfoType>", "other", true, false)
	f("<infotype>component_verify_ticket</infotype>", "component_verify_ticket", true, false)
	f("<MsgType>text</MsgType><Event>subscribe</Event>", "text", false, true)
	f("<MsgType>event</MsgType><Event>subscribe</Event>", "event/subscribe", false, true)
	f("<MsgType>event</MsgType>", "event", false, true)
	f("<MsgType>text</MsgType><a><InfoType>component_verify_ticket</InfoType></a>", "text", false, true)
	f("<a/>", "other", false, false)
	f("<MsgType>a b</MsgType>", "other", false, true)
	f("<MsgType>文</MsgType>", "other", false, true)
	f("<MsgType>a\r\nX-Other: b</MsgType>", "other", false, true)
	f("<MsgType>"+strings.Repeat("a", 129)+"</MsgType>", "other", false, true)
}

func TestJSON(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		got, err := toJSON(in)
		if err != nil || string(got) != want {
			t.Errorf("%s\n got %s, %v\nwant %s", in, got, err, want)
		}
	}
	f("<xml></xml>", `{}`)
	f("<xml/>", `{}`)
	f("<xml>\n\t</xml>", `{}`)
	f("<xml> a </xml>", `{"#text":" a "}`)
	f("<xml><b>1</b><a></a><c/></xml>", `{"b":"1","a":"","c":""}`)
	f("<xml><a> b\n</a></xml>", `{"a":" b\n"}`)
	f("<xml><a><![CDATA[<b>&amp;]]></a></xml>", `{"a":"<b>&amp;"}`)
	f("<xml><a>x<![CDATA[y]]>&lt;&#22909;<!-- no -->z</a></xml>", `{"a":"xy<好z"}`)
	f("<xml><a k=\"v\">b</a></xml>", `{"a":"b"}`)
	f("<xml><a>\"\\\t\u2028</a></xml>", `{"a":"\"\\\t\u2028"}`)
	f("<xml><i>1</i><i>2</i></xml>", `{"i":["1","2"]}`)
	f("<xml><i>1</i><o/><i><k>2</k></i></xml>", `{"i":["1",{"k":"2"}],"o":""}`)
	f("<xml><L><item><M>a</M></item><item><M>b</M></item></L><n>2</n></xml>", `{"L":{"item":[{"M":"a"},{"M":"b"}]},"n":"2"}`)
	f("<xml><L>\n  <item><M>a</M></item>\n</L></xml>", `{"L":{"item":{"M":"a"}}}`)
	f("<xml><a>x<b>y</b>z</a></xml>", `{"a":{"b":"y","#text":"xz"}}`)
	f("<xml><n:a>1</n:a><a>2</a></xml>", `{"a":["1","2"]}`)
	f("<xml><xml>1</xml></xml>", `{"xml":"1"}`)
	f("<?xml version=\"1.0\"?><xml><a>12345678901234567890</a></xml>", `{"a":"12345678901234567890"}`)

	for _, in := range []string{"", "text", "<xml><a>", "<xml></a>", "<xml>" + strings.Repeat("<a>", maxDepth+1)} {
		if _, err := toJSON(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.20q: %v", in, err)
		}
	}
}

func TestHugeMessage(t *testing.T) {
	for name, in := range map[string]string{
		"one text":      "<xml><Content>" + strings.Repeat("好", 300_000) + "</Content></xml>",
		"many elements": "<xml>" + strings.Repeat("<i>1</i>", 100_000) + "</xml>",
		"many codes":    "<xml>" + strings.Repeat("<auth_code>1</auth_code>", 40_000) + "</xml>",
	} {
		m, err := readMessage(secret.New(in))
		if err != nil {
			t.Fatal(name, err)
		}
		if want := strings.ReplaceAll(in, "<auth_code>1<", "<auth_code><"); m.xml.Reveal() != want {
			t.Errorf("%s was changed", name)
		}
		if out, err := toJSON(m.xml.Reveal()); err != nil || !json.Valid(out) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever comes in: no text of a code's element goes out, all that is outside of
// such elements does, and what is taken is XML and JSON still.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		"<xml><InfoType>authorized</InfoType><AuthorizationCode>c</AuthorizationCode></xml>",
		"<xml><auth_code><a>b</a><auth_code/></auth_code><![CDATA[x]]></xml>",
		"<xml><a>b<c/>d</a><a>&lt;&#x4f60;</a><xml>", "<xml a='b'><n:AuthCode>1</n:AuthCode><!-- - --></xml>",
		"<?xml version='1.0' encoding='gbk'?><xml>\r\n</xml>", "<xml><auth_code>]]&gt;</auth_code ></xml>", "<xml/>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		m, err := readMessage(secret.New(in))
		if err != nil {
			if !errors.Is(err, ErrMalformed) || err.Error() != ErrMalformed.Error() {
				t.Fatal(err)
			}
			return
		}
		out := m.xml.Reveal()
		again, err := readMessage(secret.New(out))
		if err != nil || again.xml.Reveal() != out {
			t.Fatalf("%q became %q, which becomes %q, %v", in, out, again.xml.Reveal(), err)
		}
		outside, inside := split(t, document(in))
		left, leaked := split(t, out)
		if outside != left || leaked != "" {
			t.Fatalf("%q (%q in codes) became %q, %q in codes", in, inside, out, leaked)
		}
		body, err := toJSON(out)
		if err != nil || !json.Valid(body) || body[0] != '{' {
			t.Fatalf("%q became %q, %v", out, body, err)
		}
	})
}

// split gives the character data and the names outside and inside of elements of
// codes, by another reading of the rule than that of walk: by path.
func split(t *testing.T, document string) (outside, inside string) {
	t.Helper()
	var path []string
	d := newDecoder(document)
	for {
		token, err := d.Token()
		if err != nil {
			return outside, inside
		}
		in := false
		for _, name := range path {
			switch strings.ToLower(strings.ReplaceAll(name, "_", "")) {
			case "authorizationcode", "preauthcode", "componentverifyticket", "authcode":
				in = true
			}
		}
		text := ""
		switch e := token.(type) {
		case xml.StartElement:
			path = append(path, e.Name.Local)
			text = "<" + e.Name.Local + ">"
		case xml.EndElement:
			path = path[:len(path)-1]
			continue
		case xml.CharData:
			text = string(e)
		}
		if in {
			inside += text
		} else {
			outside += text
		}
	}
}
