package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// httpServer is a net/http server on a listener of its own.
type httpServer struct {
	name     string
	listener net.Listener
	server   *http.Server
}

func newHTTPServer(name, address string, handler http.Handler, log *slog.Logger) (*httpServer, error) {
	listener, err := open(address)
	if err != nil {
		return nil, fmt.Errorf("listen.%s: %w", name, err)
	}
	return &httpServer{name, listener, &http.Server{
		Handler:           recovered(name, handler, log),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      90 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // it quotes strangers
	}}, nil
}

// recovered logs the stack of a panic, which net/http would write to ErrorLog.
// What was panicked with is left out: it may hold anything.
func recovered(name string, handler http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause != http.ErrAbortHandler {
				log.Error("panic while serving a request", "listener", name, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}()
		handler.ServeHTTP(w, r)
	})
}

// serve serves until the server is shut down or its listener fails.
func (h *httpServer) serve() error {
	return fmt.Errorf("listen.%s: %w", h.name, h.server.Serve(h.listener))
}

// shut lets requests under way end until ctx does, then cuts them.
func (h *httpServer) shut(ctx context.Context) {
	if h.server.Shutdown(ctx) != nil {
		h.server.Close()
	}
}

// open listens on host:port or unix:/path. Everybody who can reach the socket's
// directory may connect, as with a port: apps run as other users. A socket that a former process left
// behind is taken over, one that is served is not.
func open(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return net.Listen("tcp", address)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		conn.Close()
		return nil, fmt.Errorf("%s is in use by another process", path)
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, syscall.ECONNREFUSED):
		// Only this means that nobody listens: a busy process, for one, gives
		// EAGAIN. What is no socket refuses as well, and stays.
		if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
			os.Remove(path)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}
