package proxy

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"

	"lingpai/proxy/route"
)

// fields is what the header of a request says to lingpai, and the part of it
// that goes on.
type fields struct {
	forward   []byte // end-to-end fields as they came, each line with its CRLF
	appID     []byte // X-Wechat-Appid
	host      []byte // the first Host
	length    []byte // the first Content-Length
	token     route.Token
	override  bool // X-Wechat-Token is given
	hasLength bool // Content-Length is among them, in forward
	chunked   bool // Transfer-Encoding is among them
	close     bool // the client wants the connection closed
	unusual   bool // there is more than most calls have: a second Host, Expect, Upgrade and the like
}

// fieldClass is what lingpai does with a field.
type fieldClass uint8

const (
	fieldForward fieldClass = iota
	fieldDrop
	fieldUnusual // dropped as well
	fieldHost
	fieldConnection
	fieldLength
	fieldEncoding
	fieldAppID
	fieldToken
)

// classify sorts a field by its name. Dropped are: hop-by-hop fields (RFC 9110,
// 7.6.1), Host and Expect, which a proxy answers for itself, Accept-Encoding,
// since errcodes are looked for in answers, and X-Wechat-* and X-Forwarded-*.
func classify(name []byte) fieldClass {
	switch len(name) {
	case 2:
		if equalFold(name, "te") {
			return fieldUnusual
		}
	case 4:
		if equalFold(name, "host") {
			return fieldHost
		}
	case 6:
		if equalFold(name, "expect") {
			return fieldUnusual
		}
	case 7:
		if equalFold(name, "trailer") || equalFold(name, "upgrade") {
			return fieldUnusual
		}
	case 10:
		if equalFold(name, "connection") {
			return fieldConnection
		}
		if equalFold(name, "keep-alive") {
			return fieldDrop
		}
	case 14:
		if equalFold(name, "content-length") {
			return fieldLength
		}
		if equalFold(name, "x-wechat-appid") {
			return fieldAppID
		}
		if equalFold(name, "x-wechat-token") {
			return fieldToken
		}
	case 15:
		if equalFold(name, "accept-encoding") {
			return fieldDrop
		}
	case 16:
		if equalFold(name, "proxy-connection") {
			return fieldDrop
		}
	case 17:
		if equalFold(name, "transfer-encoding") {
			return fieldEncoding
		}
	case 18:
		if equalFold(name, "proxy-authenticate") {
			return fieldUnusual
		}
	case 19:
		if equalFold(name, "proxy-authorization") {
			return fieldUnusual
		}
	}
	if len(name) > 9 && (name[0] == 'X' || name[0] == 'x') {
		if equalFold(name[:9], "x-wechat-") {
			return fieldDrop
		}
		if len(name) > 12 && equalFold(name[:12], "x-forwarded-") {
			return fieldDrop
		}
	}
	return fieldForward
}

// readFields sorts the header lines of a request. raw holds them as they came,
// with the empty line at the end; what goes on is appended to dst.
func readFields(dst, raw []byte) (fields, *fault) {
	f := fields{forward: dst}
	var connection []byte
	hosts, lengths, encodings := 0, 0, 0
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n')
		if end < 0 {
			break
		}
		whole, line := raw[:end+1], raw[:end]
		raw = raw[end+1:]
		ended := end > 0 && line[end-1] == '\r'
		if ended {
			line = line[:end-1]
		}
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || line[0] == ' ' || line[0] == '\t' || line[colon-1] == ' ' || line[colon-1] == '\t' || bytes.IndexByte(line, '\r') >= 0 {
			return f, faultLine
		}
		switch classify(line[:colon]) {
		case fieldDrop:
			continue
		case fieldUnusual:
			f.unusual = true
			continue
		case fieldHost:
			if hosts++; hosts == 1 {
				f.host = bytes.TrimSpace(line[colon+1:])
			}
			continue
		case fieldConnection:
			value := bytes.TrimSpace(line[colon+1:])
			switch {
			case equalFold(value, "keep-alive"):
			case equalFold(value, "close"):
				f.close = true
			default:
				f.close = f.close || hasOption(value, "close")
				connection = append(append(connection, ','), value...)
			}
			continue
		case fieldLength:
			if lengths++; lengths == 1 {
				f.length = bytes.TrimSpace(line[colon+1:])
			}
			f.hasLength = true
		case fieldEncoding:
			encodings++
			if !equalFold(bytes.TrimSpace(line[colon+1:]), "chunked") {
				return f, faultFraming
			}
			f.chunked = true
			continue
		case fieldAppID:
			value := bytes.TrimSpace(line[colon+1:])
			if f.appID != nil && !bytes.Equal(f.appID, value) {
				return f, faultTwoApps
			}
			f.appID = value
			continue
		case fieldToken:
			token, ok := route.ParseToken(string(bytes.TrimSpace(line[colon+1:])))
			if !ok || token == route.Either || token == route.User || f.override && token != f.token {
				return f, faultTokenField
			}
			f.token, f.override = token, true
			continue
		}
		if ended {
			f.forward = append(f.forward, whole...)
			continue
		}
		f.forward = append(f.forward, line...)
		f.forward = append(f.forward, '\r', '\n')
	}
	if lengths > 1 || encodings > 1 || lengths > 0 && encodings > 0 {
		return f, faultFraming
	}
	f.unusual = f.unusual || hosts > 1 || connection != nil
	if connection != nil {
		f.forward = append(dst, dropNamed(f.forward[len(dst):], connection)...)
	}
	return f, nil
}

