package forward

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
)

// node is an element on its way to JSON.
type node struct {
	text  strings.Builder
	names []string // in the order of their first elements
	of    map[string][]*node
}

func (n *node) add(name string, child *node) {
	if n.of == nil {
		n.of = map[string][]*node{}
	}
	if n.of[name] == nil {
		n.names = append(n.names, name)
	}
	n.of[name] = append(n.of[name], child)
}

// toJSON gives the JSON of an <xml> document, as the package comment has it.
func toJSON(text string) ([]byte, error) {
	d := newDecoder(text)
	root := &node{}
	open := []*node{root}
	for {
		token, err := d.Token()
		if err != nil { // a document ends with its root
			return nil, ErrMalformed
		}
		top := open[len(open)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if len(open) > maxDepth {
				return nil, ErrMalformed
			}
			child := &node{}
			top.add(t.Name.Local, child)
			open = append(open, child)
		case xml.EndElement:
			if open = open[:len(open)-1]; len(open) == 1 {
				return root.of[root.names[0]][0].object(), nil
			}
		case xml.CharData:
			top.text.Write(t)
		}
	}
}

func (n *node) object() []byte {
	var b bytes.Buffer
	n.writeObject(&b)
	return b.Bytes()
}

func (n *node) write(b *bytes.Buffer) {
	if len(n.names) == 0 {
		quote(b, n.text.String())
		return
	}
	n.writeObject(b)
}

func (n *node) writeObject(b *bytes.Buffer) {
	b.WriteByte('{')
	for i, name := range n.names {
		if i > 0 {
			b.WriteByte(',')
		}
		quote(b, name)
		b.WriteByte(':')
		elements := n.of[name]
		if len(elements) == 1 {
			elements[0].write(b)
			continue
		}
		b.WriteByte('[')
		for j, e := range elements {
			if j > 0 {
				b.WriteByte(',')
			}
			e.write(b)
		}
		b.WriteByte(']')
	}
	// No name of an element begins with #.
	if text := n.text.String(); strings.TrimSpace(text) != "" {
		if len(n.names) > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"#text":`)
		quote(b, text)
	}
	b.WriteByte('}')
}

// quote writes a JSON string, <, > and & as they are.
func quote(b *bytes.Buffer, text string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	e.Encode(text) // a string can always be written
	b.Truncate(b.Len() - 1)
}
