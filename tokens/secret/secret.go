// Package secret holds one string type whose value cannot be printed by
// accident: tokens, tickets, codes, AppSecrets and keys travel as String until
// the byte they are sent or stored.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a non-empty String shows wherever it is printed.
const Redacted = "[redacted]"

// String is a secret value. fmt, log/slog, encoding/json and encoding/xml see
// Redacted in its place ("" stays ""), so that a secret inside any printed
// struct is safe. The zero value is the empty secret. It is immutable and safe
// for concurrent use. Conversion to string is deliberate: only Reveal gives the
// value.
type String struct{ value string }

// New wraps value.
func New(value string) String { return String{value} }

// Reveal returns the value itself, for the place where it is sent or stored.
func (s String) Reveal() string { return s.value }

// Empty reports whether there is no value.
func (s String) Empty() bool { return s.value == "" }

// Equal compares in time that depends on the lengths alone.
func (s String) Equal(other String) bool {
	return subtle.ConstantTimeCompare([]byte(s.value), []byte(other.value)) == 1
}

// String implements fmt.Stringer with Redacted.
func (s String) String() string {
	if s.value == "" {
		return ""
	}
	return Redacted
}

// Format implements fmt.Formatter, so that no verb reaches the value: without
// it %d would print the field. (%p alone asks nobody; vet refuses it.)
func (s String) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue implements slog.LogValuer.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler, which encoding/json and
// encoding/xml use.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
