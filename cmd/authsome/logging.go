package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// openLog opens a log file for what is added to it. A pipe that nobody reads is
// an error at once: to open it would wait for a reader, and for no signal.
func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("open %s: nobody reads this pipe", path)
	}
	return f, err
}

// logOptions are those of a log from a level up, which leaves out what says
// nothing.
func logOptions(level slog.Level) *slog.HandlerOptions {
	return &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
		if saysNothing(attr) {
			return slog.Attr{}
		}
		return attr
	}}
}

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
		if saysNothing(attr) {
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

// saysNothing reports whether an attribute is there for records that have it.
func saysNothing(attr slog.Attr) bool {
	value := attr.Value.Resolve()
	return value.Any() == nil || value.Kind() == slog.KindString && value.String() == ""
}

// WithAttrs implements slog.Handler.
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.a, append(w.attrs[:len(w.attrs):len(w.attrs)], attrs...)}
}

// WithGroup implements slog.Handler. Keys are told apart without it.
func (w warnings) WithGroup(string) slog.Handler { return w }
