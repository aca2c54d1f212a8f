package proxy

import (
	"bufio"
	"errors"
	"io"
	"net/http/httputil"
	"time"

	"github.com/valyala/fasthttp"
)

// maxBuffered is how long an answer of known length may be to be read as a
// whole before it is passed on, in bytes.
const maxBuffered = 64 << 10

// takeShort takes the body of an answer that has none, or one that can be read
// as a whole; done is false if it is neither.
func takeShort(reader *bufio.Reader, o *outgoing, response *fasthttp.Response) (done bool, err error) {
	status := response.Header.StatusCode()
	if string(o.method) == fasthttp.MethodHead || status == fasthttp.StatusNoContent || status == fasthttp.StatusNotModified {
		response.SkipBody = true
		return true, nil
	}
	length := response.Header.ContentLength()
	if length < 0 || length > maxBuffered {
		return false, nil
	}
	if whole, err := atOnce(reader, length); !whole {
		return err != nil, err
	}
	body := grow(response.SwapBody(nil), length)
	_, err = io.ReadFull(reader, body)
	response.SwapBody(body)
	return true, err
}

// takeStream makes answer the body of a response whose header has been read.
func takeStream(reader *bufio.Reader, answer *answerStream, response *fasthttp.Response) error {
	length := response.Header.ContentLength()
	switch {
	case length >= 0:
		answer.source = &exactReader{reader, int64(length)}
		response.SetBodyStream(answer, length)
		return nil
	case length == -1:
		answer.source = &chunkedReader{Reader: httputil.NewChunkedReader(reader), raw: reader}
	default:
		answer.source, answer.toEOF = reader, true
	}
	complete, err := answer.peek()
	switch {
	case err != nil:
		answer.Close()
		return readError(err)
	case complete: // short after all
		response.SetBody(answer.prefix)
		return answer.Close()
	}
	response.SetBodyStream(answer, -1)
	return nil
}

// atOnce reports whether a body of length bytes is to be read before it is
// passed on: if it is all there, or may be JSON with an errcode. What is
// neither is not held up.
func atOnce(reader *bufio.Reader, length int) (bool, error) {
	if reader.Buffered() >= length {
		return true, nil
	}
	first, err := reader.Peek(1)
	if err != nil {
		return false, err
	}
	json, more := looksLikeJSON(first)
	return json || more, nil
}

// answerStream is the body of an answer on its way from WeChat to the app.
type answerStream struct {
	prefix  []byte // read ahead
	source  io.Reader
	conn    *upstreamConn
	timeout time.Duration
	toEOF   bool  // it ends with the connection
	err     error // that reading has ended with
	release func(clean bool)
	done    func() // tells that the call has ended
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
	a.conn.giveTime(time.Now(), a.timeout)
	n, err := a.source.Read(p)
	if err != nil {
		a.err = err
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

// WriteTo implements io.WriterTo: what has come goes on at once.
func (a *answerStream) WriteTo(w io.Writer) (written int64, err error) {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	flusher, _ := w.(interface{ Flush() error })
	for {
		n, readErr := a.Read(buf[:])
		if n > 0 {
			if _, err = w.Write(buf[:n]); err == nil && flusher != nil {
				err = flusher.Flush()
			}
			if err != nil {
				return written, err
			}
			written += int64(n)
		}
		if errors.Is(readErr, io.EOF) {
			return written, nil
		}
		if readErr != nil {
			if flusher != nil {
				flusher.Flush() // the header at least
			}
			return written, readErr
		}
	}
}

// endWithConnection makes response one without framing, for an app of HTTP/1.0,
// which does not know chunks.
func endWithConnection(response *fasthttp.Response) {
	if response.IsBodyStream() && response.Header.ContentLength() < 0 {
		// With a length of 0, and no field that says so, fasthttp writes the whole
		// stream and closes the connection.
		response.Header.SetContentLength(0)
		response.Header.Del("Content-Length")
		response.SetConnectionClose()
	}
}

// Close gives the connection back, and tells that the call has ended.
func (a *answerStream) Close() error {
	if a.release == nil {
		return nil
	}
	a.release(errors.Is(a.err, io.EOF) && !a.toEOF)
	a.release = nil
	if a.done != nil {
		a.done()
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
