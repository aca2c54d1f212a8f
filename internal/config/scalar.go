package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// text decodes a string. A number or true is refused rather than guessed at:
// 0123 and yes are not what they look like in every YAML.
func (l *loader) text(key string, node ast.Node, into reflect.Value) {
	s, ok := plain(node)
	switch {
	case !ok:
		l.fault(key, "is %s, not text: write text, in quotes where it looks like something else", kindOf(node))
	case strings.ContainsFunc(s, unicode.IsControl):
		l.fault(key, "holds a line break or control character: write it on one line")
	default:
		into.SetString(s)
	}
}

func (l *loader) bool(key string, node ast.Node, into reflect.Value) {
	b, ok := node.(*ast.BoolNode)
	if !ok {
		l.fault(key, "is %s: write true or false", kindOf(node))
		return
	}
	into.SetBool(b.Value)
}

func (l *loader) number(key string, node ast.Node, into reflect.Value) {
	if _, ok := node.(*ast.IntegerNode); !ok {
		l.fault(key, "is %s: write a whole number such as %d", what(node), into.Int())
		return
	}
	n, err := strconv.Atoi(node.GetToken().Value)
	if err != nil {
		l.fault(key, "is %s: write a whole number in decimal digits such as %d", what(node), into.Int())
		return
	}
	into.SetInt(int64(n))
}

var digits = regexp.MustCompile(`^[+-]?[0-9][0-9_.]*$`)

func (l *loader) duration(key string, node ast.Node, into reflect.Value) {
	s, ok := scalar(node)
	if !ok {
		l.fault(key, "is %s: write a duration such as 30s", kindOf(node))
		return
	}
	if digits.MatchString(s) {
		l.fault(key, "%s has no unit: write a duration such as 30s", show(s))
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		l.fault(key, "%s is no duration: write one such as 500ms, 30s, 1m30s or 2h", show(s))
		return
	}
	into.SetInt(int64(d))
}

func (l *loader) size(key string, node ast.Node, into reflect.Value) {
	s, ok := scalar(node)
	if !ok {
		l.fault(key, "is %s: write a size such as 1MiB", kindOf(node))
		return
	}
	if digits.MatchString(s) {
		l.fault(key, "%s has no unit: write a size such as 512B, 16KiB or 1MiB", show(s))
		return
	}
	n, ok := parseSize(s)
	if !ok {
		l.fault(key, "%s is no size: write one such as 512B, 16KiB, 1MiB or 1GiB", show(s))
		return
	}
	into.SetInt(n)
}

// host decodes an entry of upstream.hosts, name or name=url.
func (l *loader) host(key string, node ast.Node, into reflect.Value) {
	var entry string
	l.text(key, node, reflect.ValueOf(&entry).Elem())
	name, url, found := strings.Cut(entry, "=")
	if found && url == "" {
		l.fault(key, "has nothing after =: write name or name=https://host")
	}
	into.Set(reflect.ValueOf(Host{Name: normalName(name), URL: url}))
}

var sizePattern = regexp.MustCompile(`^([0-9]+) ?([A-Za-z]+)$`)

var sizeUnits = map[string]int64{
	"B":   1,
	"KiB": kib, "MiB": mib, "GiB": gib,
	"kB": 1e3, "MB": 1e6, "GB": 1e9,
}

// parseSize parses a whole number of bytes with its unit.
func parseSize(s string) (int64, bool) {
	parts := sizePattern.FindStringSubmatch(s)
	if parts == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	unit, known := sizeUnits[parts[2]]
	if err != nil || !known || n > math.MaxInt64/unit {
		return 0, false
	}
	return n * unit, true
}

// formatSize writes n in the largest unit that leaves it whole.
func formatSize(n int64) string {
	switch {
	case n == 0:
		return "0B"
	case n%gib == 0:
		return fmt.Sprintf("%dGiB", n/gib)
	case n%mib == 0:
		return fmt.Sprintf("%dMiB", n/mib)
	case n%kib == 0:
		return fmt.Sprintf("%dKiB", n/kib)
	}
	return fmt.Sprintf("%dB", n)
}

// scalar returns text or a number as it was written.
func scalar(node ast.Node) (string, bool) {
	switch node.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return node.GetToken().Value, true
	}
	return plain(node)
}

// what is the value itself where it is short, else its kind.
func what(node ast.Node) string {
	if s, ok := scalar(node); ok {
		return show(s)
	}
	return kindOf(node)
}

// show quotes a value for a fault, its end cut off.
func show(s string) string {
	const most = 24
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strconv.Quote(s)
}
