package proxy

import (
	"errors"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"

	"bufio"

	"github.com/valyala/fasthttp"

	"lingpai/tokens"
)

const (
	// maxBuffered is how long an answer of known length may be to be read as a
	// whole before it is passed on, in bytes.
	maxBuffered = 64 << 10
	// maxTogether is how long a body may be to go out in one write with its
	// header, in bytes.
	maxTogether = 32 << 10
	// idleBeforeLook is how long a pooled connection may have been idle and be
	// used without a look at it.
	idleBeforeLook = 20 * time.Millisecond
	// waryFor is how long each pooled connection is looked at after one was
	// found closed.
	waryFor = time.Minute
	// maxInformational bounds the 1xx answers before the real one.
	maxInformational = 8
)

// outgoing is a call as it goes to WeChat.
type outgoing struct {
	method  []byte
	path    []byte
	rest    []byte // query without what was taken out of it
	param   string // the token's parameter
	token   *tokens.Token
	forward []byte // header lines
	body    *requestBody
	head    []byte // scratch
	// sentQuery is set if the app's request had a ?, even with nothing behind it.
	hasQuery bool
}

// appendHead writes the request line and header.
func (o *outgoing) appendHead(dst, host []byte) []byte {
	dst = append(dst, o.method...)
	dst = append(dst, ' ')
	dst = append(dst, o.path...)
	if o.hasQuery || o.token != nil {
		dst = append(dst, '?')
	}
	dst = append(dst, o.rest...)
	if o.token != nil {
		if len(o.rest) > 0 {
			dst = append(dst, '&')
		}
		dst = append(dst, o.param...)
		dst = append(dst, '=')
		dst = o.token.AppendQuery(dst)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	dst = append(dst, "\r\n"...)
	dst = append(dst, o.forward...)
	if o.body.measured {
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, o.body.size, 10)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// exchange sends o and makes WeChat's answer the response: as a whole if it is
// short, else as a stream that has yet to be read. It never sends anything
// twice: a connection on which nothing was sent may be exchanged for another.
func (u *upstream) exchange(o *outgoing, response *fasthttp.Response) error {
	now := time.Now()
	for {
		pooled, err := u.pool.AcquireConn(0, false)
		if err != nil {
			return err
		}
		conn := pooled.Conn()
		reused := !pooled.LastUseTime().IsZero()
		if reused && (now.Sub(pooled.LastUseTime()) > idleBeforeLook || now.UnixNano() < u.wary.Load()) {
			if uc, ok := conn.(*upstreamConn); ok && closedByPeer(uc.tcp) {
				u.pool.CloseConn(pooled)
				continue
			}
		}
		sendErr := u.send(conn, o, now)
		if errors.Is(sendErr, errClient) {
			u.pool.CloseConn(pooled)
			return sendErr
		}
		// A server that refuses a body answers before it has read it, and closes:
		// its answer counts, even if sending failed.
		reader := u.pool.AcquireReader(conn)
		conn.SetReadDeadline(time.Now().Add(u.timeout))
		if err := u.receive(reader, response); err != nil {
			u.pool.ReleaseReader(reader)
			u.pool.CloseConn(pooled)
			if reused {
				u.wary.Store(time.Now().Add(waryFor).UnixNano())
			}
			if sendErr != nil {
				return sendErr
			}
			return err
		}
		reusable := sendErr == nil && !response.Header.ConnectionClose()
		release := func(clean bool) {
			u.pool.ReleaseReader(reader)
			if clean && reusable {
				u.pool.ReleaseConn(pooled)
			} else {
				u.pool.CloseConn(pooled)
			}
		}
		return u.take(conn, reader, o, response, release)
	}
}

// send writes the call. The wait for the network has a deadline at each step.
func (u *upstream) send(conn net.Conn, o *outgoing, now time.Time) error {
	conn.SetWriteDeadline(now.Add(u.timeout))
	o.head = o.appendHead(o.head[:0], u.host)
	b := o.body
	if len(b.memory) > 0 && b.file == nil && b.stream == nil {
		if len(b.memory) <= maxTogether {
			o.head = append(o.head, b.memory...)
			return sent(conn.Write(o.head))
		}
		if err := sent(conn.Write(o.head)); err != nil {
			return err
		}
		return sent(conn.Write(b.memory))
	}
	if err := sent(conn.Write(o.head)); err != nil {
		return err
	}
	switch {
	case b.file != nil:
		if _, err := b.file.Seek(0, io.SeekStart); err != nil {
			return errSend
		}
		return u.copyBody(conn, b.file, b.size)
	case b.stream != nil:
		return u.copyBody(conn, b.stream, b.size)
	}
	return nil
}

func sent(_ int, err error) error {
	if err != nil {
		return errSend
	}
	return nil
}

// copyBody sends size bytes of a body that is not in memory.
func (u *upstream) copyBody(conn net.Conn, body io.Reader, size int64) error {
	buf := make([]byte, 64<<10)
	for size > 0 {
		n, err := body.Read(buf[:min(int64(len(buf)), size)])
		if n > 0 {
			conn.SetWriteDeadline(time.Now().Add(u.timeout))
			if _, err := conn.Write(buf[:n]); err != nil {
				return errSend
			}
			size -= int64(n)
		}
		if err != nil && size > 0 {
			return errClient
		}
	}
	return nil
}

// receive reads the header of the answer, past informational ones.
func (u *upstream) receive(reader *bufio.Reader, response *fasthttp.Response) error {
	response.Reset()
	response.Header.DisableNormalizing()
	response.Header.SetNoDefaultContentType(true)
	for range maxInformational {
		err := response.Header.Read(reader)
		if err != nil {
			return readError(err)
		}
		if status := response.Header.StatusCode(); status >= 200 {
			return nil
		} else if status == fasthttp.StatusSwitchingProtocols {
			return errBroken
		}
	}
	return errBroken
}

func readError(err error) error {
	if errors.Is(err, fasthttp.ErrTimeout) {
		return errSlow
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errSlow
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errAnswer
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return errAnswer
	}
	return errBroken
}

// take reads the body of an answer whose header has been read.
func (u *upstream) take(conn net.Conn, reader *bufio.Reader, o *outgoing, response *fasthttp.Response, release func(clean bool)) error {
	header := &response.Header
	length := header.ContentLength()
	header.ResetConnectionClose()
	dropHopByHop(header)
	status := header.StatusCode()
	if string(o.method) == fasthttp.MethodHead || status == fasthttp.StatusNoContent || status == fasthttp.StatusNotModified {
		response.SkipBody = true
		release(true)
		return nil
	}
	if length >= 0 && length <= maxBuffered {
		body := response.SwapBody(nil)
		body = grow(body, length)
		_, err := io.ReadFull(reader, body)
		response.SwapBody(body)
		release(err == nil)
		if err != nil {
			return readError(err)
		}
		return nil
	}
	answer := &answerStream{conn: conn, timeout: u.timeout, release: release}
	switch {
	case length >= 0:
		answer.source = &exactReader{reader, int64(length)}
	case length == -1:
		answer.source = &chunkedReader{Reader: httputil.NewChunkedReader(reader), raw: reader}
	default: // to the end of the connection
		answer.source = reader
		answer.toEOF = true
	}
	if length < 0 {
		complete, err := answer.peek()
		if err != nil {
			answer.Close()
			return readError(err)
		}
		if complete { // short after all
			response.SetBody(answer.prefix)
			answer.Close()
			return nil
		}
		length = -1
	}
	response.SetBodyStream(answer, length)
	return nil
}

// dropHopByHop takes the fields out of an answer that are not for the app.
func dropHopByHop(header *fasthttp.ResponseHeader) {
	if connection := header.Peek("Connection"); len(connection) > 0 {
		for _, name := range splitList(connection) {
			if !equalFold(name, "content-length") && !equalFold(name, "content-type") {
				header.DelBytes(name)
			}
		}
	}
	for _, name := range hopByHop {
		header.Del(name)
	}
}

var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding", "Upgrade"}

// answerStream is the body of an answer on its way from WeChat to the app.
type answerStream struct {
	prefix  []byte // read ahead
	source  io.Reader
	conn    net.Conn
	timeout time.Duration
	toEOF   bool
	ended   bool
	release func(clean bool)
	err     error
}

// peek reads ahead as long as the answer may be a short JSON object with an
// errcode. It reports whether the whole answer is in prefix. What is no JSON is
// not held up.
func (a *answerStream) peek() (complete bool, err error) {
	buf := make([]byte, maxErrcodeBody+1)
	n := 0
	for n < len(buf) {
		read, err := a.fill(buf[n:])
		n += read
		if errors.Is(err, io.EOF) {
			a.prefix = buf[:n]
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if json, more := looksLikeJSON(buf[:n]); !json && !more {
			break
		}
	}
	a.prefix = buf[:n]
	return false, nil
}

// fill reads from the connection, with a deadline.
func (a *answerStream) fill(p []byte) (int, error) {
	if a.err != nil {
		return 0, a.err
	}
	a.conn.SetReadDeadline(time.Now().Add(a.timeout))
	n, err := a.source.Read(p)
	if err != nil {
		a.err = err
		a.ended = errors.Is(err, io.EOF)
	}
	return n, err
}

// Read implements io.Reader.
func (a *answerStream) Read(p []byte) (int, error) {
	if len(a.prefix) > 0 {
		n := copy(p, a.prefix)
		a.prefix = a.prefix[n:]
		return n, nil
	}
	return a.fill(p)
}

// Close gives the connection back: for the next call if the answer was read to
// its end.
func (a *answerStream) Close() error {
	if a.release != nil {
		a.release(a.ended && !a.toEOF)
		a.release = nil
	}
	return nil
}

// exactReader reads the rest bytes that were announced; fewer are an error. It
// says io.EOF with the last of them.
type exactReader struct {
	reader io.Reader
	rest   int64
}

func (r *exactReader) Read(p []byte) (int, error) {
	if r.rest == 0 {
		return 0, io.EOF
	}
	n, err := r.reader.Read(p[:min(int64(len(p)), r.rest)])
	r.rest -= int64(n)
	switch {
	case r.rest == 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// maxTrailer bounds the trailer section of an answer, in bytes.
const maxTrailer = 16 << 10

// chunkedReader reads a chunked body and the trailer section behind it, which
// is dropped.
type chunkedReader struct {
	io.Reader
	raw  *bufio.Reader
	done bool
}

func (r *chunkedReader) Read(p []byte) (int, error) {
	if r.done {
		return 0, io.EOF
	}
	n, err := r.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	r.done = true
	for size := 0; size < maxTrailer; {
		line, err := r.raw.ReadSlice('\n')
		if err != nil {
			return n, io.ErrUnexpectedEOF
		}
		if len(line) <= 2 { // the empty line at the end
			return n, io.EOF
		}
		size += len(line)
	}
	return n, errBroken
}
