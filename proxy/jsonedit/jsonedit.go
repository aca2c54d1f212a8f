// Package jsonedit reads and changes single members of JSON documents in place:
// every byte that is not changed stays as it came.
package jsonedit

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// ErrNoObject means that a document is not one JSON object.
var ErrNoObject = errors.New("document is no JSON object")

// Member is a member of an object in a document.
type Member struct {
	// Object numbers the object it belongs to, in the order of their beginnings:
	// the document itself is 1.
	Object int
	Depth  int // 1 for the members of the document itself; arrays do not count
	Name   string
	// Text is the value if that is a string, which IsString says.
	Text     string
	IsString bool
	// Start and End are where the value stands, quotes or brackets included.
	Start, End int
}

// container is an object or array that has begun and not ended.
type container struct {
	object  int // 0 for an array
	start   int
	name    string // of the member whose value comes next
	isValue bool   // of an object: the next token is a value
}

// Members calls visit for every member of every object, at any depth, in the
// order in which their values end. ErrNoObject if the document is not exactly
// one JSON object; visit may have been called by then.
func Members(document []byte, visit func(Member)) error {
	if !json.Valid(document) { // the decoder by itself takes more
		return ErrNoObject
	}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	var stack []container
	objects, depth := 0, 0
	for {
		before := int(decoder.InputOffset())
		token, err := decoder.Token()
		ended := objects > 0 && len(stack) == 0
		if errors.Is(err, io.EOF) && ended {
			return nil
		}
		if err != nil || ended || len(stack) == 0 && token != json.Delim('{') {
			return ErrNoObject
		}
		start, end := startOf(document, before), int(decoder.InputOffset())
		switch token {
		case json.Delim('{'):
			objects++
			depth++
			stack = append(stack, container{object: objects, start: start})
			continue
		case json.Delim('['):
			stack = append(stack, container{start: start})
			continue
		case json.Delim('}'), json.Delim(']'):
			last := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if last.object > 0 {
				depth--
			}
			if start = last.start; len(stack) == 0 {
				continue
			}
		}
		top := &stack[len(stack)-1]
		if top.object == 0 {
			continue
		}
		text, isString := token.(string)
		if !top.isValue && isString {
			top.name, top.isValue = text, true
			continue
		}
		top.isValue = false
		visit(Member{Object: top.object, Depth: depth, Name: top.name, Text: text, IsString: isString, Start: start, End: end})
	}
}

// startOf returns where the token begins that stands behind offset.
func startOf(document []byte, offset int) int {
	for offset < len(document) && bytes.IndexByte([]byte(" \t\r\n:,"), document[offset]) >= 0 {
		offset++
	}
	return offset
}

// Edit replaces the bytes from Start to End by With.
type Edit struct {
	Start, End int
	With       []byte
}

// Apply returns a document with edits made. Of two that overlap the one that
// begins first is made, which is the outer one.
func Apply(document []byte, edits []Edit) []byte {
	slices.SortStableFunc(edits, func(a, b Edit) int { return a.Start - b.Start })
	out := make([]byte, 0, len(document)+64*len(edits))
	at := 0
	for _, e := range edits {
		if e.Start < at {
			continue
		}
		out = append(append(out, document[at:e.Start]...), e.With...)
		at = e.End
	}
	return append(out, document[at:]...)
}

// Quote returns s as a JSON string.
func Quote(s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be marshalled
	}
	return quoted
}

// Field is a member to be put into a document.
type Field struct {
	Name, Value string
	// Replace puts the value in the place of whatever is there; else that stays,
	// unless it is empty or null.
	Replace bool
}

// Put puts fields into the object that a document is. An empty document becomes
// an object. ErrNoObject, and the document as it was, for anything else.
func Put(document []byte, fields ...Field) ([]byte, error) {
	if len(bytes.TrimSpace(document)) == 0 {
		document = []byte("{}")
	}
	found := map[string][]Member{}
	if err := Members(document, func(m Member) {
		if m.Depth == 1 {
			found[m.Name] = append(found[m.Name], m)
		}
	}); err != nil {
		return document, err
	}
	var edits []Edit
	var inserted []byte
	for _, f := range fields {
		there := found[f.Name]
		switch {
		case len(there) == 0:
			inserted = append(append(append(inserted, Quote(f.Name)...), ':'), Quote(f.Value)...)
			inserted = append(inserted, ',')
		case f.Replace || !slices.ContainsFunc(there, func(m Member) bool { return !missing(document, m) }):
			for _, m := range there {
				edits = append(edits, Edit{m.Start, m.End, Quote(f.Value)})
			}
		}
	}
	if len(inserted) > 0 {
		if len(found) == 0 {
			inserted = inserted[:len(inserted)-1]
		}
		brace := bytes.IndexByte(document, '{') + 1
		edits = append(edits, Edit{brace, brace, inserted})
	}
	if len(edits) == 0 {
		return document, nil
	}
	return Apply(document, edits), nil
}

// missing reports whether a member says nothing.
func missing(document []byte, m Member) bool {
	return m.IsString && m.Text == "" || string(document[m.Start:m.End]) == "null"
}
