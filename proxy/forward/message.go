package forward

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"

	"lingpai/tokens/secret"
	"lingpai/tokens/wechat"
)

// maxDepth is how deeply elements may be nested.
const maxDepth = 64

// message is a push as it may leave.
type message struct {
	// xml is the document without codes.
	xml secret.String
	// ticket means that it must not leave at all.
	ticket                   bool
	infoType, msgType, event string
}

// replyable reports whether WeChat takes a reply to it.
func (m *message) replyable() bool { return m.infoType == "" && m.msgType != "" }

// label is the Type of a delivery. It goes into a header, the log and answers to
// operators, so it holds nothing odd.
func (m *message) label() string {
	label := m.infoType
	if label == "" {
		label = m.msgType
		if strings.EqualFold(label, "event") && m.event != "" {
			label += "/" + m.event
		}
	}
	if label == "" || !plain(label) {
		return "other"
	}
	return label
}

// plain reports whether text may be in a header and in the log.
func plain(text string) bool {
	return len(text) <= 128 && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isCode reports whether an element's content never leaves; the package comment
// has the rule.
func isCode(name string) bool {
	switch strings.ToLower(strings.ReplaceAll(name, "_", "")) {
	case "authorizationcode", "preauthcode", "componentverifyticket", "authcode":
		return true
	}
	return false
}

// document mends the slip that package wechat accepts too.
func document(text string) string {
	text = strings.TrimSpace(text)
	if before, slip := strings.CutSuffix(text, "<xml>"); slip && before != "" {
		return before + "</xml>"
	}
	return text
}

// readMessage reads a push and takes the codes out. The error is ErrMalformed,
// which says nothing of the content.
func readMessage(push secret.String) (message, error) {
	var m message
	text := document(push.Reveal())
	var kept strings.Builder
	from := 0 // of text that is not in kept yet
	err := walk(text, func(e element) {
		if isCode(e.name) {
			kept.WriteString(text[from:e.begin])
			from = e.end
		}
		if e.depth != 2 {
			return
		}
		switch strings.ToLower(e.name) { // as package wechat compares
		case "infotype":
			m.infoType = strings.TrimSpace(e.text)
			m.ticket = m.ticket || strings.EqualFold(m.infoType, wechat.InfoTypeTicket)
		case "msgtype":
			m.msgType = strings.TrimSpace(e.text)
		case "event":
			m.event = strings.TrimSpace(e.text)
		}
	})
	if err != nil {
		return message{}, ErrMalformed
	}
	kept.WriteString(text[from:])
	m.xml = secret.New(kept.String())
	return m, nil
}

// element is one that walk has come to the end of. An element in one that holds
// a code is not told of.
type element struct {
	name  string // without prefix
	depth int    // <xml> is 1
	// begin and end are where what it holds begins and ends in the document.
	begin, end int
	leaf       bool   // no element in it
	text       string // of an element directly in <xml>, if it is a leaf
}

// walk calls fn with each element of an <xml> document at its end.
func walk(text string, fn func(element)) error {
	d := newDecoder(text)
	var open []element
	var inside []byte // the text in the present element of depth 2
	code := 0         // the depth of the element around that holds a code
	ended := false
	for {
		before := int(d.InputOffset())
		token, err := d.Token()
		if errors.Is(err, io.EOF) && ended {
			return nil
		}
		if err != nil {
			return ErrMalformed
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth := len(open) + 1
			if ended || depth > maxDepth || depth == 1 && t.Name.Local != "xml" {
				return ErrMalformed
			}
			if depth > 1 {
				open[depth-2].leaf = false
			}
			open = append(open, element{name: t.Name.Local, depth: depth, begin: int(d.InputOffset()), leaf: true})
			if depth == 2 {
				inside = inside[:0]
			}
			if code == 0 && isCode(t.Name.Local) {
				code = depth
			}
		case xml.EndElement:
			last := len(open) - 1
			e := open[last]
			e.end = before
			if e.depth == 2 && e.leaf {
				e.text = string(inside)
			}
			open = open[:last]
			if code == 0 || code == e.depth {
				code = 0
				fn(e)
			}
			ended = last == 0
		case xml.Directive:
			return ErrMalformed // no DOCTYPE, no entities
		case xml.CharData:
			switch {
			case len(open) == 2:
				inside = append(inside, t...)
			case len(open) == 0 && len(bytes.TrimSpace(t)) > 0:
				return ErrMalformed
			}
		}
	}
}

func newDecoder(text string) *xml.Decoder {
	d := xml.NewDecoder(strings.NewReader(text))
	// WeChat writes UTF-8, whatever a prolog says; what is none is refused.
	d.CharsetReader = func(_ string, input io.Reader) (io.Reader, error) { return input, nil }
	return d
}
