package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration file. No part of it holds a
// secret, nor what stands where a secret belongs.
type Fault struct {
	// File is the name the file was given by.
	File string
	// Key is such as upstream.timeout or accounts[1].app_id; "" when the file
	// as a whole is meant.
	Key string
	// Line and Column count from 1 and are where Key stands, or what it would
	// belong to; 0 when the file could not be read.
	Line, Column int
	// Message says what is wrong and what to write instead.
	Message string
}

// String is the fault on one line, file:line:column: key: message.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": ")
	if f.Key != "" {
		b.WriteString(f.Key)
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults are all the faults of one file, in the order of its lines. No faults
// is a length of 0: as an error value even a nil Faults is not nil, so use Err
// where an error is wanted.
type Faults []Fault

// Error is one fault a line, without a final newline.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// String is the same as Error.
func (f Faults) String() string { return f.Error() }

// Err returns f, or nil when there are no faults.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

func (f Faults) sort() {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key),
		)
	})
}

// Report writes what lingpai check prints about the file at path: every fault
// and a last line that counts them, or that the file is valid.
func Report(w io.Writer, path string, faults Faults) {
	for _, fault := range faults {
		fmt.Fprintln(w, fault)
	}
	switch len(faults) {
	case 0:
		fmt.Fprintf(w, "%s is valid\n", path)
	case 1:
		fmt.Fprintf(w, "1 fault in %s\n", path)
	default:
		fmt.Fprintf(w, "%d faults in %s\n", len(faults), path)
	}
}
