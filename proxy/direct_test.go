package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// directHeads are headers of answers, and whether such an answer may go to the
// app as it came.
var directHeads = map[string]bool{
	"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Type: application/json; encoding=utf-8\r\nDate: Thu, 26 Nov 2026 08:00:00 GMT\r\nContent-Length: 2\r\n\r\n": true,
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n":                                                                                           true,
	"HTTP/1.1 200 OK\r\nconnection:CLOSE\r\ncontent-length:2\r\nRetKey: 14\r\nLogicRet: 0\r\n\r\n":                                           true,
	"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: \t2 \r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Encoding: br\r\n\r\n": true,
	"HTTP/1.1 200 OK\r\nX-Openapi-Seqid: theirs\r\nServer: nginx\r\nContent-Length: 2\r\n\r\n":                                               true,
	"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n":                                            true,
	"HTTP/1.1 200 OK\r\nX-Empty:\r\nContent-Length: 2\r\n\r\n":                                                                               true,

	"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n":                                                false,
	"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\n":                                              false,
	"HTTP/1.1 204 No Content\r\n\r\n":                                                             false,
	"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\n":                             false,
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n":                   false,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                                       false,
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n":                  false,
	"HTTP/1.1 200 OK\r\n\r\n":                                                                     false,
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n":                           false,
	"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n":                                               false,
	"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n":                             false,
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n":                                                false, // the third byte is still to come
	"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\n":   false,
	"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n":         false,
	"HTTP/1.1 200 OK\r\nTrailer: X-T\r\nContent-Length: 2\r\n\r\n":                                false,
	"HTTP/1.1 200 OK\r\nTE: trailers\r\nContent-Length: 2\r\n\r\n":                                false,
	"HTTP/1.1 200 OK\r\nProxy-Connection: close\r\nContent-Length: 2\r\n\r\n":                     false,
	"HTTP/1.1 200 OK\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\n":                   false,
	"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n":                           false,
	"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\n":                                       false,
	"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n":                                               false,
	"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\n":                                    false,
	"HTTP/1.1 200 OK\r\n: no name\r\nContent-Length: 2\r\n\r\n":                                   false,
	"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\n":                         false,
	"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\n":                                          false,
	"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\n":                                   false,
	"HTTP/1.1 200 OK\nContent-Length: 2\n\n":                                                      false,
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Cut: the rest of the header is still to come\r\n1": false,
}

// fieldsOf sorts the fields of an answer, names in lower case.
func fieldsOf(header *fasthttp.ResponseHeader) []string {
	var lines []string
	for name, value := range header.All() {
		lines = append(lines, strings.ToLower(string(name))+": "+string(value))
	}
	slices.Sort(lines)
	return lines
}

// sameTheLongWay fails unless an answer that went on as it came means what it
// would have meant the long way.
func sameTheLongWay(t *testing.T, text string, o *outgoing, used int, closes bool) {
	t.Helper()
	var long, direct fasthttp.Response
	long.Header.DisableNormalizing()
	long.Header.SetNoDefaultContentType(true)
	direct.Header.DisableNormalizing()
	direct.Header.SetNoDefaultContentType(true)
	reader := bufio.NewReader(strings.NewReader(text))
	if err := long.Header.Read(reader); err != nil {
		t.Fatalf("the long way it is an error: %v", err)
	}
	longCloses := dropHopByHop(&long.Header) || long.Header.ConnectionClose()
	if strings.Count(strings.ToLower(text), "\nconnection:") > 1 {
		longCloses = closes // fasthttp knows the last one alone
	}
	long.Header.ResetConnectionClose()
	for _, name := range spelledAs(&long.Header, seqIDName) {
		long.Header.DelBytes(name)
	}
	long.Header.SetCanonical(seqIDName, o.seqID)
	body := make([]byte, long.Header.ContentLength())
	if _, err := io.ReadFull(reader, body); err != nil {
		t.Fatalf("the long way its body is not there: %v", err)
	}
	if err := direct.Header.Read(bufio.NewReader(bytes.NewReader(o.answer))); err != nil {
		t.Fatalf("what went on is no answer: %v\n%q", err, o.answer)
	}
	if a, b := fieldsOf(&long.Header), fieldsOf(&direct.Header); !slices.Equal(a, b) {
		t.Errorf("the long way the fields are\n%q, else\n%q", a, b)
	}
	if got := o.answer[o.answerHead:]; !bytes.Equal(got, body) || closes != longCloses || direct.Header.ConnectionClose() {
		t.Errorf("the long way the body is %q, and the server closes: %v; else %q, %v", body, longCloses, got, closes)
	}
	if !bytes.HasSuffix(o.answer[:o.answerHead], []byte("\r\n\r\n")) || used != len(text)-reader.Buffered() {
		t.Errorf("%d bytes of %d used, the body begins at %d", used, len(text)-reader.Buffered(), o.answerHead)
	}
}

