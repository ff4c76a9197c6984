package proxy

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

var errBodyNotAllowed = errors.New("this response has no body")

// h1Writer writes one HTTP/1.x response. It is an http.ResponseWriter that adds
// nothing of its own: no Date, no Content-Type, no length that it was not
// given. What has no length is sent chunked, or until close to HTTP/1.0.
type h1Writer struct {
	bw      *bufio.Writer
	r       *http.Request
	header  http.Header
	status  int
	left    int64 // bytes still owed to Content-Length, -1 when not given
	chunked bool
	noBody  bool
	close   bool // the connection ends with this response
	err     error

	// unasked says that the client waits for a word to send its body. Once the
	// answer has begun nobody knows whether the body comes (RFC 9110 section
	// 10.1.1), and so the connection cannot be used on.
	unasked bool

	asked    *head // the request's
	answered *head // the origin's, whose header this writes; or nil
	lent     bool  // somebody else may still look at the request

	// begin orders the first byte of the answer against a "100 Continue" that
	// the reader of the body sends.
	begin sync.Mutex
}

var _ http.Flusher = (*h1Writer)(nil)

// Header implements http.ResponseWriter.
func (w *h1Writer) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *h1Writer) WriteHeader(status int) {
	w.begin.Lock()
	defer w.begin.Unlock()
	if w.status != 0 {
		return
	}
	w.status = status
	w.close = w.close || w.unasked
	w.line(status)
	w.frame()
	w.fields(w.header)
	w.string("\r\n")
}

// inform sends an informational response at once. HTTP/1.0 knows none
// (RFC 9110 section 15.2).
func (w *h1Writer) inform(status int, h http.Header) {
	w.begin.Lock()
	defer w.begin.Unlock()
	if w.status != 0 || w.r.ProtoMinor == 0 {
		return
	}
	w.line(status)
	w.fields(h)
	w.string("\r\n")
	w.Flush()
}

// frame chooses how the body ends and whether the connection goes on.
func (w *h1Writer) frame() {
	w.left = -1
	w.noBody = w.r.Method == http.MethodHead || w.status == http.StatusNoContent ||
		w.status == http.StatusNotModified || w.status == http.StatusSwitchingProtocols
	cl := w.header["Content-Length"]
	switch {
	case w.noBody:
	case len(cl) == 1:
		if n, err := strconv.ParseInt(cl[0], 10, 64); err == nil && n >= 0 {
			w.left = n
			break
		}
		w.fail(errors.New("bad Content-Length"))
	case w.r.ProtoMinor == 0:
		w.close = true
	default:
		w.chunked = true
		w.string("Transfer-Encoding: chunked\r\n")
	}
	if w.status == http.StatusSwitchingProtocols {
		return
	}
	switch {
	case w.close:
		w.string("Connection: close\r\n")
	case w.r.ProtoMinor == 0:
		w.string("Connection: keep-alive\r\n")
	}
}

// reset begins the answer to a request. It must be called before its hop-by-hop
// fields are removed.
func (w *h1Writer) reset(bw *bufio.Writer, asked *head, closing bool) {
	w.bw, w.r, w.header, w.status, w.left, w.err = bw, &asked.request, nil, 0, 0, nil
	w.chunked, w.noBody, w.close, w.unasked = false, false, closing || wantsClose(w.r), false
	w.asked, w.answered, w.lent = asked, nil, false
}

// release ends the use of the request's head, and of its answer's.
func (w *h1Writer) release() {
	if !w.lent {
		w.asked.free()
		w.answered.free()
	}
	w.r, w.header, w.asked, w.answered = nil, nil, nil, nil
}

func wantsClose(r *http.Request) bool {
	tokens := r.Header["Connection"]
	if r.ProtoMinor == 0 {
		return !httpguts.HeaderValuesContainsToken(tokens, "keep-alive")
	}
	return len(tokens) > 0 && httpguts.HeaderValuesContainsToken(tokens, "close")
}

// Write implements http.ResponseWriter.
func (w *h1Writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.err != nil {
		return 0, w.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if w.noBody {
		return 0, errBodyNotAllowed
	}
	if w.left >= 0 {
		if int64(len(p)) > w.left {
			w.fail(errors.New("body longer than its Content-Length"))
			return 0, w.err
		}
		w.left -= int64(len(p))
	}
	if w.chunked {
		var size [20]byte
		w.bytes(append(strconv.AppendInt(size[:0], int64(len(p)), 16), '\r', '\n'))
	}
	w.bytes(p)
	if w.chunked {
		w.string("\r\n")
	}
	return len(p), w.err
}

// Flush implements http.Flusher.
func (w *h1Writer) Flush() {
	if w.err == nil {
		w.err = w.bw.Flush()
	}
}

// finish ends the response. trailer fields are sent when the body is chunked.
// It reports whether the connection can carry another request.
func (w *h1Writer) finish(trailer http.Header) bool {
	if w.status == 0 {
		w.fail(errors.New("no response was written"))
	}
	if w.chunked {
		w.string("0\r\n")
		w.fields(trailer)
		w.string("\r\n")
	}
	if w.left > 0 {
		w.fail(io.ErrUnexpectedEOF)
	}
	w.Flush()
	return w.err == nil && !w.close
}

func (w *h1Writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *h1Writer) line(status int) {
	if w.r.ProtoMinor == 0 {
		w.string("HTTP/1.0 ")
	} else {
		w.string("HTTP/1.1 ")
	}
	w.bytes(append(strconv.AppendInt(w.bw.AvailableBuffer(), int64(status), 10), ' '))
	w.string(http.StatusText(status))
	w.string("\r\n")
}

// lineBreaks keeps a value from an HTTP/2 origin from adding a line here.
var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ")

func hasLineBreak(v string) bool {
	return strings.IndexByte(v, '\r') >= 0 || strings.IndexByte(v, '\n') >= 0 || strings.IndexByte(v, 0) >= 0
}

func (w *h1Writer) fields(h http.Header) {
	for name, values := range h {
		for _, v := range values {
			if hasLineBreak(v) {
				v = lineBreaks.Replace(v)
			}
			w.string(name)
			w.string(": ")
			w.string(v)
			w.string("\r\n")
		}
	}
}

func (w *h1Writer) string(s string) {
	if w.err == nil {
		_, w.err = w.bw.WriteString(s)
	}
}

func (w *h1Writer) bytes(p []byte) {
	if w.err == nil {
		_, w.err = w.bw.Write(p)
	}
}

// refuseDirectly answers on a connection that has no parsed request.
func refuseDirectly(bw *bufio.Writer, ref *Refusal, closing bool) error {
	w := &h1Writer{bw: bw, r: &http.Request{ProtoMajor: 1, ProtoMinor: 1}, close: closing}
	ref.write(w)
	w.finish(nil)
	return w.err
}

// sendContinue tells the client to send its body, unless the answer has begun
// (RFC 9110 section 10.1.1). It is called by whoever reads the body.
func (w *h1Writer) sendContinue() {
	w.begin.Lock()
	defer w.begin.Unlock()
	if w.status == 0 {
		w.unasked = false
		w.string("HTTP/1.1 100 Continue\r\n\r\n")
		w.Flush()
	}
}

// drainBytes and drainTime bound what is read of a body that the origin did not
// want, to keep the connection usable.
const (
	drainBytes = 256 << 10
	drainTime  = 500 * time.Millisecond
)
