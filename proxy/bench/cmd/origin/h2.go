package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"authsome/proxy/bench/internal/rig"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What we let a client send before it has to wait, on a stream and altogether.
const (
	streamWindow = 4 << 20
	connWindow   = 16 << 20
)

func serveH2(l net.Listener, leaf tls.Certificate) {
	config := &tls.Config{Certificates: []tls.Certificate{leaf}, CurvePreferences: rig.Curves, NextProtos: []string{"h2", "http/1.1"}}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			tc := tls.Server(c, config)
			if tc.Handshake() == nil && tc.ConnectionState().NegotiatedProtocol == "h2" {
				newH2Conn(tc).serve()
				return
			}
			serveH1(tc)
		}()
	}
}

// h2Conn is one HTTP/2 connection (RFC 9113). One goroutine reads; each stream
// is answered by one of its own.
type h2Conn struct {
	c      *tls.Conn
	framer *http2.Framer // reads only; writes go through send

	mu       sync.Mutex // guards all below, and writing
	wake     *sync.Cond // windows have grown, or the connection is over
	streams  map[uint32]*stream
	window   int64 // that the client grants the connection
	initial  int64 // and a new stream
	maxFrame int
	over     bool
	encoder  *hpack.Encoder
	encoded  bytes.Buffer
}

type stream struct {
	id     uint32
	path   string
	window int64
	unread int64 // received and not yet granted anew
}

func newH2Conn(c *tls.Conn) *h2Conn {
	h := &h2Conn{c: c, framer: http2.NewFramer(nil, c), streams: make(map[uint32]*stream),
		window: 65535, initial: 65535, maxFrame: 16384}
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.framer.SetReuseFrames()
	h.wake = sync.NewCond(&h.mu)
	h.encoder = hpack.NewEncoder(&h.encoded)
	return h
}

func (h *h2Conn) serve() {
	defer h.close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(h.c, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	err := h.send(func(f *http2.Framer) error {
		return errors.Join(f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow}),
			f.WriteWindowUpdate(0, connWindow))
	})
	for err == nil {
		var f http2.Frame
		if f, err = h.framer.ReadFrame(); err == nil {
			err = h.take(f)
		}
	}
}

func (h *h2Conn) close() {
	h.c.Close()
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	h.wake.Broadcast()
}

// send writes frames in one piece.
func (h *h2Conn) send(write func(*http2.Framer) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sendLocked(write)
}

func (h *h2Conn) sendLocked(write func(*http2.Framer) error) error {
	var out bytes.Buffer
	if err := write(http2.NewFramer(&out, nil)); err != nil {
		return err
	}
	_, err := h.c.Write(out.Bytes())
	return err
}

// take acts on one frame.
func (h *h2Conn) take(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		return h.settings(f)
	case *http2.MetaHeadersFrame:
		return h.request(f)
	case *http2.DataFrame:
		return h.data(f)
	case *http2.WindowUpdateFrame:
		h.grow(f.StreamID, int64(f.Increment))
	case *http2.PingFrame:
		if !f.IsAck() {
			return h.send(func(w *http2.Framer) error { return w.WritePing(true, f.Data) })
		}
	case *http2.RSTStreamFrame:
		h.mu.Lock()
		delete(h.streams, f.StreamID)
		h.mu.Unlock()
		h.wake.Broadcast()
	}
	return nil
}

func (h *h2Conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
		for _, s := range h.streams {
			s.window += int64(v) - h.initial
		}
		h.initial = int64(v)
	}
	if v, ok := f.Value(http2.SettingMaxFrameSize); ok {
		h.maxFrame = min(int(v), batch)
	}
	h.wake.Broadcast()
	return h.sendLocked((*http2.Framer).WriteSettingsAck)
}

func (h *h2Conn) grow(id uint32, n int64) {
	h.mu.Lock()
	if id == 0 {
		h.window += n
	} else if s := h.streams[id]; s != nil {
		s.window += n
	}
	h.mu.Unlock()
	h.wake.Broadcast()
}

// request begins a stream. One without a body is answered at once.
func (h *h2Conn) request(f *http2.MetaHeadersFrame) error {
	s := &stream{id: f.StreamID, path: f.PseudoValue("path")}
	for _, field := range f.RegularFields() {
		if field.Name == "authorization" && field.Value == rig.Authorization {
			s.path = "authorized " + s.path
		}
	}
	h.mu.Lock()
	s.window = h.initial
	h.streams[s.id] = s
	h.mu.Unlock()
	if f.StreamEnded() {
		go h.answer(s)
	}
	return nil
}

