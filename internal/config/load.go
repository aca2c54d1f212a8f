package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxFile bounds a configuration file, in bytes: some thousand accounts.
	maxFile = 256 * kib
	// maxDepth bounds nesting; the schema needs 4.
	maxDepth = 32
)

// Load reads and parses the file at path; see Parse. Faults name the file by
// path, and its relative paths start at its directory.
func Load(path string, env func(string) (string, bool)) (Config, Faults) {
	data, err := readFile(path)
	if err != nil {
		return Config{}, Faults{{File: path, Message: err.Error()}}
	}
	return Parse(path, data, filepath.Dir(path), env)
}

// Parse decodes and validates the content of a configuration file and resolves
// it: secrets are read (env, or os.LookupEnv if nil, gives environment
// variables), paths are made absolute against dir. Faults name the file by
// name. With any fault at all the Config is the zero one.
func Parse(name string, data []byte, dir string, env func(string) (string, bool)) (Config, Faults) {
	if env == nil {
		env = os.LookupEnv
	}
	l := &loader{name: name, env: env, places: map[string]place{}, broken: map[string]bool{}}
	var err error
	if l.dir, err = filepath.Abs(dir); err != nil {
		return Config{}, Faults{{File: name, Message: "the directory relative paths start at is unknown: name the file by an absolute path"}}
	}
	config := defaults()
	if body, ok := l.document(data); ok {
		if body == nil || l.mapping("", body, reflect.ValueOf(&config).Elem()) {
			l.validate(&config)
		}
	}
	if len(l.faults) > 0 {
		l.faults.sort()
		return Config{}, l.faults
	}
	l.resolve(&config)
	return config, nil
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("does not exist: name the file with -config")
	}
	if err != nil {
		return nil, errors.New("cannot be read: " + reason(err))
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, errors.New("cannot be read: " + reason(err))
	}
	return data, nil
}

// document parses the one document of the file, whose body is nil if it is
// empty. Syntax is all or nothing: after an error the rest means little.
func (l *loader) document(data []byte) (body ast.Node, ok bool) {
	start := place{1, 1}
	if len(data) > maxFile {
		l.faultAt(start, "", "is larger than %s: is it the right file?", formatSize(maxFile))
		return nil, false
	}
	if at, ok := invalidText(data); !ok {
		l.faultAt(at, "", "is not UTF-8 text from here on: save the file as UTF-8")
		return nil, false
	}
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	file, err := parse(data)
	if err != nil {
		at, message := syntaxError(err)
		l.faultAt(at, "", "%s", message)
		return nil, false
	}
	for _, document := range file.Docs {
		switch {
		case document.Body == nil:
		case document.Body.Type() == ast.DirectiveType:
			l.faultAt(placeOf(document.Body), "", "YAML directives (%%) are not supported: remove the line")
			return nil, false
		case body != nil:
			l.faultAt(placeOf(document.Body), "", "a second document begins here: put all keys into one and remove ---")
			return nil, false
		default:
			body = document.Body
		}
	}
	return body, true
}

var (
	errNotYAML = errors.New("not YAML")
	errTooDeep = errors.New("nested too deeply")
)

// parse is the YAML parser, whose panics on strange input are errors here. What
// is nested without end is refused first: the parser would take minutes, or
// more stack than there is.
func parse(data []byte) (file *ast.File, err error) {
	defer func() {
		if recover() != nil {
			file, err = nil, errNotYAML
		}
	}()
	tokens := lexer.Tokenize(string(data))
	if depth(tokens) > maxDepth {
		return nil, errTooDeep
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// depth is how many brackets are open at once, or dashes stand in a row.
// Nesting by indentation is held back by the size of the file.
func depth(tokens token.Tokens) int {
	open, dashes, deepest := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open++
		case token.SequenceEndType, token.MappingEndType:
			open--
		}
		dashes++
		if t.Type != token.SequenceEntryType {
			dashes = 0
		}
		deepest = max(deepest, open, dashes)
	}
	return deepest
}

// syntaxError takes place and message from the parser's error. Its text as a
// whole quotes the lines around, and some messages a value: both may be
// secrets.
func syntaxError(err error) (place, string) {
	at, message := place{1, 1}, "cannot be parsed"
	if errors.Is(err, errTooDeep) {
		message = err.Error()
	}
	if e, ok := errors.AsType[yaml.Error](err); ok {
		if token := e.GetToken(); token != nil && token.Position != nil {
			at = place{max(token.Position.Line, 1), max(token.Position.Column, 1)}
		}
		if m := e.GetMessage(); m != "" && !strings.Contains(m, `"`) {
			message = m
		}
	}
	return at, "is not valid YAML: " + message + ": look at this line and the one before, at indentation, quotes and brackets"
}

// invalidText finds the first byte that is not UTF-8, or is NUL.
func invalidText(data []byte) (place, bool) {
	at := place{1, 1}
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		if r == utf8.RuneError && size == 1 || r == 0 {
			return at, false
		}
		at.column++
		if r == '\n' {
			at = place{at.line + 1, 1}
		}
		data = data[size:]
	}
	return at, true
}
