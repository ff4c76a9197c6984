package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// frame is a WebSocket frame (RFC 6455 section 5.2). bits are FIN and RSV1 to 3.
func frame(bits, opcode byte, masked bool, payload []byte) []byte {
	b := []byte{bits | opcode}
	mask := byte(0)
	if masked {
		mask = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	if !masked {
		return append(b, payload...)
	}
	key := []byte{0xa5, 1, 2, 0xff}
	b = append(b, key...)
	for i, v := range payload {
		b = append(b, v^key[i%4])
	}
	return b
}

// conversation is what a side says: fragments with control frames between them,
// every kind of length, bits of extensions, opcodes of nobody's, and its last
// words, a close code of the application's.
func conversation(masked bool) []byte {
	const fin, rsv1 = 0x80, 0x40
	large := bytes.Repeat([]byte("large"), 200_000)
	closing := append(binary.BigEndian.AppendUint16(nil, 4321), "as it was said"...)
	return bytes.Join([][]byte{
		frame(0, 1, masked, []byte("frag")), frame(fin, 9, masked, []byte("ping")), frame(0, 0, masked, []byte("men")),
		frame(fin, 10, masked, []byte("pong")), frame(fin, 0, masked, []byte("ted")), frame(0, 2, masked, nil), frame(fin, 0, masked, nil),
		frame(fin|rsv1, 2, masked, []byte("compressed, perhaps")), frame(fin, 2, masked, make([]byte, 125)), frame(fin, 2, masked, make([]byte, 126)),
		frame(fin, 2, masked, make([]byte, 65535)), frame(fin, 2, masked, large), frame(0, 2, masked, large), frame(fin, 0, masked, large),
		frame(fin, 0xb, masked, []byte("a control frame of nobody's")), frame(fin, 8, masked, closing),
	}, nil)
}

// talker accepts a WebSocket, says its part while it hears the client's, and
// ends.
func talker(heard chan<- []byte) func(*rawConn) {
	return func(c *rawConn) {
		r, err := http.ReadRequest(c.br)
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		said := make(chan struct{})
		go func() { c.Write(conversation(false)); close(said) }()
		b := make([]byte, len(conversation(true)))
		n, _ := io.ReadFull(c.br, b)
		heard <- b[:n]
		<-said
	}
}

// Frames pass as they are, both ways, in whatever way the WebSocket is carried.
func TestFramesAreUntouched(t *testing.T) {
	t.Parallel()
	const handshake = "GET /chat HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	upgrade := func(t *testing.T, c io.ReadWriter, br *bufio.Reader, host string) io.ReadWriter {
		fmt.Fprintf(c, handshake, host)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(resp, err)
		}
		return struct {
			io.Reader
			io.Writer
		}{br, c}
	}
	for _, tt := range []struct {
		name   string
		protos []string // of the origin; none: plaintext
		open   func(t *testing.T, r *rig) io.ReadWriter
	}{
		{"wss://, intercepted", []string{"http/1.1"}, func(t *testing.T, r *rig) io.ReadWriter {
			c, br := r.tls(apiHost + ":443")
			return upgrade(t, c, br, apiHost)
		}},
		{"wss:// over HTTP/2, intercepted", []string{"http/1.1"}, func(t *testing.T, r *rig) io.ReadWriter {
			in, out := io.Pipe()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodConnect, "https://"+apiHost+"/chat", in)
			req.Header[":protocol"], req.Header["Sec-Websocket-Version"] = []string{"websocket"}, []string{"13"}
			resp, err := r.h2conn(apiHost).RoundTrip(req)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(resp, err)
			}
			return &duplex{resp.Body, out}
		}},
		{"ws://, tunnelled", nil, func(t *testing.T, r *rig) io.ReadWriter {
			c, br := r.connect(apiHost + ":80")
			return upgrade(t, c, br, apiHost)
		}},
		{"ws://, to the port of a covered host", nil, func(t *testing.T, r *rig) io.ReadWriter {
			c, br := r.connect(apiHost + ":443")
			return upgrade(t, c, br, apiHost+":443")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			heard := make(chan []byte, 1)
			origin := newRawOrigin(t, talker(heard), tt.protos...)
			r := newRig(t, false, whoami, origin.use)
			c := tt.open(t, r)
			go c.Write(conversation(true))
			want := conversation(false)
			got := make([]byte, len(want))
			if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("the client heard %d of %d bytes, equal: %v, %v", n, len(want), bytes.Equal(got, want), err)
			}
			if got, want := wait(t, "the origin has heard all", heard), conversation(true); !bytes.Equal(got, want) {
				t.Errorf("the origin heard %d of %d bytes, or not the same", len(got), len(want))
			}
			if n, err := c.Read(got); n > 0 || err != io.EOF { // announced, not cut
				t.Errorf("after the last frame: %q, %v", got[:n], err)
			}
		})
	}
}
