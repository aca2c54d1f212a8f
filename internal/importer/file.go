package importer

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"lingpai/tokens/secret"
)

// fields are the columns of a CSV file and the fields of a JSON object.
var fields = []string{"app_id", "refresh_token", "access_token", "expires_at", "authorized_at"}

// record is a row of a file as text.
type record map[string]string

// row reads the times of a record. seen has the line on which an app id was
// before.
func (rec record) row(where string, seen map[string]string) row {
	r := row{
		appID: rec["app_id"], where: where,
		refreshToken: secret.New(rec["refresh_token"]),
		accessToken:  secret.New(rec["access_token"]),
	}
	if r.appID == "" {
		r.fault = "app_id is empty"
		return r
	}
	if before, ok := seen[r.appID]; ok {
		r.fault = "its app_id is on " + before + " too"
		return r
	}
	seen[r.appID] = where
	var err error
	if text := rec["expires_at"]; text != "" {
		if r.accessExpiresAt, err = moment(text); err != nil {
			r.fault = "expires_at " + err.Error()
		}
	}
	if text := rec["authorized_at"]; text != "" {
		if r.authorizedAt, err = moment(text); err != nil {
			r.fault = "authorized_at " + err.Error()
		}
	}
	return r
}

// csvFile is a source: a table of one's own.
type csvFile struct{ path string }

func (c *csvFile) platform(context.Context) (platform, error) { return platform{}, nil }
func (c *csvFile) hint(context.Context) string                { return "" }
func (c *csvFile) close()                                     {}

func (c *csvFile) authorizers(ctx context.Context, each func([]row) error) error {
	file, err := openFile(c.path)
	if err != nil {
		return err
	}
	defer file.Close()
	reader := csv.NewReader(file)
	reader.FieldsPerRecord = -1 // told below, and not the end
	reader.ReuseRecord = true
	head, err := reader.Read()
	if err != nil {
		return usagef("%s: line 1: there is no header: write the columns %s", c.path, strings.Join(fields, ","))
	}
	columns, err := columnsOf(head)
	if err != nil {
		return usagef("%s: line 1: %w", c.path, err)
	}
	out := batcher{each: each}
	seen := map[string]string{}
	for {
		values, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out.flush()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var r row
		if problem, ok := errors.AsType[*csv.ParseError](err); ok {
			r = row{where: fmt.Sprintf("line %d", problem.StartLine), fault: "is no CSV: " + problem.Err.Error()}
		} else if err != nil {
			return fmt.Errorf("%s: %w", c.path, reason(err))
		} else {
			line, _ := reader.FieldPos(0)
			where := fmt.Sprintf("line %d", line)
			if len(values) != len(columns) {
				r = row{where: where, fault: fmt.Sprintf("has %d values for %d columns", len(values), len(columns))}
			} else {
				rec := record{}
				for i, name := range columns {
					rec[name] = strings.TrimSpace(strings.Clone(values[i]))
				}
				r = rec.row(where, seen)
			}
		}
		if err := out.add(r); err != nil {
			return err
		}
	}
}

// columnsOf checks a header.
func columnsOf(head []string) ([]string, error) {
	columns := slices.Clone(head)
	columns[0] = strings.TrimPrefix(columns[0], "\ufeff")
	for i, name := range columns {
		columns[i] = strings.TrimSpace(name)
		if !slices.Contains(fields, columns[i]) {
			// What is no column may be a first row, secrets and all.
			return nil, fmt.Errorf("column %d is none of %s: the first line names the columns", i+1, strings.Join(fields, ", "))
		}
		if slices.Contains(columns[:i], columns[i]) {
			return nil, fmt.Errorf("column %s is there twice", columns[i])
		}
	}
	if !slices.Contains(columns, "app_id") {
		return nil, errors.New("there is no column app_id")
	}
	if slices.Contains(columns, "access_token") && !slices.Contains(columns, "expires_at") {
		return nil, errors.New("there is access_token but no expires_at: an access token is taken with the time it has left, or left out")
	}
	return columns, nil
}

// jsonFile is a source: an array of objects, or objects one after the other.
type jsonFile struct{ path string }

