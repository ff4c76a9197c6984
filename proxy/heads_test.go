package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"authsome/proxy"

	"golang.org/x/net/http2"
)

// Heads are bounded in bytes, wherever they come and however the bytes are
// spread, and so are trailers.
func TestLargeHeads(t *testing.T) {
	const limit = 8 << 10
	r := newRig(t, false, whoami, func(_ *rig, c *proxy.Config) { c.Limits.RequestHeaderBytes = limit })
	fields := map[string]func(n int) string{
		"one field":   func(n int) string { return "X: " + strings.Repeat("a", n) + "\r\n" },
		"many fields": func(n int) string { return strings.Repeat("Xy: ab\r\n", n/8) },
	}
	places := map[string]func(fields string) (net.Conn, string){
		"front": func(fields string) (net.Conn, string) {
			return r.dial(), "CONNECT " + apiHost + ":443 HTTP/1.1\r\nHost: " + apiHost + "\r\n" + r.authHeader() + fields + "\r\n"
		},
		"inside": func(fields string) (net.Conn, string) {
			c, _ := r.tls(apiHost + ":443")
			return c, "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n" + fields + "\r\n"
		},
		"trailer": func(fields string) (net.Conn, string) {
			c, _ := r.tls(apiHost + ":443")
			return c, "POST / HTTP/1.1\r\nHost: " + apiHost + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + fields + "\r\n"
		},
	}
	for place, open := range places {
		for shape, fields := range fields {
			for _, n := range []int{limit - 1<<10, limit + 1<<10, 1 << 20} {
				c, head := open(fields(n))
				go io.WriteString(c, head) // the proxy need not read all of it
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				want := map[bool]int{true: 200, false: 431}[n < limit]
				if place == "trailer" && want != 200 {
					want = 400
				}
				if err != nil || resp.StatusCode != want {
					t.Errorf("%s, %s, %d bytes: got %v, %v, want %d", place, shape, n, resp, err, want)
				}
				c.Close()
			}
		}
	}
}

// The same over HTTP/2, where a library's client would not send what is too much.
func TestLargeHeadsOverHTTP2(t *testing.T) {
	const limit = 8 << 10
	r := newRig(t, false, whoami, func(_ *rig, c *proxy.Config) { c.Limits.RequestHeaderBytes = limit })
	for _, tt := range []struct {
		fields, each int
		want         string // status; "" for an end of the connection
	}{{1, limit - 1<<10, "200"}, {1, 15 << 10, ""}, {60, 60, "200"}, {140, 60, "431"}} {
		head := get("/")
		for i := range tt.fields {
			head = append(head, fmt.Sprint("x-", i), strings.Repeat("~", tt.each))
		}
		h := r.h2(apiHost + ":443")
		a := h.wait(h.open(true, head))
		if cut := h.away != nil && *h.away != http2.ErrCodeNo; a.status != tt.want || cut != (tt.want == "") {
			t.Errorf("%d fields of %d bytes: got %+v, GOAWAY %v, want %q", tt.fields, tt.each, a, h.away, tt.want)
		}
	}
	// A head that never ends is neither kept nor waited for.
	h := r.h2(apiHost + ":443")
	h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.block(get("/")), EndStream: true})
	block := bytes.Clone(h.block([]string{"x", strings.Repeat("~", 10<<10)}))
	sent := 0
	for sent < 64<<20 && h.fr.WriteContinuation(1, false, block) == nil {
		sent += len(block)
	}
	if sent >= 64<<20 {
		t.Errorf("the proxy read %d bytes of one head", sent)
	}
}
