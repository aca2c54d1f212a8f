// Package dom puts HTML pages together out of nodes.
//
// It is there instead of html/template because that calls methods by name. A
// program that does so keeps every exported method of all its types, which made
// lingpai nearly twice as large.
//
// A [Node] cannot hold what would break a page: texts and attributes are escaped
// as they become nodes, URLs are looked at, and what is written as it is has to
// be [Fixed].
package dom

import (
	"html"
	"net/url"
	"slices"
	"strings"
)

// Fixed is a text of the program itself: a constant or an embedded file. Never
// convert to it what comes from elsewhere.
type Fixed string

// Node is a part of a page: text, elements, or attributes of the element that it
// is given to. The zero Node is nothing.
type Node struct{ attributes, content string }

// Text is a text.
func Text(text string) Node { return Node{content: html.EscapeString(text)} }

// Raw is HTML as it is.
func Raw(source Fixed) Node { return Node{content: string(source)} }

// Attributes that hold a URL, and those that hold what escaping does not make
// safe.
var (
	urlAttributes = []Fixed{"action", "cite", "data", "formaction", "href", "poster", "src"}
	noAttributes  = []Fixed{"ping", "srcdoc", "srcset", "style"}
)

// Attr is an attribute. If it is one that holds a URL, the URL may be of http,
// https or mailto, or relative; another is replaced by [RefusedURL]. Attr panics
// for attributes that hold scripts, styles or several URLs.
func Attr(name Fixed, value string) Node {
	switch {
	case slices.Contains(noAttributes, name), strings.HasPrefix(string(name), "on"):
		panic("dom: no values from elsewhere in the attribute " + string(name))
	case slices.Contains(urlAttributes, name):
		value = safeURL(value)
	}
	return Node{attributes: " " + string(name) + `="` + html.EscapeString(value) + `"`}
}

// Flag is an attribute without a value.
func Flag(name Fixed) Node { return Node{attributes: " " + string(name)} }

// Group is several nodes as one.
func Group(nodes ...Node) Node {
	var attributes, content strings.Builder
	for _, n := range nodes {
		attributes.WriteString(n.attributes)
		content.WriteString(n.content)
	}
	return Node{attributes.String(), content.String()}
}

// If is the nodes, or nothing.
func If(condition bool, nodes ...Node) Node {
	if !condition {
		return Node{}
	}
	return Group(nodes...)
}

// Each is a node for each of a list.
func Each[T any](list []T, node func(T) Node) Node {
	var nodes []Node
	for _, one := range list {
		nodes = append(nodes, node(one))
	}
	return Group(nodes...)
}

// empty are the elements without content and end tag.
var empty = []Fixed{"br", "hr", "img", "input", "link", "meta"}

// El is an element with its attributes and what is in it, in the order given. It
// panics for script and style, in which escaping has another meaning: see Style.
func El(name Fixed, nodes ...Node) Node {
	if name == "script" || name == "style" {
		panic("dom: what is in " + string(name) + " has to be Fixed")
	}
	return element(name, Group(nodes...))
}

// Style is the element style.
func Style(css Fixed, attributes ...Node) Node {
	return element("style", Node{Group(attributes...).attributes, string(css)})
}

func element(name Fixed, in Node) Node {
	begin := "<" + string(name) + in.attributes + ">"
	if slices.Contains(empty, name) {
		return Node{content: begin}
	}
	return Node{content: begin + in.content + "</" + string(name) + ">"}
}

// Page is a whole document; nodes are its head and its body.
func Page(lang string, nodes ...Node) []byte {
	root := El("html", append([]Node{Attr("lang", lang)}, nodes...)...)
	return []byte("<!DOCTYPE html>\n" + root.content + "\n")
}

// RefusedURL stands where a URL is not let in.
const RefusedURL = "about:invalid#refused"

// safeURL is a URL without what browsers and url.Parse could read differently,
// if it runs no script.
func safeURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"", "http", "https", "mailto"}, u.Scheme) {
		return RefusedURL
	}
	var out strings.Builder
	for i := range len(text) {
		if c := text[i]; plainInURL(text[i:]) {
			out.WriteByte(c)
		} else {
			const digits = "0123456789abcdef"
			out.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return out.String()
}

// plainInURL reports whether the first byte of a part of a URL stands there as it
// is.
func plainInURL(text string) bool {
	c := text[0]
	if c == '%' {
		return len(text) > 2 && isHex(text[1]) && isHex(text[2])
	}
	return isAlphanumeric(c) || strings.IndexByte("-._~!#$&*+,/:;=?@[]", c) >= 0
}

func isAlphanumeric(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' }

func isHex(c byte) bool { return isAlphanumeric(c) && c|0x20 <= 'f' }
