package dom

import (
	"strings"
	"testing"
)

const hostile = `"><script>alert('1')</script>&amp;`

func TestPage(t *testing.T) {
	got := string(Page("en",
		El("head", El("meta", Attr("charset", "utf-8")), El("title", Text("a")), Style("p { margin: 0 }", Attr("nonce", "n"))),
		El("body", Attr("data-page", "x"),
			If(true, Attr("id", "1"), Text("b")), If(false, Attr("id", "2"), Text("c")), Node{},
			El("br"), Raw("<hr>"),
			Each([]string{"d", "e"}, func(s string) Node { return El("p", Text(s)) }),
			El("input", Flag("checked"), Attr("value", "")))))
	want := "<!DOCTYPE html>\n" +
		`<html lang="en"><head><meta charset="utf-8"><title>a</title><style nonce="n">p { margin: 0 }</style></head>` +
		`<body data-page="x" id="1">b<br><hr><p>d</p><p>e</p><input checked value=""></body></html>` + "\n"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestTextsAndAttributesAreEscaped(t *testing.T) {
	const escaped = `&#34;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;`
	for got, want := range map[string]string{
		Text(hostile).content:                      escaped,
		Attr("value", hostile).attributes:          ` value="` + escaped + `"`,
		Attr("nonce", hostile).attributes:          ` nonce="` + escaped + `"`,
		El("title", Text("</title>")).content:      `<title>&lt;/title&gt;</title>`,
		string(Page(`"`)):                          "<!DOCTYPE html>\n<html lang=\"&#34;\"></html>\n",
		El("p", Attr("id", `"`), Text("")).content: `<p id="&#34;"></p>`,
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]string{
		"":                            "",
		"/a?b=c&d=e#f":                "/a?b=c&amp;d=e#f",
		"?state=%2B+x":                "?state=%2B+x",
		"//host/a":                    "//host/a",
		"a/b:c":                       "a/b:c",
		"http://[::1]:80/":            "http://[::1]:80/",
		"HTTPS://example.com/":        "HTTPS://example.com/",
		"mailto:a@example.com":        "mailto:a@example.com",
		"https://e.com/状?a|b=\xff'\"": "https://e.com/%e7%8a%b6?a%7cb=%ff%27%22",
		"/?a=%zz&b=%4":                "/?a=%25zz&amp;b=%254",
		`/"><script>(1)`:              "/%22%3e%3cscript%3e%281%29",

		"javascript:alert(1)":          RefusedURL,
		"JaVaScRiPt:alert(1)":          RefusedURL,
		" javascript:alert(1)":         RefusedURL,
		"\tjavascript:alert(1)":        RefusedURL,
		"java\nscript:alert(1)":        RefusedURL,
		"\x00javascript:alert(1)":      RefusedURL,
		"javascript://%0aalert(1)":     RefusedURL,
		"vbscript:x":                   RefusedURL,
		"data:text/html,<script>":      RefusedURL,
		"blob:https://example.com/x":   RefusedURL,
		"a:b":                          RefusedURL,
		"weixin://dl/business":         RefusedURL,
		"https://example.com:port/a":   RefusedURL,
		"javascript&colon;alert(1)":    "javascript&amp;colon;alert%281%29",
		"javascript%3aalert(1)":        "javascript%3aalert%281%29",
		"https://e.com/javascript:x()": "https://e.com/javascript:x%28%29",
	} {
		for _, name := range []Fixed{"href", "action", "formaction", "src"} {
			if got := Attr(name, url).attributes; got != " "+string(name)+`="`+want+`"` {
				t.Errorf("%q: %s, want %s", url, got, want)
			}
		}
	}
	if got := Attr("value", "javascript:alert(1)").attributes; got != ` value="javascript:alert(1)"` {
		t.Errorf("a text was taken for a URL: %s", got)
	}
}

func TestWhatEscapingDoesNotMakeSafe(t *testing.T) {
	for name, make := range map[string]func(){
		"onclick":  func() { Attr("onclick", "x") },
		"style":    func() { Attr("style", "x") },
		"srcdoc":   func() { Attr("srcdoc", "x") },
		"srcset":   func() { Attr("srcset", "x") },
		"<style>":  func() { El("style", Text("x")) },
		"<script>": func() { El("script", Text("x")) },
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "dom: ") {
					t.Errorf("%s is let in", name)
				}
			}()
			make()
		}()
	}
}

func FuzzURL(f *testing.F) {
	f.Add("javascript:alert(1)")
	f.Add("https://example.com/状?a=%zz&b=\"'<>")
	f.Fuzz(func(t *testing.T, text string) {
		got := safeURL(text)
		if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"'<>()\`+"`", r) }) {
			t.Errorf("%q becomes %q", text, got)
		}
		if again := safeURL(got); again != got && again != RefusedURL { // it is for hosts that are none
			t.Errorf("%q becomes %q, and that %q", text, got, again)
		}
		scheme, _, ok := strings.Cut(got, ":")
		if ok && !strings.ContainsAny(scheme, "/?#") && got != RefusedURL {
			switch strings.ToLower(scheme) {
			case "http", "https", "mailto":
			default:
				t.Errorf("%q becomes %q", text, got)
			}
		}
	})
}