func TestDirectAnswers(t *testing.T) {
	for head, want := range directHeads {
		for _, behind := range []string{"", "HTTP/1.1 408 "} {
			o := &outgoing{seqID: []byte("0123456789abcdef-1f")}
			text := head + "{}" + behind
			if strings.Contains(head, "Length: 3") && behind != "" {
				continue // then the third byte is there
			}
			used, closes, ok := o.copyAnswer([]byte(text))
			if ok != want {
				t.Errorf("%q goes on as it came: %v", text, ok)
			} else if ok {
				sameTheLongWay(t, text, o, used, closes)
				if says := strings.Contains(strings.ToLower(head), "close"); closes != says {
					t.Errorf("%q: the server closes: %v", text, closes)
				}
			}
		}
	}
}

func FuzzDirectAnswers(f *testing.F) {
	for _, head := range slices.Sorted(maps.Keys(directHeads)) {
		f.Add([]byte(head + "{}"))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o := &outgoing{seqID: []byte("0123456789abcdef-1f")}
		head, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
		for _, c := range head {
			if c < ' ' && c != '\r' && c != '\n' && c != '\t' || c >= 0x7f {
				return // fasthttp refuses some of these, which go on as they came
			}
		}
		if used, closes, ok := o.copyAnswer(text); ok && tokenNames(head) {
			sameTheLongWay(t, string(text), o, used, closes)
		}
	})
}

// tokenNames reports whether all names of fields are tokens (RFC 9110, 5.6.2):
// fasthttp does not know others.
func tokenNames(head []byte) bool {
	for _, line := range bytes.Split(head, []byte("\r\n"))[1:] {
		name, _, _ := bytes.Cut(line, []byte(":"))
		for _, c := range name {
			if strings.IndexByte("\"(),/;<=>?@[\\]{} \t", c) >= 0 {
				return false
			}
		}
	}
	return true
}

// A server that has an answer waiting to be sent, or more of the connection in
// its buffer, must not be passed by: each call gets its own answer, in order.
func TestDirectAnswersStayInOrder(t *testing.T) {
	p := newPeerWith(t, func(_ *peer, c net.Conn, r received) bool {
		text := r.line()
		if strings.Contains(text, "/chunked") {
			_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(text), text)
			return err == nil
		}
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		return err == nil
	})
	s := start(t, p.url(), nil)
	const post = "POST /p%d HTTP/1.1\r\nHost: api.weixin.qq.com\r\nContent-Length: 5\r\n\r\n%05d"
	calls := []func(i int) (text, want string){
		func(i int) (string, string) { return get(fmt.Sprintf("/g%d", i)), fmt.Sprintf("GET /g%d HTTP/1.1", i) },
		func(i int) (string, string) { return fmt.Sprintf(post, i, i), fmt.Sprintf("POST /p%d HTTP/1.1", i) },
		func(i int) (string, string) {
			return get(fmt.Sprintf("/chunked%d", i)), fmt.Sprintf("GET /chunked%d HTTP/1.1", i)
		},
		func(int) (string, string) { return "GET /x HTTP/1.1\r\nHost: evil.example\r\n\r\n", "evil" },
		func(i int) (string, string) {
			return fmt.Sprintf("GET /b%d HTTP/1.1\r\nHost: api.weixin.qq.com\r\nContent-Length: 3\r\n\r\nabc", i), fmt.Sprintf("GET /b%d HTTP/1.1", i)
		},
		func(i int) (string, string) {
			return fmt.Sprintf("\r\nGET /s%d HTTP/1.1\r\nHost: api.weixin.qq.com\nUser-Agent: x\r\n\r\n", i), fmt.Sprintf("GET /s%d HTTP/1.1", i)
		},
	}
	for _, cut := range []int{0, 1, 7, 30, 60, 61, 62, 63, 64, 90, 130} {
		for shift := range calls {
			c := s.dial()
			var all strings.Builder
			var want []string
			for i := range 2 * len(calls) {
				text, answer := calls[(i+shift)%len(calls)](i)
				all.WriteString(text)
				want = append(want, answer)
			}
			text := all.String()
			// All at once but for some bytes before and behind.
			c.send(text[:cut])
			c.send(text[cut : len(text)-cut])
			c.send(text[len(text)-cut:])
			for i, answer := range want {
				r, err := c.tryReceive("GET")
				if err != nil {
					t.Fatalf("cut at %d, shifted by %d: no answer %d (%s): %v", cut, shift, i, answer, err)
				}
				if answer == "evil" && r.status < 400 || answer != "evil" && (r.status != 200 || !strings.HasPrefix(r.body, strings.TrimSuffix(answer, " HTTP/1.1"))) {
					t.Fatalf("cut at %d, shifted by %d: answer %d is %d %q, want %s", cut, shift, i, r.status, r.body, answer)
				}
			}
			c.Close()
		}
	}
}
