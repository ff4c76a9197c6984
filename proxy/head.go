package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

var (
	// errHead is returned for a message head that RFC 9112 forbids, or that
	// two parsers could read differently. Such a request is refused, never
	// mended: what a mended request means is for its sender to say.
	errHead = errors.New("malformed head")

	errHeadTooLarge = errors.New("head too large")
)

// head is one parsed message head, with what is made of it.
type head struct {
	bytes         int    // as it was read
	line          string // request or status line
	header        http.Header
	values        []string // what header's values are parts of
	contentLength int64    // -1 when absent
	chunked       bool
	hopByHop      bool // there is a field that is not for the other side

	request  http.Request
	url      url.URL // of request
	response http.Response
	length   lengthBody
}

// heads are used again: a map and a dozen small objects for each message are a
// good part of what a request costs.
var heads = sync.Pool{New: func() any { return &head{header: make(http.Header)} }}

// pooledFields bounds the heads that are kept.
const pooledFields = 64

// free gives a head to whoever reads the next one. Nobody may have kept anything
// of it but strings.
func (h *head) free() {
	if h == nil || len(h.values) > pooledFields || len(h.header) > pooledFields {
		return
	}
	clear(h.header)
	clear(h.values)
	*h = head{header: h.header, values: h.values[:0]}
	heads.Put(h)
}

var (
	headEnd     = []byte("\r\n\r\n")
	headBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 8<<10); return &b }}
)

// readHead reads up to and including the empty line. It takes no more than max
// bytes and leaves what follows in br. io.EOF means that nothing at all came.
func readHead(br *bufio.Reader, max int) (string, error) {
	// RFC 9112 section 2.2: a server ignores an empty line before the request.
	for range 2 {
		peek, err := br.Peek(2)
		if err != nil {
			if len(peek) > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if peek[0] != '\r' || peek[1] != '\n' {
			break
		}
		br.Discard(2)
	}
	// Most heads have come whole. Lines that end earlier in another way are for
	// parseHead to refuse.
	have, _ := br.Peek(br.Buffered())
	if end := bytes.Index(have, headEnd); end >= 0 && end+len(headEnd) <= max {
		s := string(have[:end+len(headEnd)])
		br.Discard(len(s))
		return s, nil
	}
	buf := headBuffers.Get().(*[]byte)
	defer headBuffers.Put(buf)
	raw, err := readLines(br, (*buf)[:0], max)
	if err != nil {
		return "", err
	}
	if cap(raw) <= 64<<10 {
		*buf = raw
	}
	return string(raw), nil
}

// readLines appends lines to buf up to and including an empty one.
func readLines(br *bufio.Reader, buf []byte, max int) ([]byte, error) {
	for {
		part, err := br.ReadSlice('\n')
		buf = append(buf, part...)
		if len(buf) > max {
			return nil, errHeadTooLarge
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			if err == io.EOF && len(buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if len(part) == 2 && part[0] == '\r' && (len(buf) == 2 || buf[len(buf)-3] == '\n') {
			return buf, nil
		}
		// A buffer that was full may have parted CR and LF.
		if len(part) == 1 && (len(buf) == 1 || buf[len(buf)-2] != '\r') { // a bare LF where the end would be
			return nil, fmt.Errorf("%w: bare LF", errHead)
		}
	}
}

// parseHead reads a head strictly: CRLF line ends, no folding, no space round a
// field name, field values of RFC 9110 section 5.5, one framing.
func parseHead(raw string) (*head, error) {
	line, rest, ok := cutLine(raw[:len(raw)-2]) // the empty line is checked by readHead
	if !ok {
		return nil, fmt.Errorf("%w: line end", errHead)
	}
	h := heads.Get().(*head)
	h.bytes, h.line, h.contentLength = len(raw), line, -1
	if n := strings.Count(rest, "\n"); n <= cap(h.values) {
		h.values = h.values[:n]
	} else {
		h.values = make([]string, n)
	}
	values := h.values
	for rest != "" {
		if line, rest, ok = cutLine(rest); !ok {
			return nil, fmt.Errorf("%w: line end", errHead)
		}
		colon := strings.IndexByte(line, ':')
		if colon < 1 {
			return nil, fmt.Errorf("%w: field name", errHead)
		}
		key, ok := fieldName(line[:colon])
		if !ok { // a folded line starts with a space, which is no token
			return nil, fmt.Errorf("%w: field name", errHead)
		}
		value, ok := fieldValue(line[colon+1:])
		if !ok {
			return nil, fmt.Errorf("%w: field value", errHead)
		}
		if have, ok := h.header[key]; ok {
			h.header[key] = append(have, value)
			continue
		}
		h.hopByHop = h.hopByHop || isHopByHop(key)
		values[0] = value
		h.header[key], values = values[:1:1], values[1:]
	}
	return h, nil
}

// tokenBytes are those of a field name (RFC 9110 section 5.6.2).
var tokenBytes = func() (t [256]bool) {
	for c := range t {
		t[c] = httpguts.IsTokenRune(rune(c)) && c < 0x80
	}
	return t
}()

// fieldName checks a name and returns it in canonical form, without a copy when
// it was written so.
func fieldName(name string) (string, bool) {
	canonical, upper := true, true
	for i := range len(name) {
		c := name[i]
		if !tokenBytes[c] {
			return "", false
		}
		if upper && 'a' <= c && c <= 'z' || !upper && 'A' <= c && c <= 'Z' {
			canonical = false
		}
		upper = c == '-'
	}
	if canonical {
		return name, true
	}
	return textproto.CanonicalMIMEHeaderKey(name), true
}

// fieldValue trims and checks a value (RFC 9110 section 5.5).
func fieldValue(v string) (string, bool) {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", false
		}
	}
	return v, true
}

// cutLine cuts at CRLF. A CR or LF of its own is an error.
func cutLine(s string) (line, rest string, ok bool) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || s[i-1] != '\r' {
		return "", "", false
	}
	line = s[:i-1]
	return line, s[i+1:], strings.IndexByte(line, '\r') < 0
}

