package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a process that bench has started.
type child struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	errors *lastWords
	exited chan struct{} // closed when it has ended
	err    error         // why, then
}

// spawn starts a process whose output goes to stdout. The prefix stands before
// the command, as with taskset.
func spawn(name string, prefix []string, stdout io.Writer, command ...string) (*child, error) {
	command = append(slices.Clone(prefix), command...)
	c := &child{name: name, cmd: exec.Command(command[0], command[1:]...), errors: &lastWords{}, exited: make(chan struct{})}
	c.cmd.SysProcAttr = childAttributes()
	c.cmd.Stdout, c.cmd.Stderr = stdout, c.errors
	if log, ok := stdout.(*startLog); ok {
		c.errors, c.cmd.Stderr = &log.lastWords, log
	}
	c.cmd.WaitDelay = time.Second
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// stop asks the process to end, and ends it and its children if it does not.
func (c *child) stop() {
	c.stdin.Close()
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(5 * time.Second):
	}
	killGroup(c.cmd.Process)
	<-c.exited
}

// gone is the error of a process that should run and does not.
func (c *child) gone() error {
	return fmt.Errorf("%s ended: %v %s", c.name, c.err, c.errors)
}

// part starts bench itself as one of its parts, tells it what to do, and reads
// the first thing it says. The part goes on running.
func part(ctx context.Context, name string, prefix []string, spec, ready any) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	c, err := spawn(name, prefix, writer, self, name)
	if err != nil {
		return nil, err
	}
	said := make(chan error, 1)
	go func() {
		err := json.NewDecoder(reader).Decode(ready)
		said <- err
		io.Copy(io.Discard, reader)
	}()
	if err := json.NewEncoder(c.stdin).Encode(spec); err != nil {
		c.stop()
		return nil, err
	}
	select {
	case err = <-said:
	case <-c.exited:
		select {
		case err = <-said:
		case <-time.After(100 * time.Millisecond):
			err = c.gone()
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// waitListening waits until a process accepts connections.
func (c *child) waitListening(ctx context.Context, addr string) error {
	for range 500 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-c.exited:
			return c.gone()
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not listen: %s", c.name, c.errors)
}

// freePort returns an address of this machine that was free a moment ago, for
// programs that cannot choose one themselves.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// output runs a command and returns the first line of all that it prints.
func output(command ...string) (string, error) {
	text, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return line, fmt.Errorf("%s: %v: %s", strings.Join(command, " "), exit, bytes.TrimSpace(text))
	}
	return line, err
}

// lastWords keeps the end of what a process prints.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if extra := len(l.text) - 4096; extra > 0 {
		l.text = append(l.text[:0], l.text[extra:]...)
	}
	return len(p), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.TrimSpace(l.text))
}
