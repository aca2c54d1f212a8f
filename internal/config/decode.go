package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"lingpai/tokens/secret"
)

// loader turns one file into a Config and gathers what is wrong with it.
type loader struct {
	name   string // of the file, for faults
	dir    string // absolute; where relative paths start
	env    func(string) (string, bool)
	places map[string]place // where the keys and items of the file stand
	faults Faults
	broken map[string]bool // keys that have a fault
}

// place is a position in the file, counted from 1.
type place struct{ line, column int }

// fault adds a fault of key, at key's place or, if the file does not have key,
// at what it belongs to. Only the first fault of a key counts: what comes later
// follows from it.
func (l *loader) fault(key, format string, args ...any) {
	if l.broken[key] {
		return
	}
	at := place{1, 1}
	for k := key; k != ""; k = parent(k) {
		if p, ok := l.places[k]; ok {
			at = p
			break
		}
	}
	l.faultAt(at, key, format, args...)
}

func (l *loader) faultAt(at place, key, format string, args ...any) {
	l.broken[key] = true
	l.faults = append(l.faults, Fault{
		File: l.name, Key: key, Line: at.line, Column: at.column,
		Message: fmt.Sprintf(format, args...),
	})
}

// brokenUnder reports whether key or anything in it has a fault.
func (l *loader) brokenUnder(key string) bool {
	for k := range l.broken {
		if rest, ok := strings.CutPrefix(k, key); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[secret.String]()
	hostType     = reflect.TypeFor[Host]()
)

// value decodes node into a field of Config. The field's type says what the
// YAML has to be: int64 is a size in bytes, int a plain number, a struct a
// mapping. Null keeps what the field has. options are those of the field's tag.
func (l *loader) value(key string, node ast.Node, into reflect.Value, options string) {
	switch node.(type) {
	case nil, *ast.NullNode:
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		l.fault(key, "anchors, aliases and tags are not supported: write the value itself")
		return
	}
	switch into.Type() {
	case durationType:
		l.duration(key, node, into)
		return
	case secretType:
		l.secret(key, node, into, options)
		return
	case hostType:
		l.host(key, node, into)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		made := reflect.New(into.Type().Elem())
		if l.mapping(key, node, made.Elem()) {
			into.Set(made)
		}
	case reflect.Struct:
		l.mapping(key, node, into)
	case reflect.Slice:
		l.list(key, node, into)
	case reflect.String:
		l.text(key, node, into)
	case reflect.Bool:
		l.bool(key, node, into)
	case reflect.Int:
		l.number(key, node, into)
	case reflect.Int64:
		l.size(key, node, into)
	default:
		panic("config: no YAML for " + into.Type().String())
	}
}

// mapping decodes the keys of node into the fields of a struct. It reports
// whether node is a mapping, right or wrong.
func (l *loader) mapping(key string, node ast.Node, into reflect.Value) bool {
	var entries []*ast.MappingValueNode
	switch node := node.(type) {
	case *ast.MappingNode:
		entries = node.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{node}
	default:
		known := keysOf(into.Type())
		l.fault(key, "is %s: write keys below it: %s", kindOf(node), strings.Join(known, ", "))
		return false
	}
	first := map[string]place{}
	for _, entry := range entries {
		at := placeOf(entry.Key)
		if entry.Key.IsMergeKey() {
			l.faultAt(at, key, "merge keys (<<) are not supported: write the keys themselves")
			continue
		}
		name, ok := plain(entry.Key)
		field, known := fieldOf(into.Type(), name)
		if !ok || !known {
			l.unknown(at, key, name, into.Type())
			continue
		}
		sub := join(key, name)
		if earlier, ok := first[name]; ok {
			l.faultAt(at, sub, "is given twice, first on line %d: remove one", earlier.line)
			continue
		}
		first[name] = at
		l.places[sub] = at
		l.value(sub, entry.Value, into.FieldByIndex(field.Index), optionsOf(field))
	}
	return true
}

// list decodes the items of node into a slice, in place of its default.
func (l *loader) list(key string, node ast.Node, into reflect.Value) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		l.fault(key, "is %s, not a list: write [] or one line with - for each item", kindOf(node))
		return
	}
	items := reflect.MakeSlice(into.Type(), 0, len(sequence.Values))
	for i, node := range sequence.Values {
		sub := fmt.Sprintf("%s[%d]", key, i)
		l.places[sub] = placeOf(node)
		item := reflect.New(into.Type().Elem())
		if d, ok := item.Interface().(interface{ setDefaults() }); ok {
			d.setDefaults()
		}
		if _, null := node.(*ast.NullNode); null || node == nil {
			l.fault(sub, "is empty: remove the item")
		} else {
			l.value(sub, node, item.Elem(), "")
		}
		items = reflect.Append(items, item.Elem())
	}
	into.Set(items)
}

// plain returns the text of a string node, in whichever style it is written.
func plain(node ast.Node) (string, bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return node.Value.Value, true
	}
	return "", false
}

// placeOf returns where node starts. The token of a block mapping is its first
// colon, so its first key is taken instead.
func placeOf(node ast.Node) place {
	switch n := node.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return placeOf(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return placeOf(n.Key)
	case nil:
		return place{1, 1}
	}
	token := node.GetToken()
	if token == nil || token.Position == nil {
		return place{1, 1}
	}
	return place{max(token.Position.Line, 1), max(token.Position.Column, 1)}
}

// kindOf names what node is, for faults.
func kindOf(node ast.Node) string {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "null"
	}
	return "text"
}
