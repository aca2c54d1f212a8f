//go:build unix

package heldconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// pair returns both ends of a connection, the first one as a Conn.
func pair(t *testing.T) (*Conn, *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	for _, conn := range []net.Conn{near, far} {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	held := New(near)
	if held == nil {
		t.Fatal("a socket that cannot be held")
	}
	return held, far.(*net.TCPConn)
}

// expect reads what the far end should have got.
func expect(t *testing.T, far net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != want {
		t.Fatalf("the far end got %.40q, %v; want %.40q", got, err, want)
	}
}

// nothing fails if something has come to the far end.
func nothing(t *testing.T, far net.Conn) {
	t.Helper()
	far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := far.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d bytes, %v; nothing should have been sent", n, err)
	}
	far.SetReadDeadline(time.Now().Add(10 * time.Second))
}

func TestHeldUntilRead(t *testing.T) {
	near, far := pair(t)
	near.Hold()
	near.Write([]byte("one "))
	near.Write([]byte("two"))
	nothing(t, far)
	answered := make(chan error, 1)
	go func() {
		got := make([]byte, 7)
		if _, err := io.ReadFull(far, got); err != nil || string(got) != "one two" {
			answered <- errors.New("the far end got " + string(got))
			return
		}
		_, err := far.Write([]byte("answer"))
		answered <- err
	}()
	p := make([]byte, 16)
	if n, err := near.Read(p); string(p[:n]) != "answer" || err != nil {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	// What is written without Hold is sent at once.
	near.Write([]byte("three"))
	expect(t, far, "three")
}

// What came before the wait was made ready is found if that is asked for.
func TestOutOfTurn(t *testing.T) {
	near, far := pair(t)
	near.OutOfTurn()
	far.Write([]byte("one"))
	p := make([]byte, 16)
	if n, err := near.Read(p); string(p[:n]) != "one" || err != nil {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	far.Write([]byte("two"))
	near.Hold()
	near.Write([]byte("answer to one"))
	if n, err := near.Read(p); string(p[:n]) != "two" || err != nil {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	expect(t, far, "answer to one")
	near.Hold()
	near.Write([]byte("answer to two"))
	read := make(chan string, 1)
	go func() {
		n, _ := near.Read(p)
		read <- string(p[:n])
	}()
	expect(t, far, "answer to two")
	far.Write([]byte("three"))
	if got := <-read; got != "three" {
		t.Fatalf("read %q", got)
	}
}

func TestMoreThanIsHeld(t *testing.T) {
	near, far := pair(t)
	near.Hold()
	large := strings.Repeat("l", maxHeld)
	near.Write([]byte("small "))
	if n, err := near.Write([]byte(large)); n != len(large) || err != nil {
		t.Fatalf("wrote %d of %d bytes, %v", n, len(large), err)
	}
	expect(t, far, "small "+large)
}

// A socket whose buffer is full takes a part, and the rest when there is room.
func TestFullBuffer(t *testing.T) {
	near, far := pair(t)
	// Fill it until a write does not end.
	near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	filled := 0
	for chunk := make([]byte, 64<<10); ; {
		n, err := near.Conn.Write(chunk)
		if filled += n; err != nil {
			break
		}
	}
	near.SetWriteDeadline(time.Now().Add(10 * time.Second))
	near.Hold()
	near.Write(bytes.Repeat([]byte("held"), maxHeld/4))
	read := make(chan error, 1)
	go func() {
		_, err := near.Read(make([]byte, 1))
		read <- err
	}()
	if n, err := io.CopyN(io.Discard, far, int64(filled)); err != nil {
		t.Fatalf("read %d of %d bytes, %v", n, filled, err)
	}
	expect(t, far, strings.Repeat("held", maxHeld/4))
	far.Write([]byte("."))
	if err := <-read; err != nil {
		t.Error(err)
	}
}

func TestEnds(t *testing.T) {
	t.Run("Close sends what is held", func(t *testing.T) {
		near, far := pair(t)
		near.Hold()
		near.Write([]byte("last words"))
		near.Close()
		if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
			t.Errorf("the far end got %q, %v", got, err)
		}
	})
	t.Run("CloseWrite sends what is held", func(t *testing.T) {
		near, far := pair(t)
		near.Hold()
		near.Write([]byte("last words"))
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
			t.Errorf("the far end got %q, %v", got, err)
		}
		far.Write([]byte("heard"))
		p := make([]byte, 8)
		if n, err := near.Read(p); string(p[:n]) != "heard" || err != nil {
			t.Errorf("read %q, %v", p[:n], err)
		}
	})
	t.Run("Cut sends nothing", func(t *testing.T) {
		near, far := pair(t)
		near.Hold()
		near.Write([]byte("last words"))
		near.Cut()
		if got, _ := io.ReadAll(far); len(got) > 0 {
			t.Errorf("the far end got %q", got)
		}
	})
	t.Run("the far end closes", func(t *testing.T) {
		near, far := pair(t)
		near.Hold()
		near.Write([]byte("call"))
		go func() {
			io.ReadFull(far, make([]byte, 4))
			far.Close()
		}()
		if n, err := near.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read %d bytes, %v; want EOF", n, err)
		}
	})
	t.Run("a deadline", func(t *testing.T) {
		near, far := pair(t)
		near.Hold()
		near.Write([]byte("call"))
		near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v; want a deadline that was exceeded", err)
		}
		expect(t, far, "call")
	})
}

func TestNoSocket(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if c := New(near); c != nil {
		t.Error("a pipe has no socket to hold back")
	}
	var none *Conn
	none.Hold()
	none.OutOfTurn()
}
