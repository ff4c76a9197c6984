package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

// originReset returns the reset that an origin ended a stream with. net/http's
// error converts itself to this type; a reset of its own has another cause.
func originReset(err error) (reset http2.StreamError, ok bool) {
	if !errors.As(err, &reset) {
		return reset, false
	}
	return reset, reset.Cause != nil && reset.Cause.Error() == "received from peer"
}

// noteReset sees to it that the client's stream is reset with the code that the
// origin reset its own with. It is false when that cannot be, or was not so.
func (x *exchange) noteReset(err error) bool {
	reset, ok := originReset(err)
	if !ok || x.c.resets == nil {
		return false
	}
	id, ok := streamID(x.w)
	if ok {
		x.c.resets.note(id, reset.Code)
	}
	return ok
}

// resets reports whether a refusal is told by a reset with the origin's own code.
// That is so for gRPC, whose clients map these codes to statuses, and take an
// answer that is not gRPC's for an origin that is out of order (the gRPC protocol
// over HTTP/2, section Errors).
func (x *exchange) resets(ref *Refusal) bool {
	return isGRPC(x.r.Header) && ref.cause != nil && x.noteReset(ref.cause)
}

// isGRPC reports whether a request is a gRPC call.
func isGRPC(h http.Header) bool {
	v := h["Content-Type"]
	if len(v) != 1 {
		return false
	}
	rest, ok := strings.CutPrefix(v[0], "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// streamID is the number of an HTTP/2 request's stream. net/http keeps it in a
// field that it does not export; TestResetsAreCarried fails if it ever goes.
func streamID(w http.ResponseWriter) (id uint32, ok bool) {
	v := reflect.ValueOf(w)
	for _, name := range []string{"rws", "stream", "id"} {
		if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			return 0, false
		}
		v = v.Elem().FieldByName(name)
	}
	if v.Kind() != reflect.Uint32 {
		return 0, false
	}
	return uint32(v.Uint()), true
}

// resetConn is an HTTP/2 client's connection, above TLS. The server can end a
// stream with INTERNAL_ERROR alone; what it writes is looked through for that,
// and gets the code that was noted for the stream.
type resetConn struct {
	net.Conn
	c *conn

	mu    sync.Mutex // guards noted
	noted map[uint32]http2.ErrCode

	frames frames // of what is written
	out    []byte // what Write was given, or a copy
	whose  bool   // out is a copy
	code   http2.ErrCode
}

// notedResets bounds the notes: of a stream that its client had reset before,
// there is no frame to wait for.
const notedResets = 2 * maxStreams

func (r *resetConn) note(id uint32, code http2.ErrCode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.noted == nil || len(r.noted) >= notedResets {
		r.noted = make(map[uint32]http2.ErrCode)
	}
	r.noted[id] = code
}

// Write implements net.Conn. One call makes one of the connection below, with
// the same bytes unless there is a code to put in. The server writes in one
// goroutine at a time.
func (r *resetConn) Write(p []byte) (int, error) {
	r.out, r.whose = p, false
	r.frames.walk(p, r)
	out := r.out
	r.out = nil
	return r.Conn.Write(out)
}

// begin implements frameReader.
func (r *resetConn) begin(f *frames) (wanted bool) {
	if f.kind() != http2.FrameRSTStream || f.left != 4 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	code, noted := r.noted[f.stream()]
	delete(r.noted, f.stream())
	r.code = code
	return noted
}

// payload implements frameReader.
func (r *resetConn) payload(from, to, left int) {
	if !r.whose { // the bytes are the caller's, who may want them as they are
		r.out, r.whose = bytes.Clone(r.out), true
	}
	var code [4]byte
	binary.BigEndian.PutUint32(code[:], uint32(r.code))
	copy(r.out[from:to], code[len(code)-left:])
}
