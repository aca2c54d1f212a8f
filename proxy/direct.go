package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"
)

// Most answers of WeChat are short, have a plain header and are there as a whole
// with their first bytes. Such a one goes to the app as it came, but for the
// fields that are not for it, without being made a fasthttp.Response and written
// out again. All others take the long way, on which they mean the same.

// statusOK is how its header has to begin.
var statusOK = []byte("HTTP/1.1 200 OK\r\n")

// directly reports whether the answer to a call may go to the app as it came: the
// server of fasthttp must have nothing else to say on this connection, before or
// behind it. So the app must not have sent more than this call yet.
func directly(ctx *fasthttp.RequestCtx, c *call) bool {
	conn, ok := ctx.Conn().(*clientConn)
	if !ok || c.fields.close || c.fields.chunked || !ctx.Request.Header.IsHTTP11() || ctx.IsHead() || conn.ending() {
		return false
	}
	line := len(ctx.Method()) + len(ctx.Request.Header.RequestURI()) + len("  HTTP/1.1\r\n")
	return conn.got == int64(line+len(ctx.Request.Header.RawHeaders())+max(ctx.Request.Header.ContentLength(), 0))
}

// emptyAnswers are what the server of fasthttp writes if nobody has touched the
// response; the other one if it has been told to end meanwhile.
var emptyAnswers = [2][]byte{
	[]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
	[]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
}

var errNotEmpty = errors.New("the server has written more than an empty answer")

// takeDirect takes an answer that can go to the app as it came into o. It consumes
// nothing of another one. closes says that the server will close the connection.
func (o *outgoing) takeDirect(reader *bufio.Reader) (closes, ok bool) {
	if _, err := reader.Peek(1); err != nil {
		return false, false // the long way meets it too
	}
	buffered, _ := reader.Peek(reader.Buffered())
	var used int
	if used, closes, ok = o.copyAnswer(buffered); ok {
		reader.Discard(used)
		o.answered = true
	}
	return closes, ok
}

// copyAnswer makes b, if all of an answer is there and may go on, the answer to o,
// and returns its length.
func (o *outgoing) copyAnswer(b []byte) (used int, closes, ok bool) {
	head := bytes.Index(b, []byte("\r\n\r\n")) + len("\r\n")
	if head < len(statusOK) || !bytes.HasPrefix(b, statusOK) || bytes.IndexByte(b[:head], 0) >= 0 {
		return 0, false, false
	}
	length := -1
	o.answer = append(o.answer[:0], statusOK...)
	for lines := b[len(statusOK):head]; len(lines) > 0; {
		end := bytes.IndexByte(lines, '\r') + len("\r\n")
		if end > len(lines) || lines[end-1] != '\n' {
			return 0, false, false
		}
		whole, line := lines[:end], lines[:end-len("\r\n")]
		lines = lines[end:]
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || isSpace(line[0]) || isSpace(line[colon-1]) || bytes.IndexByte(line, '\n') >= 0 {
			return 0, false, false
		}
		switch name := line[:colon]; len(name) {
		case 10:
			if equalFold(name, "connection") {
				value := bytes.TrimSpace(line[colon+1:])
				switch {
				case equalFold(value, "close"):
					closes = true
				case !equalFold(value, "keep-alive"):
					return 0, false, false
				}
				continue
			}
			if equalFold(name, "keep-alive") {
				continue
			}
		case 14:
			if equalFold(name, "content-length") {
				n, err := strconv.ParseUint(string(bytes.TrimSpace(line[colon+1:])), 10, 31)
				if err != nil || length >= 0 {
					return 0, false, false
				}
				length = int(n)
			}
		case len(seqIDName):
			if equalFold(name, "x-openapi-seqid") {
				continue
			}
		default:
			if isHopByHop(name) {
				return 0, false, false
			}
		}
		o.answer = append(o.answer, whole...)
	}
	body := b[head+len("\r\n"):]
	if length < 0 || length > len(body) {
		return 0, false, false
	}
	o.answer = append(o.answer, seqIDName...)
	o.answer = append(o.answer, ": "...)
	o.answer = append(o.answer, o.seqID...)
	o.answer = append(o.answer, "\r\n\r\n"...)
	o.answerHead = len(o.answer)
	o.answer = append(o.answer, body[:length]...)
	return head + len("\r\n") + length, closes, true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }
