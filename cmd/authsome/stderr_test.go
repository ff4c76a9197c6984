//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"authsome/ca"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestOriginsDoNotWriteToStderr has an HTTP/2 origin send a frame that net/http
// does not know, and would say so about on stderr, in the middle of what the
// command prints.
func TestOriginsDoNotWriteToStderr(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.roots, authority.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"h2"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return authority.Leaf(context.Background(), hello.ServerName)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go chatter(c)
		}
	}()
	internet := httptest.NewServer(connectTo(listener.Addr().String()))
	t.Cleanup(internet.Close)
	w.internet = internet.URL
	const says = "unhandled response frame"
	run := []string{"run", "--", "curl", "-sS", "https://api.example.test/"}
	if got := w.authsome(run...); got.code != 0 || got.stdout != "ok" || strings.Contains(got.stderr, says) {
		t.Errorf("got %+v", got)
	}
	if got := w.authsome(append([]string{"--verbose"}, run...)...); got.code != 0 || !strings.Contains(got.stderr, says) {
		t.Errorf("with --verbose: got %+v", got)
	}
}

// chatter speaks HTTP/2 and sends a frame of RFC 8336 before each answer.
func chatter(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				fr.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			const origin = 0xc
			fr.WriteRawFrame(origin, 0, 0, nil)
			var block bytes.Buffer
			hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
			fr.WriteData(f.StreamID, true, []byte("ok"))
		}
	}
}
