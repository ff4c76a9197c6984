package proxy_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/net/http2"
)

// sealer writes TLS 1.3 records (RFC 8446 section 5.2) after a handshake of
// crypto/tls, which would not write what a test wants to.
type sealer struct {
	t      testing.TB
	raw    net.Conn
	suite  uint16
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// sealed opens an intercepted connection and takes its sending side over.
func (r *rig) sealed(proto string) *sealer {
	r.t.Helper()
	raw, _ := r.connect(apiHost + ":443")
	var keys bytes.Buffer
	c := tls.Client(raw, &tls.Config{RootCAs: r.trust, ServerName: apiHost, NextProtos: []string{proto}, MinVersion: tls.VersionTLS13, KeyLogWriter: &keys})
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	line := regexp.MustCompile(`CLIENT_TRAFFIC_SECRET_0 \w+ (\w+)`).FindSubmatch(keys.Bytes())
	s := &sealer{t: r.t, raw: raw, suite: c.ConnectionState().CipherSuite}
	s.secret, _ = hex.DecodeString(string(line[1]))
	s.rekey()
	return s
}

// expand is HKDF-Expand-Label without a context (RFC 8446 section 7.1).
func (s *sealer) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	key, err := hkdf.Expand(sha256.New, s.secret, string(append(info, 0)), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

// rekey takes the keys of a secret.
func (s *sealer) rekey() {
	s.iv, s.seq = s.expand("iv", 12), 0
	if s.suite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		s.aead, _ = chacha20poly1305.New(s.expand("key", 32))
		return
	}
	block, _ := aes.NewCipher(s.expand("key", 16))
	s.aead, _ = cipher.NewGCM(block)
}

// seal returns a record of a kind.
func (s *sealer) seal(kind byte, payload ...byte) []byte {
	nonce := bytes.Clone(s.iv)
	for i, b := range binary.BigEndian.AppendUint64(nil, s.seq) {
		nonce[4+i] ^= b
	}
	s.seq++
	size := len(payload) + 1 + s.aead.Overhead()
	head := []byte{23, 3, 3, byte(size >> 8), byte(size)}
	return s.aead.Seal(head, nonce, append(payload, kind), head[:5:5])
}

// keyUpdate returns one that asks for another (RFC 8446 section 4.6.3).
func (s *sealer) keyUpdate() []byte {
	record := s.seal(22, 24, 0, 0, 1, 1)
	s.secret = s.expand("traffic upd", 32)
	s.rekey()
	return record
}

// narrow is a listener whose connections take little that nobody reads, in
// segments that are full: of many small ones the kernel drops some, and with them
// what they acknowledge.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		c.(*net.TCPConn).SetWriteBuffer(4 << 10)
		c.(*net.TCPConn).SetNoDelay(false)
	}
	return c, err
}

// listenNarrow has the rig's clients come in through a narrow listener.
func (r *rig) listenNarrow() {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	go r.proxy.Serve(narrow{l}) // until the rig's Shutdown
}

// A client that takes nothing off its connection has its slot, and what it asks
// for, no longer than one that stands still in another way. TLS and HTTP/2 answer
// it of their own accord, where nobody looks at the time.
func TestClientsThatReadNothing(t *testing.T) {
	t.Parallel()
	const unknown = "\x00\x40\x00\x77\x00\x00\x00\x00\x00" // begins a frame of 16 KiB that is nobody's
	quiet := http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + strings.Repeat(unknown+strings.Repeat("x", 16<<10), 20)
	updates := func(proto, said string) func(r *rig) {
		return func(r *rig) {
			s := r.sealed(proto)
			for i := 0; ; i++ {
				flight := s.seal(23, said[i%len(said)])
				for range 16 { // more in a row are refused
					flight = append(flight, s.keyUpdate()...)
				}
				if _, err := s.raw.Write(flight); err != nil {
					return
				}
			}
		}
	}
	frames := func(write func(h *h2Client) error) func(r *rig) {
		return func(r *rig) {
			h := r.h2(apiHost+":443", http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
			h.fr.WriteWindowUpdate(0, 1<<30)
			for write(h) == nil {
			}
		}
	}
	for name, attack := range map[string]func(r *rig){
		"key updates, h1": updates("http/1.1", "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 40<<10)),
		"key updates, h2": updates("h2", quiet),
		"an answer, h2": frames(func(h *h2Client) error {
			h.open(true, get("/endless"))
			return io.EOF
		}),
		"pings":    frames(func(h *h2Client) error { return h.fr.WritePing(false, [8]byte{}) }),
		"settings": frames(func(h *h2Client) error { return h.fr.WriteSettings() }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, true, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/endless" {
					io.Copy(w, zeros{})
				}
			}, short, func(_ *rig, c *proxy.Config) { c.Limits.RequestHeader, c.Logger = 5*time.Second, nil })
			r.listenNarrow()
			attack(r)
			eventually(t, "the slot is free", func() bool { return r.metric("authsome_active_connections") == 0 })
			if got := r.status(r.client(true)); got != http.StatusOK {
				t.Errorf("another client: got %d", got)
			}
		})
	}
}
