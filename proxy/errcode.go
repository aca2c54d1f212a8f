package proxy

import "bytes"

// maxErrcodeBody is how long an answer may be in which an errcode is looked
// for, in bytes.
const maxErrcodeBody = 4 << 10

var errcodeName = []byte(`"errcode"`)

// errcodeSkip says, for the byte that stands where the name's last one would,
// how far on the name may end next.
var errcodeSkip = skips(errcodeName)

func skips(name []byte) (table [256]uint8) {
	for i := range table {
		table[i] = uint8(len(name))
	}
	for i, c := range name[:len(name)-1] {
		table[c] = uint8(len(name) - 1 - i)
	}
	return table
}

// errcodeIn returns where the name stands first in document, -1 if nowhere. It
// looks at one byte in nine, where bytes.Index stops at each quotation mark.
func errcodeIn(document []byte) int {
	last := len(errcodeName) - 1
	for i := last; i < len(document); i += int(errcodeSkip[document[i]]) {
		if document[i] == '"' && string(document[i-last:i]) == `"errcode` {
			return i - last
		}
	}
	return -1
}

// saysNought reports whether what stands behind the name is the 0 of most
// answers, which needs no search for its place: a second name would.
func saysNought(behind []byte) bool {
	return len(behind) > 2 && behind[0] == ':' && behind[1] == '0' && (behind[2] == ',' || behind[2] == '}') && errcodeIn(behind) < 0
}

// looksLikeJSON reports whether the first byte of body that is no white space
// is {; more is true if body has none yet.
func looksLikeJSON(body []byte) (yes, more bool) {
	for _, c := range body {
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c == '{', false
	}
	return false, true
}

// errcodeOf returns the errcode of an answer: the number, or string of a
// number, at the top level of a JSON object of at most maxErrcodeBody bytes. 0
// if there is none. It looks at the body, not at the content type, which
// WeChat sets as it likes.
func errcodeOf(body []byte) int {
	if len(body) > maxErrcodeBody {
		return 0
	}
	at := errcodeIn(body)
	if at < 0 || saysNought(body[at+len(errcodeName):]) {
		return 0
	}
	return number(memberOf(body, errcodeName))
}

// memberOf returns the document from the value of a member on: of the first one
// of that name, quotes included, at the top level of a JSON object. nil if there
// is none.
func memberOf(document, name []byte) []byte {
	if !bytes.Contains(document, name) {
		return nil
	}
	if yes, _ := looksLikeJSON(document); !yes {
		return nil
	}
	depth := 0
	for i := 0; i < len(document); i++ {
		switch document[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return nil
			}
		case '"':
			end := stringEnd(document, i)
			if depth == 1 && bytes.Equal(document[i:end], name) {
				if value, isMember := memberValue(document[end:]); isMember {
					return value
				}
			}
			i = end - 1
		}
	}
	return nil
}

// stringEnd returns the index behind the JSON string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// memberValue returns what stands behind the colon; isMember is false if there
// is none, so that the string was a value itself.
func memberValue(b []byte) (value []byte, isMember bool) {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) == 0 || b[0] != ':' {
		return nil, false
	}
	return bytes.TrimLeft(b[1:], " \t\r\n"), true
}

// number reads the integer, or string of one, that b begins with; 0 if there is
// none, or if it is not whole.
func number(b []byte) int {
	quoted := len(b) > 0 && b[0] == '"'
	if quoted {
		b = b[1:]
	}
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	n, end := 0, 0
	for end < len(b) && '0' <= b[end] && b[end] <= '9' && n < 1<<27 { // with one more digit it fits an int of 32 bits
		n = 10*n + int(b[end]-'0')
		end++
	}
	switch {
	case end == len(b), quoted != (b[end] == '"'), !quoted && bytes.IndexByte(behindNumber, b[end]) < 0:
		return 0
	case negative:
		return -n
	}
	return n
}

// behindNumber is what may follow a number in an object.
var behindNumber = []byte(",} \t\r\n")
