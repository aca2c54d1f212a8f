package config

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// The schema is Config itself: a field's yaml tag is its key. Behind the key,
// "optional" lets a secret be "", and "url" lets it be a URL without a password.

// keyOf returns the key of a field, "" for a field that is none.
func keyOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return name
}

func optionsOf(field reflect.StructField) string {
	_, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
	return options
}

// keysOf returns the keys of a struct in the order of its fields.
func keysOf(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if name := keyOf(field); name != "" {
			keys = append(keys, name)
		}
	}
	return keys
}

// fieldOf returns the field of a struct that has the key name.
func fieldOf(t reflect.Type, name string) (reflect.StructField, bool) {
	if name == "" {
		return reflect.StructField{}, false
	}
	for field := range t.Fields() {
		if keyOf(field) == name {
			return field, true
		}
	}
	return reflect.StructField{}, false
}

// schemaKeys returns all keys there are, outer ones before those in them, such
// as upstream, upstream.timeout, accounts and accounts[].app_id.
// Treat the list as read-only.
var schemaKeys = sync.OnceValue(func() []string { return keysUnder("", reflect.TypeFor[Config]()) })

func keysUnder(key string, t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer:
		return keysUnder(key, t.Elem())
	case reflect.Slice:
		return keysUnder(key+"[]", t.Elem())
	case reflect.Struct:
	default:
		return nil
	}
	var keys []string
	for field := range t.Fields() {
		if name := keyOf(field); name != "" {
			sub := join(key, name)
			keys = append(keys, sub)
			keys = slices.Concat(keys, keysUnder(sub, field.Type))
		}
	}
	return keys
}

// join appends name to a dotted key.
func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

// parent returns what a key or item belongs to, "" for the file.
func parent(key string) string {
	return key[:max(strings.LastIndexAny(key, ".["), 0)]
}
