package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Client speaks HTTP/2 frame by frame, and so says what no library would.
type h2Client struct {
	t    testing.TB
	conn net.Conn
	fr   *http2.Framer
	hb   bytes.Buffer
	enc  *hpack.Encoder
	got  map[uint32]*h2Answer
	away *http2.ErrCode // of GOAWAY
	next uint32
	hold bool // do not open windows: a reader that does not read
}

// h2Answer is what came on one stream.
type h2Answer struct {
	status  string
	header  map[string][]string
	trailer map[string][]string
	inform  []string // statuses of informational answers
	body    []byte
	reset   *http2.ErrCode
	ended   bool
}

// h2 opens an intercepted connection by hand, speaking HTTP/2.
func (r *rig) h2(target string, settings ...http2.Setting) *h2Client {
	r.t.Helper()
	raw, _ := r.connect(target)
	host, _, _ := net.SplitHostPort(target)
	c := tls.Client(raw, &tls.Config{RootCAs: r.trust, ServerName: host, NextProtos: []string{"h2"}})
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != "h2" {
		r.t.Fatalf("ALPN: got %q", got)
	}
	h := newH2Client(r.t, c)
	io.WriteString(c, http2.ClientPreface)
	h.fr.WriteSettings(settings...)
	return h
}

func newH2Client(t testing.TB, c net.Conn) *h2Client {
	h := &h2Client{t: t, conn: c, fr: http2.NewFramer(c, c), got: map[uint32]*h2Answer{}, next: 1}
	h.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.fr.MaxHeaderListSize = 1 << 20
	h.fr.AllowIllegalWrites = true
	h.enc = hpack.NewEncoder(&h.hb)
	return h
}

// get is a GET's pseudo-header fields, and more fields.
func get(path string, more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", apiHost, ":path", path}, more...)
}

func post(path string, more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "https", ":authority", apiHost, ":path", path}, more...)
}

// block encodes name, value, name, value … as they are.
func (h *h2Client) block(fields []string) []byte {
	h.hb.Reset()
	for i := 0; i+1 < len(fields); i += 2 {
		if err := h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			h.t.Fatal(err)
		}
	}
	return h.hb.Bytes()
}

// open begins a stream with a header block and returns its number.
func (h *h2Client) open(end bool, fields []string) uint32 {
	id := h.next
	h.next += 2
	h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block(fields), EndStream: end, EndHeaders: true})
	return id
}

// trailer ends a stream with fields.
func (h *h2Client) trailer(id uint32, fields ...string) {
	h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block(fields), EndStream: true, EndHeaders: true})
}

// wait reads frames until a stream has ended, or the connection has.
func (h *h2Client) wait(id uint32) *h2Answer {
	h.t.Helper()
	h.until(func() bool { return h.answer(id).ended || h.away != nil && *h.away != http2.ErrCodeNo })
	return h.answer(id)
}

func (h *h2Client) answer(id uint32) *h2Answer {
	a := h.got[id]
	if a == nil {
		a = &h2Answer{}
		h.got[id] = a
	}
	return a
}

// until reads frames until done, and reports whether it came to that.
func (h *h2Client) until(done func() bool) bool {
	h.t.Helper()
	for !done() {
		f, err := h.fr.ReadFrame()
		var stream http2.StreamError
		if errors.As(err, &stream) {
			h.t.Errorf("the proxy sent a bad frame: %v", err)
			return false
		}
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				h.t.Error("nothing came for too long")
			}
			return false
		}
		h.take(f)
	}
	return true
}

func (h *h2Client) take(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			h.fr.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			h.fr.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		code := f.ErrCode
		h.away = &code
	case *http2.RSTStreamFrame:
		a, code := h.answer(f.StreamID), f.ErrCode
		a.reset, a.ended = &code, true
	case *http2.DataFrame:
		a := h.answer(f.StreamID)
		a.body = append(a.body, f.Data()...)
		a.ended = a.ended || f.StreamEnded()
		if n := uint32(len(f.Data())); n > 0 && !h.hold {
			h.fr.WriteWindowUpdate(0, n)
			h.fr.WriteWindowUpdate(f.StreamID, n)
		}
	case *http2.MetaHeadersFrame:
		h.takeHeaders(f)
	}
}

func (h *h2Client) takeHeaders(f *http2.MetaHeadersFrame) {
	a := h.answer(f.StreamID)
	a.ended = a.ended || f.StreamEnded()
	fields := map[string][]string{}
	for _, hf := range f.RegularFields() {
		fields[hf.Name] = append(fields[hf.Name], hf.Value)
	}
	status := f.PseudoValue("status")
	switch {
	case status == "":
		a.trailer = fields
	case status[0] == '1':
		a.inform = append(a.inform, status)
	default:
		a.status, a.header = status, fields
	}
}

// first returns the first value of a field.
func (a *h2Answer) first(name string) string {
	if v := a.header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
