package wechattest

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// reply is an answer before it is written.
type reply struct {
	status  int // 0: 200
	header  http.Header
	body    []byte
	stream  io.Reader // in place of body, size bytes
	size    int64
	errcode int

	page    string       // which page a browser got
	refused bool         // the page says no
	then    func() reply // the true answer, made without the Server's lock
}

// object is a JSON object to be answered.
type object map[string]any

// answer is a JSON answer without errcode, as token calls give it.
func (q *request) answer(v any) reply {
	// WeChat does not escape <, > and &.
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // a type of ours that JSON cannot show
	}
	return reply{header: q.jsonHeader(), body: bytes.TrimSuffix(b.Bytes(), []byte("\n"))}
}

// ok is an answer with errcode 0 and further fields.
func (q *request) ok(fields object) reply {
	all := object{"errcode": q.errcode(0), "errmsg": "ok"}
	for name, value := range fields {
		all[name] = value
	}
	return q.answer(all)
}

// fail is an error answer with WeChat's text.
func (q *request) fail(errcode int) reply { return q.failWith(errcode, errmsgs[errcode]) }

func (q *request) failWith(errcode int, errmsg string) reply {
	rep := q.answer(struct {
		Errcode any    `json:"errcode"`
		Errmsg  string `json:"errmsg"`
	}{q.errcode(errcode), errmsg + " rid: " + q.rid})
	rep.errcode = errcode
	return rep
}

func (q *request) errcode(code int) any {
	if q.knobs.ErrcodeType == ErrcodeString {
		return strconv.Itoa(code)
	}
	return code
}

func (q *request) jsonHeader() http.Header {
	if q.knobs.JSONContentType == NoContentType {
		return http.Header{"Content-Type": nil} // keeps net/http from guessing
	}
	return http.Header{"Content-Type": {q.knobs.JSONContentType}}
}

// write sends the answer.
func (rep reply) write(w http.ResponseWriter) {
	for name, values := range rep.header {
		w.Header()[name] = values
	}
	size := rep.size
	if rep.stream == nil {
		size = int64(len(rep.body))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if rep.status == 0 {
		rep.status = http.StatusOK
	}
	w.WriteHeader(rep.status)
	if rep.stream != nil {
		io.CopyN(w, rep.stream, rep.size)
		return
	}
	w.Write(rep.body)
}

// page is what a gateway in front of WeChat answers.
func page(status int) reply {
	text := strconv.Itoa(status) + " " + http.StatusText(status)
	return reply{
		status: status,
		header: http.Header{"Content-Type": {"text/html"}},
		body:   []byte("<html><head><title>" + text + "</title></head><body><center><h1>" + text + "</h1></center></body></html>\n"),
	}
}

// broken is the answer a fault gives in place of the true one; for the kinds
// that close the connection it is never written.
func (q *request) broken(f *Fault) reply {
	switch f.Kind {
	case FaultErrcode:
		if f.Errmsg != "" {
			return q.failWith(f.Errcode, f.Errmsg)
		}
		return q.fail(f.Errcode)
	case FaultStatus:
		if f.Status == 0 {
			return page(http.StatusBadGateway)
		}
		return page(f.Status)
	case FaultGarbage:
		return reply{header: q.jsonHeader(), body: []byte("{\"access_token\": \x00\xff<<garbage>>")}
	case FaultHuge:
		size := f.Size
		if size == 0 {
			size = 16 << 20
		}
		const open, end = `{"errcode":0,"errmsg":"ok","filler":"`, `"}`
		filler := max(size-int64(len(open)+len(end)), 0)
		return reply{
			header: q.jsonHeader(), size: filler + int64(len(open)+len(end)),
			stream: io.MultiReader(strings.NewReader(open), io.LimitReader(repeat('x'), filler), strings.NewReader(end)),
		}
	default:
		return reply{header: q.jsonHeader()}
	}
}

type repeat byte

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

// abort ends the handler and the connection without an answer.
func abort(w http.ResponseWriter, reset bool) {
	if hijacker, ok := w.(http.Hijacker); ok && reset {
		if conn, _, err := hijacker.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler)
}

// truncate sends the header and half of the body, then closes the connection.
func (rep reply) truncate(w http.ResponseWriter) {
	for name, values := range rep.header {
		w.Header()[name] = values
	}
	body := rep.body
	if rep.stream != nil {
		body, _ = io.ReadAll(io.LimitReader(rep.stream, min(rep.size, 1<<16)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	w.Write(body[:len(body)/2])
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
	panic(http.ErrAbortHandler)
}
