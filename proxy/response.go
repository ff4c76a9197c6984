package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// responseHeadBytes bounds what an origin may send as a head.
const responseHeadBytes = 1 << 20

// readResponse reads one response head from br and prepares its body. reusable
// reports whether the connection can carry another request once the body has
// been read.
func readResponse(br *bufio.Reader, r *http.Request) (h *head, reusable bool, err error) {
	raw, err := readHead(br, responseHeadBytes)
	if err != nil {
		return nil, false, err
	}
	if h, err = parseHead(raw); err != nil {
		return nil, false, err
	}
	if err := h.parseResponse(r); err != nil {
		return nil, false, err
	}
	resp := &h.response
	reusable = resp.ProtoMinor == 1 && !httpguts.HeaderValuesContainsToken(resp.Header["Connection"], "close") ||
		resp.ProtoMinor == 0 && httpguts.HeaderValuesContainsToken(resp.Header["Connection"], "keep-alive")
	reusable, err = h.responseBody(resp, br, reusable)
	return h, reusable, err
}

// parseResponse makes the http.Response of a head (RFC 9112 section 4).
func (h *head) parseResponse(r *http.Request) error {
	proto, rest, _ := strings.Cut(h.line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || status < 100 {
		return fmt.Errorf("%w: status line", errHead)
	}
	resp := &h.response
	*resp = http.Response{Status: rest, StatusCode: status, Proto: proto, ProtoMajor: 1, Header: h.header, Request: r, Body: http.NoBody}
	switch proto {
	case "HTTP/1.1":
		resp.ProtoMinor = 1
	case "HTTP/1.0":
	default:
		return fmt.Errorf("%w: protocol version", errHead)
	}
	return nil
}

// responseBody decides the body's length (RFC 9112 section 6.3). An answer that
// two rules apply to is read by the stronger one, and its connection is not
// used again.
func (h *head) responseBody(resp *http.Response, br *bufio.Reader, reusable bool) (bool, error) {
	te, cl := h.header["Transfer-Encoding"], h.header["Content-Length"]
	bodiless := resp.Request.Method == http.MethodHead || resp.StatusCode < 200 ||
		resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
	resp.ContentLength = -1
	if len(cl) > 0 && len(te) == 0 {
		for _, v := range cl[1:] {
			if v != cl[0] {
				return false, fmt.Errorf("%w: Content-Length", errHead)
			}
		}
		n, err := strconv.ParseUint(cl[0], 10, 63)
		if err != nil {
			return false, fmt.Errorf("%w: Content-Length", errHead)
		}
		h.header["Content-Length"], resp.ContentLength = cl[:1], int64(n)
	}
	if bodiless {
		if resp.ContentLength < 0 {
			resp.ContentLength = 0
		}
		delete(h.header, "Transfer-Encoding")
		return reusable, nil
	}
	switch {
	case len(te) > 0:
		if len(te) > 1 || !strings.EqualFold(te[0], "chunked") {
			return false, fmt.Errorf("%w: Transfer-Encoding other than chunked", errHead)
		}
		reusable = reusable && len(cl) == 0
		delete(h.header, "Content-Length")
		delete(h.header, "Transfer-Encoding")
		resp.Trailer = announced(h.header)
		resp.Body = newChunkedBody(br, resp.Trailer, responseHeadBytes)
	case resp.ContentLength > 0:
		h.length = lengthBody{br: br, n: resp.ContentLength}
		resp.Body = &h.length
	case resp.ContentLength == 0:
	default:
		reusable = false
		resp.Body = io.NopCloser(br)
	}
	return reusable, nil
}