// data throws away a piece of a body, and lets the client send as much again
// once a good part of the window is used up.
func (h *h2Conn) data(f *http2.DataFrame) error {
	h.mu.Lock()
	s := h.streams[f.StreamID]
	h.mu.Unlock()
	if s == nil {
		return nil
	}
	s.unread += int64(f.Length)
	if grant := s.unread; grant >= streamWindow/4 || grant > 0 && f.StreamEnded() {
		s.unread = 0
		if err := h.send(func(w *http2.Framer) error {
			return errors.Join(w.WriteWindowUpdate(0, uint32(grant)), w.WriteWindowUpdate(s.id, uint32(grant)))
		}); err != nil {
			return err
		}
	}
	if f.StreamEnded() {
		go h.answer(s)
	}
	return nil
}

// answer writes the response of a stream.
func (h *h2Conn) answer(s *stream) {
	defer func() {
		h.mu.Lock()
		delete(h.streams, s.id)
		h.mu.Unlock()
	}()
	switch s.path {
	case "authorized /1k":
		h.whole(s, kilobyte)
	case "authorized /100m":
		if h.head(s, "200", big, false) {
			h.zeros(s, big)
		}
	case "authorized /sse":
		h.events(s)
	case "authorized /sink":
		h.head(s, "200", 0, true)
	default:
		if id, ok := strings.CutPrefix(s.path, "authorized /pending?"); ok {
			h.pend(s, id)
		} else if id, ok := strings.CutPrefix(s.path, "authorized /broken?"); ok {
			h.breakOff(s, id)
		} else {
			h.head(s, "401", 0, true)
		}
	}
}

func (h *h2Conn) whole(s *stream, body []byte) {
	if h.head(s, "200", len(body), false) {
		h.write(s, body, true)
	}
}

func (h *h2Conn) events(s *stream) {
	if !h.head(s, "200", -1, false) {
		return
	}
	for i := range eventCount {
		event := "data: " + strconv.FormatInt(time.Now().UnixNano(), 10) + "\n\n"
		if !h.write(s, []byte(event), i == eventCount-1) {
			return
		}
		time.Sleep(eventGap)
	}
}

// head writes response headers; a negative length is not announced.
func (h *h2Conn) head(s *stream, status string, length int, end bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.encoded.Reset()
	h.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: status})
	h.encoder.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/json"})
	h.encoder.WriteField(hpack.HeaderField{Name: "x-origin-protocol", Value: "HTTP/2.0"})
	if length >= 0 {
		h.encoder.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(length)})
	}
	return nil == h.sendLocked(func(w *http2.Framer) error {
		return w.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: h.encoded.Bytes(), EndStream: end, EndHeaders: true})
	})
}

// batch is how much is written at once.
const batch = 128 << 10

// zeros writes so many bytes of body, several frames at once.
func (h *h2Conn) zeros(s *stream, left int) {
	for left > 0 {
		n := h.allowance(s, min(left, batch))
		if n == 0 {
			return
		}
		left -= n
		if !h.frames(s, zeros[:n], left == 0) {
			return
		}
	}
}

// write writes a piece of body.
func (h *h2Conn) write(s *stream, p []byte, end bool) bool {
	for len(p) > 0 {
		n := h.allowance(s, len(p))
		if n == 0 || !h.frames(s, p[:n], end && n == len(p)) {
			return false
		}
		p = p[n:]
	}
	return true
}

// allowance waits until the windows let through a part of n bytes, and takes
// it. Zero means that the stream is over.
func (h *h2Conn) allowance(s *stream, n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.over || h.streams[s.id] == nil {
			return 0
		}
		if m := min(int64(n), h.window, s.window); m > 0 {
			h.window -= m
			s.window -= m
			return int(m)
		}
		h.wake.Wait()
	}
}

var frameBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (h *h2Conn) frames(s *stream, p []byte, end bool) bool {
	out := frameBuffers.Get().(*bytes.Buffer)
	defer frameBuffers.Put(out)
	out.Reset()
	h.mu.Lock()
	size := h.maxFrame
	h.mu.Unlock()
	for len(p) > 0 {
		n := min(len(p), size)
		flags := byte(0)
		if end && n == len(p) {
			flags = 1 // END_STREAM
		}
		out.Write([]byte{byte(n >> 16), byte(n >> 8), byte(n), byte(http2.FrameData), flags,
			byte(s.id >> 24), byte(s.id >> 16), byte(s.id >> 8), byte(s.id)})
		out.Write(p[:n])
		p = p[n:]
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.c.Write(out.Bytes())
	return err == nil
}
