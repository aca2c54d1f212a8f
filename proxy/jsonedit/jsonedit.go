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

// Member is a member of an object in a document whose value is a string.
type Member struct {
	// Object numbers the object it belongs to, in the order of their beginnings:
	// the document itself is 1.
	Object int
	Depth  int // 1 for the members of the document itself
	Name   string
	Value  string
	// Start and End are where the value stands, quotes included.
	Start, End int
}

// Strings calls visit for every member whose value is a string, at any depth,
// in the order of the document. ErrNoObject if the document is not exactly one
// JSON object.
func Strings(document []byte, visit func(Member)) error {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	type container struct {
		object  int // 0 for an array
		name    string
		isValue bool // of an object: the next token is a value
	}
	var stack []container
	objects, depth := 0, 0
	for {
		before := int(decoder.InputOffset())
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && objects > 0 && len(stack) == 0 {
			return nil
		}
		if err != nil || objects > 0 && len(stack) == 0 {
			return ErrNoObject
		}
		var top *container
		if len(stack) > 0 {
			top = &stack[len(stack)-1]
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				objects++
				depth++
				if top != nil {
					top.isValue = false
				}
				stack = append(stack, container{object: objects})
			case '[':
				if top == nil {
					return ErrNoObject
				}
				top.isValue = false
				stack = append(stack, container{})
			default:
				if top.object > 0 {
					depth--
				}
				stack = stack[:len(stack)-1]
			}
			continue
		case string:
			if top == nil {
				return ErrNoObject
			}
			if top.object > 0 && !top.isValue {
				top.name, top.isValue = t, true
				continue
			}
			if top.object > 0 {
				start := before + bytes.IndexByte(document[before:], '"')
				visit(Member{Object: top.object, Depth: depth, Name: top.name, Value: t, Start: start, End: int(decoder.InputOffset())})
			}
		default:
			if top == nil {
				return ErrNoObject
			}
		}
		top.isValue = false
	}
}

// Edit replaces the bytes from Start to End by With.
type Edit struct {
	Start, End int
	With       []byte
}

// Apply returns a document with edits made, which must not overlap.
func Apply(document []byte, edits []Edit) []byte {
	slices.SortFunc(edits, func(a, b Edit) int { return a.Start - b.Start })
	out := make([]byte, 0, len(document)+64*len(edits))
	at := 0
	for _, e := range edits {
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
	// Replace puts the value in the place of one that is there; else that stays.
	Replace bool
}

// Put puts fields into the object that a document is. An empty document becomes
// an object. ErrNoObject, and the document as it was, for anything else.
func Put(document []byte, fields ...Field) ([]byte, error) {
	if len(bytes.TrimSpace(document)) == 0 {
		document = []byte("{}")
	}
	found := map[string][]Member{}
	members := 0
	if err := Strings(document, func(m Member) {
		if m.Depth == 1 {
			found[m.Name] = append(found[m.Name], m)
		}
	}); err != nil {
		return document, err
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(document, &all) != nil {
		return document, ErrNoObject
	}
	members = len(all)
	var edits []Edit
	var inserted []byte
	for _, f := range fields {
		there := found[f.Name]
		raw, exists := all[f.Name]
		missing := !exists || string(raw) == `""` || string(raw) == "null"
		switch {
		case len(there) > 0 && (f.Replace || missing):
			for _, m := range there {
				edits = append(edits, Edit{m.Start, m.End, Quote(f.Value)})
			}
		case !exists:
			if len(inserted) > 0 {
				inserted = append(inserted, ',')
			}
			inserted = append(append(append(inserted, Quote(f.Name)...), ':'), Quote(f.Value)...)
		case f.Replace:
			return document, ErrNoObject // a value that is no string where a secret belongs
		}
	}
	if len(inserted) > 0 {
		if members > 0 {
			inserted = append(inserted, ',')
		}
		brace := bytes.IndexByte(document, '{') + 1
		edits = append(edits, Edit{brace, brace, inserted})
	}
	if len(edits) == 0 {
		return document, nil
	}
	return Apply(document, edits), nil
}
