package wechat

import (
	"strings"
	"unicode/utf8"
)

// maxFlat is how many elements a document may have to be read by flatFields.
const maxFlat = 32

// flatFields is fields for documents as WeChat writes them: <xml> with elements
// that hold text, or one CDATA section, and nothing else. It reports false, and
// calls nothing, for any other document: that one is encoding/xml's.
func flatFields(document []byte, fn func(name, value string)) bool {
	text := string(document)
	if !plainText(text) {
		return false
	}
	rest, ok := strings.CutPrefix(text, "<xml>")
	if !ok {
		return false
	}
	var found [maxFlat][2]string
	n := 0
	for {
		rest = strings.TrimLeft(rest, " \t\n")
		if rest == "</xml>" {
			break
		}
		name, value, behind, ok := flatElement(rest)
		if !ok || n == maxFlat {
			return false
		}
		found[n] = [2]string{name, strings.TrimSpace(value)}
		n++
		rest = behind
	}
	for _, f := range found[:n] {
		fn(f[0], f[1])
	}
	return true
}

// flatElement cuts <name>text</name> off a document.
func flatElement(text string) (name, value, behind string, ok bool) {
	if text == "" || text[0] != '<' {
		return "", "", "", false
	}
	end := 1
	for end < len(text) && isNameByte(text[end]) {
		end++
	}
	if end == 1 || end == len(text) || text[end] != '>' || '0' <= text[1] && text[1] <= '9' {
		return "", "", "", false
	}
	name, text = text[1:end], text[end+1:]
	if inside, isCDATA := strings.CutPrefix(text, "<![CDATA["); isCDATA {
		value, behind, ok = strings.Cut(inside, "]]>")
	} else if end := strings.IndexByte(text, '<'); end >= 0 {
		value, behind = text[:end], text[end:]
		ok = !strings.ContainsAny(value, "&]")
	}
	if !ok || len(behind) < len(name)+3 || behind[:2] != "</" || behind[2:2+len(name)] != name || behind[2+len(name)] != '>' {
		return "", "", "", false
	}
	return name, value, behind[len(name)+3:], true
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || '0' <= c && c <= '9'
}

// plainText reports whether encoding/xml takes each character of a text as it is.
func plainText(text string) bool {
	high := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= 0x80:
			high = true
		case c < ' ' && c != '\n' && c != '\t':
			return false
		}
	}
	return !high || utf8.ValidString(text) && !strings.Contains(text, "\uFFFE") && !strings.Contains(text, "\uFFFF")
}
