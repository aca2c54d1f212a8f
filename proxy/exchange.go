package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"lingpai/tokens"
)

const (
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
	// hasQuery is set if something of the app's query goes on, though that may be
	// nothing but the ?.
	hasQuery bool

	// direct is set if the answer may go to the app as it came; seqID is the id it
	// gets then. answered says that one does: answer, whose body begins at answerHead.
	direct     bool
	answered   bool
	seqID      []byte
	answer     []byte
	answerHead int
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
// now is when it begins.
//
// Without a response it is for an answer that goes on as it came. For another one
// it returns what makes that the response later, which has to be called.
func (u *upstream) exchange(o *outgoing, response *fasthttp.Response, now time.Time) (later func(*fasthttp.Response) error, err error) {
	o.answered = false
	for {
		pooled, err := u.pool.AcquireConn(0, false)
		if err != nil {
			return nil, err
		}
		conn := pooled.Conn().(*upstreamConn)
		reused := !pooled.LastUseTime().IsZero()
		if reused && (now.Sub(pooled.LastUseTime()) > idleBeforeLook || now.UnixNano() < u.wary.Load()) {
			if closedByPeer(conn.tcp) {
				u.pool.CloseConn(pooled)
				continue
			}
		}
		sendErr := u.send(conn, o, now)
		if errors.Is(sendErr, errClient) {
			u.pool.CloseConn(pooled)
			return nil, sendErr
		}
		// A server that refuses a body answers before it has read it, and closes:
		// its answer counts, even if sending failed.
		reader := u.pool.AcquireReader(conn)
		if o.body.stream != nil || o.body.file != nil {
			conn.giveTime(time.Now(), u.timeout)
		}
		if o.direct {
			if closes, ok := o.takeDirect(reader); ok {
				giveBack(u.pool, pooled, reader, sendErr == nil && !closes)
				return nil, nil
			}
			o.direct = false // what the response holds from now on would have to be undone
		}
		if response == nil {
			return func(response *fasthttp.Response) error {
				return takeAnswer(u, u.pool, pooled, reader, conn, reused, sendErr, o, response)
			}, nil
		}
		return nil, takeAnswer(u, u.pool, pooled, reader, conn, reused, sendErr, o, response)
	}
}

// takeAnswer makes the answer to o, which has been sent on conn, the response.
func takeAnswer[C any](u *upstream, pool connPool[C], pooled C, reader *bufio.Reader, conn *upstreamConn, reused bool, sendErr error,
	o *outgoing, response *fasthttp.Response) error {
	if err := u.receive(reader, response); err != nil {
		pool.ReleaseReader(reader)
		pool.CloseConn(pooled)
		if reused {
			u.wary.Store(time.Now().Add(waryFor).UnixNano())
		}
		if sendErr != nil {
			return sendErr
		}
		return err
	}
	closes := dropHopByHop(&response.Header) || response.Header.ConnectionClose()
	response.Header.ResetConnectionClose()
	reusable := sendErr == nil && !closes
	if done, err := takeShort(reader, o, response); done {
		giveBack(pool, pooled, reader, reusable && err == nil)
		return readError(err)
	}
	answer := &answerStream{conn: conn, timeout: u.timeout, release: func(clean bool) {
		giveBack(pool, pooled, reader, reusable && clean)
	}}
	return takeStream(reader, answer, response)
}

// send writes the call. The wait for the network has a deadline at each step.
func (u *upstream) send(conn *upstreamConn, o *outgoing, now time.Time) error {
	conn.giveTime(now, u.timeout)
	o.head = o.appendHead(o.head[:0], u.host)
	b := o.body
	if len(b.memory) > 0 && b.file == nil && b.stream == nil {
		if len(b.memory) <= maxTogether {
			o.head = append(o.head, b.memory...)
			conn.held.Hold()
			return sent(conn.Write(o.head))
		}
		if err := sent(conn.Write(o.head)); err != nil {
			return err
		}
		return sent(conn.Write(b.memory))
	}
	if b.inMemory() {
		conn.held.Hold()
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

// copyBuffer is how much of a body is in memory while it passes through, in bytes.
const copyBuffer = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// copyBody sends size bytes of a body that is not in memory.
func (u *upstream) copyBody(conn *upstreamConn, body io.Reader, size int64) error {
	buf := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buf)
	for size > 0 {
		n, err := body.Read(buf[:min(int64(len(buf)), size)])
		if n > 0 {
			conn.giveTime(time.Now(), u.timeout)
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
	// Response.Reset would forget that no Date is to be added.
	response.ResetBody()
	response.SkipBody = false
	response.Header.DisableNormalizing()
	response.Header.SetNoDefaultContentType(true)
	for range maxInformational {
		err := response.Header.Read(reader)
		if err != nil {
			return readError(err)
		}
		if status := response.Header.StatusCode(); status >= 200 {
			response.Header.SetProtocol(http11) // which is what lingpai speaks, whatever WeChat does
			return nil
		} else if status == fasthttp.StatusSwitchingProtocols {
			return errBroken
		}
	}
	return errBroken
}

// readError says what an error of reading an answer means; nil for nil.
func readError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, fasthttp.ErrTimeout) || isTimeout(err) {
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

// isTimeout reports whether err says that a deadline has passed.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// connPool is what giveBack needs of a fasthttp.HostClient, whose connections
// have a type without a name.
type connPool[C any] interface {
	ReleaseReader(*bufio.Reader)
	ReleaseConn(C)
	CloseConn(C)
}

// giveBack ends an exchange. The connection serves the next one if it can, and
// if nothing stands behind the answer.
func giveBack[C any](pool connPool[C], conn C, reader *bufio.Reader, reusable bool) {
	reusable = reusable && reader.Buffered() == 0
	pool.ReleaseReader(reader)
	if reusable {
		pool.ReleaseConn(conn)
	} else {
		pool.CloseConn(conn)
	}
}

var http11 = []byte("HTTP/1.1")
