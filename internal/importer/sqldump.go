package importer

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// sqlValue is a value of a row: NULL, or its text.
type sqlValue struct {
	text string
	null bool
}

// sqlRow is a row of an INSERT.
type sqlRow struct {
	table  string
	line   int
	values map[string]sqlValue // by column
	fault  string
}

// sqlDump reads the rows of some tables from what mysqldump writes. Anything
// else in it is passed over.
type sqlDump struct {
	r    *bufio.Reader
	line int
	want func(table string) bool
	use  func(sqlRow) error
	// columns of the tables, by their CREATE TABLE: names, and types in lower
	// case.
	columns map[string][]sqlColumn
}

type sqlColumn struct{ name, kind string }

func newSQLDump(r io.Reader, want func(string) bool, use func(sqlRow) error) *sqlDump {
	return &sqlDump{r: bufio.NewReaderSize(r, 1<<16), line: 1, want: want, use: use, columns: map[string][]sqlColumn{}}
}

// kind is the type of a column, "" if the dump did not say it.
func (d *sqlDump) kind(table, column string) string {
	for _, c := range d.columns[table] {
		if c.name == column {
			return c.kind
		}
	}
	return ""
}

var errSQL = errors.New("is no SQL as mysqldump writes it")

// token is a word, a name in backquotes, a text in quotes, or one other
// character.
type token struct {
	kind byte // 'w' word, 'n' name, 't' text, 0 end of file, else the character
	text string
}

func (t token) is(word string) bool { return t.kind == 'w' && strings.EqualFold(t.text, word) }

// read reads the whole dump.
func (d *sqlDump) read() error {
	for {
		t, err := d.next()
		switch {
		case err != nil:
		case t.kind == 0:
			return nil
		case t.is("INSERT"), t.is("REPLACE"):
			err = d.insert()
		case t.is("CREATE"):
			err = d.create()
		case t.kind != ';':
			err = d.skip()
		}
		if err != nil {
			return err
		}
	}
}

func (d *sqlDump) fail() error { return fmt.Errorf("line %d: %w", d.line, errSQL) }

// skip passes over the rest of a statement.
func (d *sqlDump) skip() error {
	for {
		t, err := d.next()
		if err != nil || t.kind == ';' || t.kind == 0 {
			return err
		}
	}
}

// name reads the name of a table, which may follow that of its database.
func (d *sqlDump) name(t token) (name string, next token, err error) {
	for {
		if t.kind != 'n' && t.kind != 'w' {
			return "", t, d.fail()
		}
		name = t.text
		if t, err = d.next(); err != nil || t.kind != '.' {
			return strings.ToLower(name), t, err
		}
		if t, err = d.next(); err != nil {
			return "", t, err
		}
	}
}

// insert reads [IGNORE] INTO table [(columns)] VALUES (…),(…);
func (d *sqlDump) insert() error {
	t, err := d.next()
	for err == nil && (t.is("IGNORE") || t.is("INTO") || t.is("LOW_PRIORITY") || t.is("DELAYED")) {
		t, err = d.next()
	}
	if err != nil {
		return err
	}
	table, t, err := d.name(t)
	if err != nil {
		return err
	}
	if !d.want(table) {
		return d.skip()
	}
	var columns []string
	if t.kind == '(' {
		if columns, err = d.list(); err != nil {
			return err
		}
		if t, err = d.next(); err != nil {
			return err
		}
	} else {
		for _, c := range d.columns[table] {
			columns = append(columns, c.name)
		}
	}
	if len(columns) == 0 {
		return fmt.Errorf("line %d: the columns of table %s are not known: the dump needs its CREATE TABLE (no --no-create-info), or --complete-insert", d.line, table)
	}
	if !t.is("VALUES") && !t.is("VALUE") {
		return d.fail()
	}
	for {
		if t, err = d.next(); err != nil {
			return err
		}
		switch t.kind {
		case ',':
		case '(':
			if err := d.row(table, columns); err != nil {
				return err
			}
		case ';', 0:
			return nil
		default:
			return d.skip() // ON DUPLICATE KEY …
		}
	}
}

// list reads names up to the closing parenthesis.
func (d *sqlDump) list() ([]string, error) {
	var names []string
	for {
		t, err := d.next()
		switch {
		case err != nil:
			return nil, err
		case t.kind == ')':
			return names, nil
		case t.kind == 'n' || t.kind == 'w':
			names = append(names, strings.ToLower(t.text))
		case t.kind != ',':
			return nil, d.fail()
		}
	}
}

