package config

import (
	"reflect"
	"regexp"
	"strings"
)

// printableKey is what an unknown key must look like to be repeated in a
// fault. Anything else may be a value in the wrong place, even a secret: those
// are longer, and have digits.
var printableKey = regexp.MustCompile(`^[A-Za-z][A-Za-z_.-]{0,27}$`)

// unknown reports a key that the struct t, found at key, does not have.
func (l *loader) unknown(at place, key, name string, t reflect.Type) {
	sub, what := join(key, name), "no such key"
	if !printableKey.MatchString(name) {
		sub, what = key, "here stands what is no key"
	}
	var meant []string
	near := nearest(name, keysOf(t))
	if near != "" {
		meant = append(meant, join(key, near))
	}
	if fold(near) != fold(name) {
		meant = append(meant, keysNamed(name)...)
	}
	if len(meant) > 0 {
		l.faultAt(at, sub, "%s: did you mean %s?", what, strings.Join(meant, " or "))
	} else {
		l.faultAt(at, sub, "%s: known here are %s", what, strings.Join(keysOf(t), ", "))
	}
}

// maxKey is about the length of the longest key.
const maxKey = 32

// nearest returns the key that name is a misspelling of, or "".
func nearest(name string, keys []string) string {
	if len(name) > 2*maxKey {
		return ""
	}
	best, least := "", len(name)/3+1
	for _, key := range keys {
		if d := distance(fold(name), fold(key)); d < least {
			best, least = key, d
		}
	}
	return best
}

// keysNamed returns the keys anywhere in the file whose last part is name.
func keysNamed(name string) []string {
	var found []string
	for _, key := range schemaKeys() {
		last := key[strings.LastIndex(key, ".")+1:]
		if fold(last) == fold(name) {
			found = append(found, key)
		}
	}
	return found
}

// fold drops what people write differently: appId, app-id and app_id.
func fold(name string) string { return separators.Replace(strings.ToLower(name)) }

var separators = strings.NewReplacer("_", "", "-", "")

// distance is the number of letters to insert, remove or replace to make b
// from a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above+1, row[j]+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}