// dropNamed takes the fields out that a Connection field names. Content-Length
// stays: it frames the body.
func dropNamed(lines, connection []byte) []byte {
	kept := make([]byte, 0, len(lines))
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n') + 1
		line := lines[:end]
		lines = lines[end:]
		name := line[:bytes.IndexByte(line, ':')]
		if !hasOption(connection, strings.ToLower(string(name))) || equalFold(name, "content-length") {
			kept = append(kept, line...)
		}
	}
	return kept
}

// fieldValues returns all values of a field in header lines, as one list. name is
// in lower case.
func fieldValues(lines []byte, name string) string {
	var values []string
	for line := range bytes.SplitSeq(lines, []byte{'\n'}) {
		if field, value, _ := bytes.Cut(line, []byte{':'}); equalFold(field, name) {
			values = append(values, string(bytes.TrimSpace(value)))
		}
	}
	return strings.Join(values, ",")
}

// hasOption reports whether a comma-separated list holds an option, which is
// given in lower case.
func hasOption(list []byte, option string) bool {
	for element := range bytes.SplitSeq(list, []byte{','}) {
		if equalFold(bytes.TrimSpace(element), option) {
			return true
		}
	}
	return false
}

// dropHopByHop takes the fields out of an answer that are not for the app, in
// any spelling. It reports whether the server will close the connection. Inlined
// into a loop, what it collects would be allocated.
//
//go:noinline
func dropHopByHop(header *fasthttp.ResponseHeader) (closes bool) {
	var names [8][]byte
	drop := names[:0]
	for name, value := range header.All() {
		switch {
		case equalFold(name, "connection"):
			closes = closes || hasOption(value, "close")
			for option := range bytes.SplitSeq(value, []byte{','}) {
				if option = bytes.TrimSpace(option); !equalFold(option, "close") && !equalFold(option, "keep-alive") {
					drop = append(drop, spelledAs(header, option)...)
				}
			}
			drop = append(drop, name)
		case isHopByHop(name):
			drop = append(drop, name)
		}
	}
	for _, name := range drop {
		header.DelBytes(name)
	}
	return closes
}

// spelledAs returns the names of fields that are called name, each as it is
// spelled. Those that frame the body, or say what it is, are not among them.
func spelledAs(header *fasthttp.ResponseHeader, name []byte) (spelled [][]byte) {
	if bytes.EqualFold(name, []byte("Content-Length")) || bytes.EqualFold(name, []byte("Content-Type")) {
		return nil
	}
	for key := range header.All() {
		if bytes.EqualFold(key, name) {
			spelled = append(spelled, key)
		}
	}
	return spelled
}

func isHopByHop(name []byte) bool {
	switch len(name) {
	case 2:
		return equalFold(name, "te")
	case 7:
		return equalFold(name, "trailer") || equalFold(name, "upgrade")
	case 10:
		return equalFold(name, "keep-alive")
	case 16:
		return equalFold(name, "proxy-connection")
	case 17:
		return equalFold(name, "transfer-encoding")
	case 18:
		return equalFold(name, "proxy-authenticate")
	}
	return false
}
