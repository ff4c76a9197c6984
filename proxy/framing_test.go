package proxy_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// saysH2 is an HTTP/2 origin that answers with a head of a test's choice, which
// no server would let pass, and a body.
func saysH2(body string, fields ...string) func(*rawConn) {
	return func(c *rawConn) {
		if _, err := io.ReadFull(c.br, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(c, c.br)
		framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
				framer.WriteSettingsAck()
			}
			if _, ok := frame.(*http2.HeadersFrame); !ok {
				continue
			}
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			for i := 0; i < len(fields); i += 2 {
				enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			id := frame.Header().StreamID
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
			framer.WriteData(id, true, []byte(body))
		}
	}
}

// TestFramingFromHTTP2 has an origin say in HTTP/2, where it means nothing, what
// an HTTP/1.1 client would take for the frame of the answer.
func TestFramingFromHTTP2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, method string
		fields       []string
	}{
		{"two lengths", "GET", []string{":status", "200", "content-length", "2", "content-length", "40"}},
		{"two lengths to HEAD", "HEAD", []string{":status", "200", "content-length", "2", "content-length", "40"}},
		{"no number", "GET", []string{":status", "200", "content-length", "2, 40"}},
		{"signed", "GET", []string{":status", "200", "content-length", "+40"}},
		{"chunked", "GET", []string{":status", "200", "transfer-encoding", "chunked"}},
		{"close", "GET", []string{":status", "200", "connection", "close"}},
		{"length of nothing", "GET", []string{":status", "204", "content-length", "40"}},
		{"framing in a trailer", "GET", []string{":status", "200", "trailer", "Content-Length, Transfer-Encoding"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			origin := newRawOrigin(t, saysH2("0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", tt.fields...), "h2")
			r := newRig(t, false, nil, origin.use)
			c, br := r.tls(apiHost + ":443")
			io.WriteString(c, tt.method+" / HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
			var head strings.Builder
			for !strings.HasSuffix(head.String(), "\r\n\r\n") {
				line, err := br.ReadString('\n')
				if err != nil {
					return // cut, which nobody takes for whole
				}
				head.WriteString(line)
			}
			lower := strings.ToLower(head.String())
			lengths, chunked := strings.Count(lower, "\r\ncontent-length:"), strings.Count(lower, "\r\ntransfer-encoding:")
			if lengths+chunked > 1 {
				t.Errorf("the answer's end can be read in two ways:\n%s", head.String())
			}
			if strings.HasPrefix(lower, "http/1.1 204") && lengths+chunked > 0 {
				t.Errorf("a length where there is no body:\n%s", head.String())
			}
			if strings.Contains(lower, "\r\ntrailer:") {
				t.Errorf("a trailer that frames:\n%s", head.String())
			}
		})
	}
}
