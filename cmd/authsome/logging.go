package main

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
)

// warnings prints log records of warnings for the person at the terminal: a
// command is no server, and its own warnings have no time and no level either.
type warnings struct {
	a     *app
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (w warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements slog.Handler.
func (w warnings) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(printable(r.Message))
	add := func(attr slog.Attr) bool {
		value := attr.Value.Resolve().String()
		if value == "" {
			return true
		}
		if strings.ContainsAny(value, " \"=") || printable(value) != value {
			value = strconv.Quote(value)
		}
		b.WriteString(" " + attr.Key + "=" + value)
		return true
	}
	for _, attr := range w.attrs {
		add(attr)
	}
	r.Attrs(add)
	w.a.warn("%s", b.String())
	return nil
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.a, append(w.attrs[:len(w.attrs):len(w.attrs)], attrs...)}
}

// WithGroup implements slog.Handler. Keys are told apart without it.
func (w warnings) WithGroup(string) slog.Handler { return w }
