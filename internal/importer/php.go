package importer

import (
	"strconv"
	"strings"
)

// phpToken reads a string that PHP's serialize has written, or an array of it
// with a token, as EasyWeChat's caches hold them; or a plain string.
func phpToken(value string) (string, error) {
	if !strings.HasPrefix(value, "s:") && !strings.HasPrefix(value, "a:") {
		return plain(value)
	}
	p := phpReader{rest: value}
	read, ok := p.value(0)
	if !ok || p.rest != "" {
		return "", errForm
	}
	switch v := read.(type) {
	case string:
		return v, nil
	case map[string]any:
		for _, name := range tokenNames {
			if text, ok := v[name].(string); ok {
				return text, nil
			}
		}
	}
	return "", errForm
}

// phpReader reads what serialize writes of strings, numbers, booleans, null and
// arrays of them.
type phpReader struct{ rest string }

const maxPHPDepth = 8

func (p *phpReader) value(depth int) (any, bool) {
	if len(p.rest) < 2 || depth > maxPHPDepth {
		return nil, false
	}
	kind := p.rest[0]
	if kind == 'N' {
		return nil, p.take("N;")
	}
	if !p.take(string(kind) + ":") {
		return nil, false
	}
	switch kind {
	case 's':
		n, ok := p.number(":")
		if !ok || !p.take(`"`) || n > len(p.rest) {
			return nil, false
		}
		text := p.rest[:n]
		p.rest = p.rest[n:]
		return text, p.take(`";`)
	case 'i', 'b', 'd':
		_, rest, ok := strings.Cut(p.rest, ";")
		p.rest = rest
		return nil, ok
	case 'a':
		n, ok := p.number(":")
		if !ok || !p.take("{") {
			return nil, false
		}
		array := map[string]any{}
		for range n {
			key, ok := p.value(depth + 1)
			if !ok {
				return nil, false
			}
			item, ok := p.value(depth + 1)
			if !ok {
				return nil, false
			}
			if name, ok := key.(string); ok {
				array[name] = item
			}
		}
		return array, p.take("}")
	}
	return nil, false
}

func (p *phpReader) take(text string) bool {
	rest, ok := strings.CutPrefix(p.rest, text)
	p.rest = rest
	return ok
}

func (p *phpReader) number(end string) (int, bool) {
	digits, rest, ok := strings.Cut(p.rest, end)
	n, err := strconv.Atoi(digits)
	p.rest = rest
	return n, ok && err == nil && n >= 0
}