func (j *jsonFile) platform(context.Context) (platform, error) { return platform{}, nil }
func (j *jsonFile) hint(context.Context) string                { return "" }
func (j *jsonFile) close()                                     {}

func (j *jsonFile) authorizers(ctx context.Context, each func([]row) error) error {
	file, err := openFile(j.path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := &lineCounter{r: file}
	decoder := json.NewDecoder(lines)
	fail := func(err error) error {
		return fmt.Errorf("%s: line %d: %w", j.path, lines.line(decoder.InputOffset()), jsonProblem(err))
	}
	inArray, err := j.begin(decoder, lines)
	if err != nil {
		return fail(err)
	}
	out := batcher{each: each}
	seen := map[string]string{}
	for {
		if inArray && !decoder.More() {
			if _, err := decoder.Token(); err != nil {
				return fail(err)
			}
			if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
				return fail(errors.New("there is something behind the array"))
			}
			return out.flush()
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			if !inArray && errors.Is(err, io.EOF) {
				return out.flush()
			}
			return fail(err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		where := fmt.Sprintf("line %d", lines.line(decoder.InputOffset()-int64(len(raw))))
		rec, err := parseRecord(raw)
		r := row{where: where}
		if err != nil {
			r.fault = err.Error()
		} else {
			r = rec.row(where, seen)
		}
		if err := out.add(r); err != nil {
			return err
		}
	}
}

// begin reads the bracket of an array, if the file begins with one.
func (j *jsonFile) begin(decoder *json.Decoder, lines *lineCounter) (inArray bool, err error) {
	first, err := lines.peek()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil || first != '[' {
		return false, err
	}
	_, err = decoder.Token()
	return true, err
}

// parseRecord reads one object: texts, and for times numbers as well.
func parseRecord(raw []byte) (record, error) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		return nil, errors.New("is no object")
	}
	rec := record{}
	for name, value := range object {
		if !slices.Contains(fields, name) {
			return nil, fmt.Errorf("has a field that is none of %s", strings.Join(fields, ", "))
		}
		var content string
		switch {
		case bytes.Equal(value, []byte("null")):
		case json.Unmarshal(value, &content) == nil:
		case strings.HasSuffix(name, "_at") && bytes.IndexByte([]byte("0123456789"), value[0]) >= 0:
			content = string(value)
		default:
			return nil, fmt.Errorf("field %s is no text", name)
		}
		rec[name] = strings.TrimSpace(content)
	}
	return rec, nil
}

// jsonProblem keeps the content of a file out of an error.
func jsonProblem(err error) error {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("from here on it is no JSON, or it ends too early")
	}
	return reason(err)
}

// lineCounter tells the line of an offset.
type lineCounter struct {
	r      io.Reader
	first  []byte // peeked
	read   int64
	breaks []int64
}

func (c *lineCounter) Read(p []byte) (n int, err error) {
	if len(c.first) > 0 {
		n = copy(p, c.first)
		c.first = c.first[n:]
	} else {
		n, err = c.r.Read(p)
	}
	for i, b := range p[:n] {
		if b == '\n' {
			c.breaks = append(c.breaks, c.read+int64(i))
		}
	}
	c.read += int64(n)
	return n, err
}

// peek returns the first byte that is no space, and drops a byte order mark.
func (c *lineCounter) peek() (byte, error) {
	buffer := make([]byte, 4096)
	for {
		n, err := c.r.Read(buffer)
		c.first = append(c.first, buffer[:n]...)
		c.first = bytes.TrimPrefix(c.first, []byte("\ufeff"))
		if text := bytes.TrimLeft(c.first, " \t\r\n"); len(text) > 0 {
			return text[0], nil
		}
		if err != nil {
			return 0, reason(err)
		}
	}
}

func (c *lineCounter) line(offset int64) int {
	i, _ := slices.BinarySearch(c.breaks, offset)
	return i + 1
}

// openFile opens a file for reading; "-" is standard input.
func openFile(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, usagef("-file %s: %w", path, reason(err))
	}
	return file, nil
}

// reason is an error of the file system without its path.
func reason(err error) error {
	if problem, ok := errors.AsType[*os.PathError](err); ok {
		return problem.Err
	}
	return err
}
