package wechat

import (
	"fmt"
	"strings"
	"testing"
)

// What flatFields takes, encoding/xml reads the same.
func FuzzFlatFields(f *testing.F) {
	for _, document := range []string{
		"<xml><a>b</a></xml>", "<xml>\n<A1><![CDATA[x]]]></A1><b> c </b>\n</xml>", "<xml><a>]]></a></xml>", "<xml><a>\xef\xbf\xbe</a></xml>",
		"<xml><a><![CDATA[\xef\xbf\xbf]]></a></xml>", "<xml><a>\r\n</a></xml>", "<xml><a>\u00e9</a></xml>", "<xml></xml>", "<xml><xml>a</xml></xml>",
		"<xml><a_b>></a_b></xml>", "<xml><a><![CDATA[]]></a>\t</xml>", "<xml><a>&lt;</a></xml>", "<xml><a><b>c</b></a></xml>", "<xml><a>b</a></xml>behind",
		"<xml><a>\x00</a></xml>", "<xml><a>\xff</a></xml>", "<xml><1a>b</1a></xml>", "<xml><a>b</a", "<xml><a>x<![CDATA[y]]></a></xml>", " <xml><a>b</a></xml>",
	} {
		f.Add(document)
	}
	f.Fuzz(func(t *testing.T, document string) {
		var flat, tree []string
		if !flatFields([]byte(document), func(name, value string) { flat = append(flat, name, value) }) {
			if len(flat) > 0 {
				t.Fatalf("%q: not taken, but %q were told", document, flat)
			}
			return
		}
		err := treeFields([]byte(document), func(name, value string) { tree = append(tree, name, value) })
		if err != nil || fmt.Sprintf("%q", flat) != fmt.Sprintf("%q", tree) {
			t.Fatalf("%q: %q, but encoding/xml has %q, %v", document, flat, tree, err)
		}
	})
}

// Pushes as WeChat writes them take the short way.
func TestFlatFieldsTakesPushes(t *testing.T) {
	for rule, document := range map[string]string{
		"envelope": "<xml>\n<AppId><![CDATA[wx1]]></AppId>\n<Encrypt><![CDATA[abc+/=]]></Encrypt>\n</xml>",
		"numbers":  "<xml><CreateTime>1413192605</CreateTime></xml>",
		"Chinese":  "<xml><Content><![CDATA[\u4f60\u597d <b>]]></Content></xml>",
		"one line": "<xml><a><![CDATA[]]></a><b>1</b></xml>",
	} {
		if !flatFields([]byte(document), func(string, string) {}) {
			t.Errorf("%s is left to encoding/xml", rule)
		}
	}
	many := "<xml>" + strings.Repeat("<a>b</a>", maxFlat+1) + "</xml>"
	if flatFields([]byte(many), func(string, string) {}) {
		t.Error("too many fields are taken")
	}
}
