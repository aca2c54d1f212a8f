package backup

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"lingpai/tokens/store"
)

const (
	magic = "lingpai-backup-1\n"
	// magicAny is what the magic of every version begins with.
	magicAny   = "lingpai-backup-"
	headBytes  = len(magic) + 16
	chunkBytes = 64 << 10
)

// binding is the associated data of a chunk.
func binding(head []byte, number uint64, last byte) []byte {
	b := append([]byte("lingpai backup\x00"), head...)
	return append(binary.BigEndian.AppendUint64(b, number), last)
}

// chunkWriter encrypts what is written to it. Without Close the file is not
// complete.
type chunkWriter struct {
	w      io.Writer
	codec  store.Codec
	head   []byte
	number uint64
	buffer []byte
}

func newChunkWriter(w io.Writer, codec store.Codec) (*chunkWriter, error) {
	head := make([]byte, headBytes)
	rand.Read(head[copy(head, magic):])
	_, err := w.Write(head)
	return &chunkWriter{w: w, codec: codec, head: head}, err
}

func (c *chunkWriter) Write(p []byte) (int, error) {
	c.buffer = append(c.buffer, p...)
	for len(c.buffer) > chunkBytes {
		if err := c.chunk(c.buffer[:chunkBytes], 0); err != nil {
			return 0, err
		}
		c.buffer = append(c.buffer[:0], c.buffer[chunkBytes:]...)
	}
	return len(p), nil
}

// Close writes the last chunk.
func (c *chunkWriter) Close() error { return c.chunk(c.buffer, 1) }

func (c *chunkWriter) chunk(text []byte, last byte) error {
	envelope := c.codec.Seal(text, binding(c.head, c.number, last))
	c.number++
	out := binary.BigEndian.AppendUint32([]byte{last}, uint32(len(envelope)))
	_, err := c.w.Write(append(out, envelope...))
	return err
}

// chunkReader decrypts what a chunkWriter wrote. It gives nothing that was not
// authenticated, and io.EOF only behind the last chunk.
type chunkReader struct {
	r      io.Reader
	codec  store.Codec
	head   []byte
	number uint64
	text   []byte
	ended  bool
}

func newChunkReader(r io.Reader, codec store.Codec) (*chunkReader, error) {
	head := make([]byte, headBytes)
	n, err := io.ReadFull(r, head)
	switch {
	case n >= len(magic) && string(head[:len(magic)]) != magic && string(head[:len(magicAny)]) == magicAny:
		return nil, fmt.Errorf("backup: %w", store.ErrNewer)
	case n < len(magic) || string(head[:len(magic)]) != magic:
		return nil, ErrFormat
	case err != nil:
		return nil, readError(err)
	}
	return &chunkReader{r: r, codec: codec, head: head}, nil
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.text) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.text)
	c.text = c.text[n:]
	return n, nil
}

func (c *chunkReader) next() error {
	var frame [5]byte
	if _, err := io.ReadFull(c.r, frame[:]); err != nil {
		return readError(err)
	}
	last, length := frame[0], binary.BigEndian.Uint32(frame[1:])
	if last > 1 || length < store.Overhead || length > chunkBytes+store.Overhead {
		return fmt.Errorf("chunk %d: %w", c.number, ErrDamaged)
	}
	envelope := make([]byte, length)
	if _, err := io.ReadFull(c.r, envelope); err != nil {
		return readError(err)
	}
	text, err := c.codec.Open(envelope, binding(c.head, c.number, last))
	if errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("chunk %d: %w", c.number, ErrDamaged)
	}
	if err != nil {
		return fmt.Errorf("chunk %d: %w", c.number, err)
	}
	c.number++
	c.text, c.ended = text, last == 1
	if c.ended {
		switch _, err := io.ReadFull(c.r, frame[:1]); err {
		case io.EOF:
		case nil:
			return fmt.Errorf("something follows the last chunk: %w", ErrDamaged)
		default:
			return err
		}
	}
	return nil
}

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends too early: %w", ErrDamaged)
	}
	return err
}