// row reads values up to the closing parenthesis.
func (d *sqlDump) row(table string, columns []string) error {
	r := sqlRow{table: table, line: d.line, values: map[string]sqlValue{}}
	var values []sqlValue
	current, some := sqlValue{}, false
	for {
		t, err := d.next()
		if err != nil {
			return err
		}
		switch t.kind {
		case 0, ';':
			return d.fail()
		case ',', ')':
			if !some {
				return d.fail()
			}
			values = append(values, current)
			current, some = sqlValue{}, false
		case 't':
			current, some = sqlValue{text: current.text + t.text}, true
		case 'w':
			some = true
			switch {
			case strings.HasPrefix(t.text, "_"): // the character set of the text that follows
			case t.is("NULL"):
				current = sqlValue{null: true}
			case len(t.text) > 2 && t.text[0] == '0' && (t.text[1] == 'x' || t.text[1] == 'X'):
				bytes, err := hex.DecodeString(t.text[2:])
				if err != nil {
					return d.fail()
				}
				current = sqlValue{text: string(bytes)}
			default:
				current = sqlValue{text: current.text + t.text}
			}
		case '-', '+', '.':
			current, some = sqlValue{text: current.text + string(t.kind)}, true
		default:
			return d.fail()
		}
		if t.kind == ')' {
			break
		}
	}
	if len(values) != len(columns) {
		r.fault = fmt.Sprintf("has %d values for %d columns", len(values), len(columns))
	} else {
		for i, name := range columns {
			r.values[name] = values[i]
		}
	}
	return d.use(r)
}

// create reads the columns of CREATE TABLE [IF NOT EXISTS] table (…);
func (d *sqlDump) create() error {
	t, err := d.next()
	if err != nil || !t.is("TABLE") {
		if t.kind == ';' || t.kind == 0 {
			return err
		}
		return errors.Join(err, d.skip())
	}
	for t, err = d.next(); err == nil && (t.is("IF") || t.is("NOT") || t.is("EXISTS")); {
		t, err = d.next()
	}
	if err != nil {
		return err
	}
	table, t, err := d.name(t)
	if err != nil {
		return err
	}
	if t.kind != '(' {
		return d.skip()
	}
	var columns []sqlColumn
	first, depth := true, 1
	for depth > 0 {
		if t, err = d.next(); err != nil {
			return err
		}
		switch {
		case t.kind == 0:
			return d.fail()
		case t.kind == '(':
			depth++
		case t.kind == ')':
			depth--
		case t.kind == ',' && depth == 1:
			first = true
			continue
		case first && depth == 1 && t.kind == 'n': // keys begin with a word
			name := strings.ToLower(t.text)
			if t, err = d.next(); err != nil {
				return err
			}
			columns = append(columns, sqlColumn{name, strings.ToLower(t.text)})
		}
		first = false
	}
	d.columns[table] = columns
	return d.skip()
}

func (d *sqlDump) byte() (byte, error) {
	b, err := d.r.ReadByte()
	if b == '\n' && err == nil {
		d.line++
	}
	return b, err
}

func (d *sqlDump) unread(b byte) {
	if b == '\n' {
		d.line--
	}
	d.r.UnreadByte()
}

// next reads a token. Comments are none, and what is in a /*! comment neither.
func (d *sqlDump) next() (token, error) {
	for {
		b, err := d.byte()
		if errors.Is(err, io.EOF) {
			return token{}, nil
		}
		if err != nil {
			return token{}, err
		}
		switch {
		case b == ' ' || b == '\t' || b == '\r' || b == '\n':
		case b == '#':
			err = d.until('\n')
		case b == '-' && d.ahead('-'):
			err = d.until('\n')
		case b == '/' && d.ahead('*'):
			err = d.comment()
		case b == '\'' || b == '"':
			text, err := d.quoted(b, true)
			return token{'t', text}, err
		case b == '`':
			text, err := d.quoted(b, false)
			return token{'n', text}, err
		case wordByte(b):
			word := []byte{b}
			for {
				b, err = d.byte()
				if err != nil || !wordByte(b) {
					if err == nil {
						d.unread(b)
					}
					return token{'w', string(word)}, nil
				}
				word = append(word, b)
			}
		default:
			return token{kind: b, text: string(rune(b))}, nil
		}
		if err != nil {
			return token{}, d.end(err)
		}
	}
}

func wordByte(b byte) bool {
	return b == '_' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b >= 0x80
}

func (d *sqlDump) ahead(b byte) bool {
	next, err := d.r.Peek(1)
	return err == nil && next[0] == b
}

func (d *sqlDump) until(end byte) error {
	for {
		b, err := d.byte()
		if errors.Is(err, io.EOF) && end == '\n' {
			return nil
		}
		if err != nil || b == end {
			return err
		}
	}
}

func (d *sqlDump) comment() error {
	for {
		if err := d.until('*'); err != nil {
			return err
		}
		if d.ahead('/') {
			_, err := d.byte()
			return err
		}
	}
}

// maxSQLText bounds a text that is not closed, in bytes.
const maxSQLText = 16 << 20

// quoted reads up to the closing quote, which stands for itself when doubled.
func (d *sqlDump) quoted(quote byte, escapes bool) (string, error) {
	var text []byte
	for {
		b, err := d.byte()
		switch {
		case err != nil:
			return "", d.end(err)
		case len(text) > maxSQLText:
			return "", d.fail()
		case b == '\\' && escapes:
			if b, err = d.byte(); err != nil {
				return "", d.end(err)
			}
			switch b {
			case '0':
				b = 0
			case 'n':
				b = '\n'
			case 'r':
				b = '\r'
			case 't':
				b = '\t'
			case 'b':
				b = '\b'
			case 'Z':
				b = 26
			}
		case b == quote:
			if !d.ahead(quote) {
				return string(text), nil
			}
			d.byte()
		}
		text = append(text, b)
	}
}

func (d *sqlDump) end(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("line %d: the dump ends in the middle of a statement", d.line)
	}
	return err
}
