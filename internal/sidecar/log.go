package sidecar

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"lingpai/internal/config"
)

// logHandler is a slog.Handler whose level and format a reload can change, also
// for loggers that were derived from it before.
type logHandler struct {
	*logOutput
	derive []func(slog.Handler) slog.Handler // WithAttrs and WithGroup, in their order
}

// logOutput is what a logHandler and those derived from it share.
type logOutput struct {
	out     io.Writer
	current atomic.Pointer[slog.Handler]
}

func newLogHandler(out io.Writer, c config.Log) *logHandler {
	h := &logHandler{logOutput: &logOutput{out: &lockedWriter{out: out}}}
	h.set(c)
	return h
}

// set takes over level and format.
func (o *logOutput) set(c config.Log) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	options := &slog.HandlerOptions{Level: levels[c.Level]}
	var handler slog.Handler = slog.NewJSONHandler(o.out, options)
	if c.Format == "text" {
		handler = slog.NewTextHandler(o.out, options)
	}
	o.current.Store(&handler)
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.current.Load()).Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	handler := *h.current.Load()
	for _, derive := range h.derive {
		handler = derive(handler)
	}
	return handler.Handle(ctx, record)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.derived(func(handler slog.Handler) slog.Handler { return handler.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return h.derived(func(handler slog.Handler) slog.Handler { return handler.WithGroup(name) })
}

func (h *logHandler) derived(step func(slog.Handler) slog.Handler) slog.Handler {
	return &logHandler{h.logOutput, append(slices.Clip(h.derive), step)}
}

// lockedWriter keeps the lines of the handlers before and after a reload apart:
// each of them only locks against itself.
type lockedWriter struct {
	mu  sync.Mutex
	out io.Writer
}

// Write implements io.Writer.
func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}
