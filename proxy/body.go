package proxy

import (
	"errors"
	"io"
	"os"

	"github.com/valyala/fasthttp"
)

// spillAbove is how much of a body is kept in memory, in bytes; what is longer
// goes to a file.
const spillAbove = 1 << 20

// maxPooled bounds the buffers that stay with a pooled call, in bytes.
const maxPooled = 64 << 10

// requestBody is the body of a call. Either it is kept, in memory or in a file,
// so that it can be sent again; or it is streamed, once.
type requestBody struct {
	size   int64
	memory []byte            // kept in memory
	file   *os.File          // kept in a file, already unlinked
	stream *io.LimitedReader // its rest is what has not been read yet
	// measured is set if the app sent no Content-Length: one is to be added.
	measured bool
}

// kept reports whether the body can be sent again.
func (b *requestBody) kept() bool { return b.stream == nil }

// unread reports whether a part of the body is still to come from the app.
func (b *requestBody) unread() bool { return b.stream != nil && b.stream.N > 0 }

// inMemory reports whether the whole body is in memory, an empty one included.
func (b *requestBody) inMemory() bool { return b.file == nil && b.stream == nil }

// replace puts another body in the place of one in memory; its length is to be
// announced anew.
func (b *requestBody) replace(body []byte) {
	b.memory, b.size, b.measured = body, int64(len(body)), true
}

// close frees the file, if there is one.
func (b *requestBody) close() {
	if b.file != nil {
		b.file.Close()
	}
	keep := b.memory[:0]
	if cap(keep) > maxPooled {
		keep = nil
	}
	*b = requestBody{memory: keep}
}

// read takes the body of a request over. A body of known length up to keepMax
// is kept, a longer one streamed; one of unknown length is kept to measure it,
// since WeChat refuses chunked bodies (HTTP 412), and is never longer than max.
func (b *requestBody) read(ctx *fasthttp.RequestCtx, chunked bool, keepMax, max int64) *fault {
	length := int64(ctx.Request.Header.ContentLength())
	stream := ctx.RequestBodyStream()
	switch {
	case chunked:
		if stream == nil {
			return faultFraming
		}
		b.measured = true
		if f := b.keep(stream, max); f != nil {
			return f
		}
		// fasthttp takes the end of the connection for the end of the chunks.
		if conn, ok := ctx.Conn().(*clientConn); ok && conn.ended {
			return faultBodyCut
		}
		return nil
	case length <= 0 || stream == nil:
		return nil
	case length > max:
		return faultBody
	}
	switch {
	case length > keepMax:
		b.size = length
		b.stream = &io.LimitedReader{R: stream, N: length}
		return nil
	case length > spillAbove:
		if fault := b.keep(io.LimitReader(stream, length), max); fault != nil {
			return fault
		}
		if b.size != length {
			return faultBodyCut
		}
		return nil
	}
	b.size = length
	b.memory = grow(b.memory, int(length))
	if _, err := io.ReadFull(stream, b.memory); err != nil {
		return faultBodyCut
	}
	return nil
}

// keep reads a body to its end, into memory up to spillAbove, then into a file.
func (b *requestBody) keep(stream io.Reader, max int64) *fault {
	b.memory = grow(b.memory, 0)
	buf := make([]byte, 32<<10)
	for {
		n, err := stream.Read(buf)
		b.size += int64(n)
		if b.size > max {
			return faultBody
		}
		if writeErr := b.write(buf[:n]); writeErr != nil {
			return faultSpill
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return faultBodyCut
		}
	}
}

func (b *requestBody) write(p []byte) error {
	if b.file == nil && len(b.memory)+len(p) <= spillAbove {
		b.memory = append(b.memory, p...)
		return nil
	}
	if b.file == nil {
		file, err := os.CreateTemp("", "lingpai-body-*")
		if err != nil {
			return err
		}
		os.Remove(file.Name()) // gone with the process, whatever happens
		b.file = file
		if _, err := file.Write(b.memory); err != nil {
			return err
		}
		b.memory = b.memory[:0]
	}
	_, err := b.file.Write(p)
	return err
}

func grow(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	return make([]byte, n)
}

// discard reads what is left of a small body, so that the connection can be
// used for the next call; false if that is too much, or fails.
func discard(ctx *fasthttp.RequestCtx) bool {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return true
	}
	length := ctx.Request.Header.ContentLength()
	if length < 0 || length > maxPooled {
		return false
	}
	n, err := io.Copy(io.Discard, io.LimitReader(stream, int64(length)+1))
	return err == nil && n <= int64(length)
}
