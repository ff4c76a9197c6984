package proxy_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"authsome/proxy"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/net/http2"
)

// sealer writes TLS records after a handshake of crypto/tls, which would not write
// what a test wants to.
type sealer struct {
	t       testing.TB
	raw     net.Conn
	in      *tls.Conn // what comes back
	version uint16
	suite   uint16
	secret  []byte // of TLS 1.3
	aead    cipher.AEAD
	iv      []byte
	seq     uint64
}

// sealed shakes hands and takes the sending side over.
func (r *rig) sealed(raw net.Conn, version uint16, proto string) *sealer {
	r.t.Helper()
	var keys, said bytes.Buffer
	c := tls.Client(&heard{raw, &said}, &tls.Config{RootCAs: r.trust, ServerName: apiHost, NextProtos: []string{proto}, KeyLogWriter: &keys,
		MinVersion: version, MaxVersion: version, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	s := &sealer{t: r.t, raw: raw, in: c, version: version, suite: c.ConnectionState().CipherSuite}
	line := regexp.MustCompile(`CLIENT_(?:TRAFFIC_SECRET_0|RANDOM) (\w+) (\w+)`).FindSubmatch(keys.Bytes())
	random, _ := hex.DecodeString(string(line[1]))
	s.secret, _ = hex.DecodeString(string(line[2]))
	if version == tls.VersionTLS13 {
		s.rekey()
		return s
	}
	server := said.Bytes()[5+4+2:][:32] // its random, in its ServerHello
	block := keyBlock(s.secret, append(append([]byte("key expansion"), server...), random...))
	s.iv, s.seq = block[32:36], 1 // Finished was the first
	s.take(aes.NewCipher(block[:16]))
	return s
}

// heard keeps what is read.
type heard struct {
	net.Conn
	said *bytes.Buffer
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.said.Write(p[:n])
	return n, err
}

// keyBlock is the beginning of P_SHA256 (RFC 5246 section 5).
func keyBlock(secret, seed []byte) (block []byte) {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write(bytes.Join(parts, nil))
		return h.Sum(nil)
	}
	for a := mac(seed); len(block) < 40; a = mac(a) {
		block = append(block, mac(a, seed)...)
	}
	return block
}

func (s *sealer) take(block cipher.Block, err error) {
	if err == nil {
		s.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		s.t.Fatal(err)
	}
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
	s.take(aes.NewCipher(s.expand("key", 16)))
}

// seal returns a record of a kind (RFC 8446 section 5.2, RFC 5288 section 3).
func (s *sealer) seal(kind byte, payload ...byte) []byte {
	seq := binary.BigEndian.AppendUint64(nil, s.seq)
	s.seq++
	if s.version == tls.VersionTLS12 {
		size := len(payload)
		about := append(bytes.Clone(seq), kind, 3, 3, byte(size>>8), byte(size))
		size += len(seq) + s.aead.Overhead()
		head := append([]byte{kind, 3, 3, byte(size >> 8), byte(size)}, seq...)
		return s.aead.Seal(head, append(bytes.Clone(s.iv), seq...), payload, about)
	}
	nonce := bytes.Clone(s.iv)
	for i, b := range seq {
		nonce[4+i] ^= b
	}
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

// beginH2 begins a connection.
const beginH2 = http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// A client that takes nothing off its connection has its slot, and what it asks
// for, no longer than one that stands still in another way. TLS and HTTP/2 answer
// it of their own accord, where nobody looks at the time. Other tests have to wait:
// floods take all of the processor.
func TestClientsThatReadNothing(t *testing.T) {
	const unknown = "\x00\x40\x00\x77\x00\x00\x00\x00\x00" // begins a frame of 16 KiB that is nobody's
	quiet := beginH2 + strings.Repeat(unknown+strings.Repeat("x", 16<<10), 20)
	updates := func(proto, said string) func(r *rig) {
		return func(r *rig) {
			raw, _ := r.connect(apiHost + ":443")
			s := r.sealed(raw, tls.VersionTLS13, proto)
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

// What a client says of TLS that is too much, or not its turn, ends its connection
// soon, and nothing else. What is merely large does not.
func TestTLSFloods(t *testing.T) {
	r, _ := redirectedRig(t, nil, func(_ *rig, c *proxy.Config) { // longer than anybody waits here
		c.Limits.RequestHeader, c.Limits.IdleClient, c.Logger = time.Minute, time.Minute, nil
	})
	hello := func(protos, size int) []byte {
		config := &tls.Config{ServerName: apiHost}
		for i := range protos {
			config.NextProtos = append(config.NextProtos, fmt.Sprintf("%0*d", size, i))
		}
		return helloOf(t, config)
	}
	endless := append([]byte{22, 3, 1, 1, 0, 1, 0, 0xff, 0xfb}, make([]byte, 1<<17)...) // in one record, for inRecords
	after := func(version uint16, kind byte, times int, payload ...byte) func(c net.Conn) {
		return func(c net.Conn) {
			s := r.sealed(c, version, "h2")
			c.Write(s.seal(23, []byte(beginH2)...))
			for fr := http2.NewFramer(io.Discard, s.in); ; {
				f, err := fr.ReadFrame()
				if err != nil {
					t.Errorf("what is sealed well is not read: %v", err)
				}
				if err != nil || f.Header().Flags.Has(http2.FlagSettingsAck) {
					break
				}
			}
			for range times {
				c.Write(s.seal(kind, payload...))
			}
		}
	}
	say := func(said []byte) func(c net.Conn) { return func(c net.Conn) { go c.Write(said) } }
	attacks := map[string]func(c net.Conn){
		"a hello of records of one byte":      say(inRecords(endless, 1)),
		"a hello that says that it is 16 MiB": say(inRecords(append([]byte{22, 3, 1, 1, 0, 1, 0xff, 0xff, 0xff}, make([]byte, 1<<17)...), 1000)),
		"an end within the hello":             func(c net.Conn) { c.Write(hello(1, 10)[:100]); closeWriteOf(c) },
		"an alert within the hello":           say(append(inRecords(hello(1, 10), 50)[:55], 21, 3, 1, 0, 2, 2, 40)),
		"alerts after the hello":              say(append(hello(1, 10), bytes.Repeat([]byte{21, 3, 3, 0, 2, 1, 90}, 1000)...)),
		"renegotiation":                       after(tls.VersionTLS12, 22, 1, hello(1, 10)[5:]...),
		"a second hello":                      after(tls.VersionTLS13, 22, 1, hello(1, 10)[5:]...),
		"empty records":                       after(tls.VersionTLS13, 23, 100),
		"warnings":                            after(tls.VersionTLS13, 21, 100, 1, 90),
		"a change of ciphers, again and again": func(c net.Conn) {
			r.sealed(c, tls.VersionTLS13, "h2")
			c.Write(bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 100))
		},
	}
	enter := []func() net.Conn{
		func() net.Conn { c, _ := r.connect(apiHost + ":443"); return c },
		func() net.Conn { return r.redirected(netip.MustParseAddrPort("203.0.113.66:443")) },
	}
	all := func(t *testing.T) {
		for name, attack := range attacks {
			for way, open := range enter {
				c := open()
				attack(c)
				if closes(t, c); t.Failed() {
					t.Fatalf("%s, way %d", name, way)
				}
				c.Close()
			}
		}
		eventually(t, "the slots are free", func() bool { return r.metric("authsome_active_connections") == 0 })
	}
	all(t)
	before := used(t)
	for range 3 {
		all(t)
	}
	before.returnsTo(t, 3*len(attacks)*len(enter))
	if n := r.metric("authsome_requests_total"); n != 0 {
		t.Errorf("%v requests were counted", n)
	}
	for _, open := range enter {
		config := &tls.Config{RootCAs: r.trust, ServerName: apiHost, NextProtos: []string{"h2"}}
		for i := range 1000 {
			config.NextProtos = append(config.NextProtos, fmt.Sprintf("protocol-%d", i))
		}
		c := tls.Client(open(), config)
		if err := c.Handshake(); err != nil || c.ConnectionState().NegotiatedProtocol != "h2" {
			t.Errorf("a thousand protocols: got %q, %v", c.ConnectionState().NegotiatedProtocol, err)
		}
	}
}

func closeWriteOf(c net.Conn) { c.(*net.TCPConn).CloseWrite() }
