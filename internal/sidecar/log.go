package sidecar

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"lingpai/internal/config"
)

// logHandler is a slog.Handler whose level and format a reload can change.
type logHandler struct {
	out     io.Writer
	current atomic.Pointer[slog.Handler]
}

func newLogHandler(out io.Writer, c config.Log) *logHandler {
	h := &logHandler{out: out}
	h.set(c)
	return h
}

// set takes over level and format.
func (h *logHandler) set(c config.Log) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	options := &slog.HandlerOptions{Level: levels[c.Level]}
	var handler slog.Handler = slog.NewJSONHandler(h.out, options)
	if c.Format == "text" {
		handler = slog.NewTextHandler(h.out, options)
	}
	h.current.Store(&handler)
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return (*h.current.Load()).Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	return (*h.current.Load()).Handle(ctx, record)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return (*h.current.Load()).WithAttrs(attrs)
}

func (h *logHandler) WithGroup(name string) slog.Handler { return (*h.current.Load()).WithGroup(name) }