// framing decides a request's body length (RFC 9112 section 6.3), refusing every
// combination on which implementations differ.
func (h *head) framing() error {
	cl, te := h.header["Content-Length"], h.header["Transfer-Encoding"]
	if len(te) > 0 {
		if len(cl) > 0 {
			return fmt.Errorf("%w: Content-Length with Transfer-Encoding", errHead)
		}
		if len(te) > 1 || !strings.EqualFold(te[0], "chunked") {
			return fmt.Errorf("%w: Transfer-Encoding other than chunked", errHead)
		}
		h.chunked = true
		delete(h.header, "Transfer-Encoding")
		return nil
	}
	if len(cl) == 0 {
		return nil
	}
	if len(cl) > 1 {
		return fmt.Errorf("%w: several Content-Length", errHead)
	}
	var err error
	h.contentLength, err = parseLength(cl[0])
	return err
}

// parseLength reads a Content-Length, which is digits alone.
func parseLength(v string) (int64, error) {
	n, err := strconv.ParseUint(v, 10, 63) // takes no sign
	if err != nil {
		return -1, fmt.Errorf("%w: Content-Length", errHead)
	}
	return int64(n), nil
}

// readRequest reads one request from br. The body, when there is one, reads
// from br too and has to be read to its end before the next request.
func readRequest(br *bufio.Reader, max int) (*head, error) {
	raw, err := readHead(br, max)
	if err != nil {
		return nil, err
	}
	h, err := parseHead(raw)
	if err == nil {
		err = h.framing()
	}
	if err == nil {
		err = h.parseRequest()
	}
	if err != nil {
		return nil, err
	}
	r := &h.request
	switch {
	case h.chunked:
		r.TransferEncoding = []string{"chunked"}
		r.ContentLength = -1
		r.Trailer = announced(r.Header)
		r.Body = newChunkedBody(br, r.Trailer, max)
	case h.contentLength > 0:
		r.ContentLength = h.contentLength
		h.length = lengthBody{br: br, n: h.contentLength}
		r.Body = &h.length
	}
	return h, nil
}

// parseRequest makes the http.Request of a head.
func (h *head) parseRequest() error {
	method, rest, ok1 := strings.Cut(h.line, " ")
	target, proto, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !httpguts.ValidHeaderFieldName(method) || target == "" {
		return fmt.Errorf("%w: request line", errHead)
	}
	r := &h.request
	*r = http.Request{Method: method, RequestURI: target, Proto: proto, ProtoMajor: 1, Header: h.header, Body: http.NoBody}
	switch proto {
	case "HTTP/1.1":
		r.ProtoMinor = 1
	case "HTTP/1.0":
		if h.chunked {
			return fmt.Errorf("%w: chunked in HTTP/1.0", errHead)
		}
	default:
		return fmt.Errorf("%w: protocol version", errHead)
	}
	host := h.header["Host"]
	if len(host) > 1 || len(host) == 0 && r.ProtoMinor == 1 {
		return fmt.Errorf("%w: exactly one Host is needed", errHead)
	}
	if len(host) == 1 {
		r.Host = host[0]
		delete(h.header, "Host")
	}
	if method != http.MethodConnect && plainTarget(target, &h.url) {
		r.URL = &h.url
		return nil
	}
	var err error
	r.URL, err = requestTarget(method, target)
	return err
}

// announced returns the trailer fields that a head names, as net/http does:
// present keys with nil values.
func announced(h http.Header) http.Header {
	var t http.Header
	for _, v := range h["Trailer"] {
		for name := range strings.SplitSeq(v, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if name == "" || !httpguts.ValidTrailerHeader(name) {
				continue
			}
			if t == nil {
				t = make(http.Header)
			}
			t[name] = nil
		}
	}
	return t
}
