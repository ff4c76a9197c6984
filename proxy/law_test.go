package proxy_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// The law: no byte of the secret reaches anything but the pinned origin, and
// that over TLS; and no request reaches the pinned origin over TLS without it.

// FuzzProxy drives a whole proxy with a client that does what the input says:
// it connects, shakes hands, sends requests in pieces and bytes of no meaning,
// over HTTP/1.1 and HTTP/2, while routes, credentials and origins change.
func FuzzProxy(f *testing.F) {
	for _, seed := range lawSeeds {
		f.Add([]byte(seed))
	}
	w := newLawWorld(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		w.begin(t)
		c := &lawClient{w: w, script: script{program}}
		for range 24 {
			if len(c.script.rest) == 0 {
				break
			}
			c.step()
		}
		c.hangUp()
		for _, broken := range w.verdict() {
			t.Error(broken)
		}
	})
}

// lawSeeds begin with the ordinary ways and go on to each kind of trick. Each
// byte is an operation or its argument; see lawClient.step.
var lawSeeds = []string{
	"\x00\x00\x01\x00\x00\x02\x00\x00\x00\x00\x00",                                      // CONNECT, TLS, GET
	"\x00\x00\x01\x00\x01\x04\x00\x00\x00\x00",                                          // the same over HTTP/2
	"\x00\x00\x01\x00\x00\x02\x00\x03\x00\x00\x00",                                      // another Host inside
	"\x00\x00\x01\x01\x00\x02\x00\x00\x00\x00\x00",                                      // another server name
	"\x00\x01\x02\x00\x00\x00\x00\x00",                                                  // plaintext on port 80
	"\x00\x02\x01\x01\x00\x02\x00\x03\x00\x00\x00",                                      // a host without a route
	"\x03\x00\x00\x00",                                                                  // absolute-form
	"\x00\x00\x02\x00\x00\x00\x00\x00",                                                  // plaintext to the pinned origin
	"\x00\x00\x05\x20GET / HTTP/1.1\r\nHost: api.exampl",                                // plaintext in the tunnel
	"\x00\x00\x01\x00\x00\x06\x01\x02\x00\x00\x00\x00\x00",                              // no credential
	"\x00\x00\x01\x00\x00\x07\x02\x00\x00\x00\x00\x00",                                  // another route table
	"\x08\x01\x00\x00\x01\x00\x00\x02\x00\x00\x00\x00\x00",                              // an impostor
	"\x00\x00\x01\x00\x01\x04\x00\x03\x00\x00\x04\x00\x00\x00\x00",                      // another :authority
	"\x00\x00\x01\x00\x00\x02\x01\x00\x05\x02\x05\x0d0\r\n\r\nGET / HT",                 // a body with more behind it
	"\x00\x00\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x02\x01\x01\x00\x02\x00\x03\x00",  // two targets in turn
	"\x00\x04\x01\x00\x00\x02\x00\x00\x02\x00\x00\x09\x02\x00\x00\x00\x00\x00",          // spelt otherwise
	"\x00\x00\x01\x00\x01\x0a\x10\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00a", // frames of no meaning
}

var (
	lawTargets = []string{"api.example.test:443", "api.example.test:80", "elsewhere.test:443", "elsewhere.test:80", "API.Example.Test.:443",
		"api.example.test:8443", "127.0.0.1:443", "[::1]:443", "api.example.test@elsewhere.test:443", "api.example.test", "elsewhere.test.api.example.test:443"}
	lawNames   = []string{apiHost, "elsewhere.test", "", "API.EXAMPLE.TEST"}
	lawMethods = []string{"GET", "POST", "CONNECT", "OPTIONS", "PRI", "get"}
	lawHosts   = []string{apiHost, "API.example.test.", "api.example.test:443", "elsewhere.test", "api.example.test:80", "", "elsewhere.test\r\nX-A: 1"}
	lawPaths   = []string{"/", "/a/../b", "//elsewhere.test/", "http://elsewhere.test/", "https://elsewhere.test/", "*", "/%2e%2e/", "/a?key=1", "/ HTTP/1.1\r\nHost: elsewhere.test\r\n\r\nGET /"}
	lawFields  = []string{"", "Authorization: Bearer placeholder\r\n", "Connection: authorization\r\n", "Connection: upgrade\r\nUpgrade: websocket\r\n",
		"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Host: elsewhere.test\r\n", "Expect: 100-continue\r\n", "Proxy-Authorization: Basic x\r\n",
		"X-Forwarded-Host: elsewhere.test\r\n", "Authsome-Connection: default\r\n", "Trailer: Authorization\r\nTransfer-Encoding: chunked\r\n", " folded\r\n"}
	lawH2Fields = [][]string{{}, {"authorization", "Bearer placeholder"}, {"host", "elsewhere.test"}, {"te", "trailers"}, {"content-length", "5"},
		{"x", "a\r\nhost: elsewhere.test"}, {":path", "/again"}, {"connection", "authorization"}, {":protocol", "websocket"}}
)

// script hands out the bytes of an input; at its end they are all zero.
type script struct{ rest []byte }

func (s *script) next() int {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return int(b)
}

func (s *script) pick(from []string) string { return from[s.next()%len(from)] }

// piece is a run of bytes.
func (s *script) piece() []byte {
	n := min(s.next(), len(s.rest))
	p := s.rest[:n]
	s.rest = s.rest[n:]
	return p
}

// lawClient is the hostile client.
type lawClient struct {
	w *lawWorld
	script
	raw  net.Conn // to the proxy, or nil
	conn net.Conn // raw, or TLS over it
	fr   *h2Client
}

// patience is how long the client waits for an answer. Nothing depends on it: a
// short wait only means that the next step comes sooner.
const patience = 30 * time.Millisecond

func (c *lawClient) step() {
	op := c.next() % 11
	if c.conn == nil && op != 0 && op != 3 && op < 6 {
		c.dial()
	}
	switch op {
	case 0:
		c.hangUp()
		c.dial()
		target := c.pick(lawTargets)
		fmt.Fprintf(c.conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, c.w.rig.authHeader())
		c.read()
	case 1:
		c.shakeHands(c.pick(lawNames), c.next()%2 == 1)
	case 2:
		c.request("")
	case 3:
		if c.conn == nil {
			c.dial()
		}
		c.request(c.w.rig.authHeader())
	case 4:
		c.stream()
	case 5:
		c.conn.Write(c.piece())
		c.read()
	case 6:
		var err error
		if c.next()%2 == 1 {
			err = errNoCredential
		}
		c.w.rig.source.set(canary, err)
	case 7:
		c.w.unsettle()
		c.w.rig.route(lawRoutes[c.next()%len(lawRoutes)]...)
	case 8:
		c.w.impostor(c.next()%2 == 1)
	case 9:
		if h, ok := c.conn.(interface{ CloseWrite() error }); ok {
			h.CloseWrite()
		}
		c.read()
	case 10:
		if c.fr != nil {
			c.fr.fr.WriteRawFrame(http2.FrameType(c.next()%12), http2.Flags(c.next()), uint32(c.next()), c.piece())
			c.read()
		}
	}
}

// lawRoutes are tables in which the pinned origin is the only host or there is
// none, by paths too.
var lawRoutes = [][]string{{apiHost}, {"https://" + apiHost + "/a"}, {"*.example.test"}, {}}

func (c *lawClient) dial() {
	raw, err := net.Dial("tcp", c.w.rig.addr)
	if err != nil {
		return
	}
	c.raw, c.conn = raw, raw
}

func (c *lawClient) hangUp() {
	if c.raw != nil {
		c.raw.Close()
	}
	c.raw, c.conn, c.fr = nil, nil, nil
}

func (c *lawClient) shakeHands(name string, h2 bool) {
	protos := []string{"http/1.1"}
	if h2 {
		protos = []string{"h2"}
	}
	// What the proxy answers is not the law's business, and so neither is
	// whose certificate it shows.
	tc := tls.Client(c.raw, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protos})
	c.raw.SetDeadline(time.Now().Add(4 * patience))
	defer c.raw.SetDeadline(time.Time{})
	if tc.Handshake() != nil {
		return
	}
	c.conn = tc
	if tc.ConnectionState().NegotiatedProtocol == "h2" {
		c.fr = newH2Client(c.w.rig.t, tc)
		io.WriteString(tc, http2.ClientPreface)
		c.fr.fr.WriteSettings()
	}
}

func (c *lawClient) request(credentials string) {
	method, host, path := c.pick(lawMethods), c.pick(lawHosts), c.pick(lawPaths)
	if credentials != "" && path[0] == '/' {
		path = "http://" + host + path
	}
	fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n", method, path, host, credentials, c.pick(lawFields), c.pick(lawFields))
	c.conn.Write(c.piece())
	c.read()
}

func (c *lawClient) stream() {
	if c.fr == nil {
		return
	}
	fields := []string{":method", c.pick(lawMethods), ":scheme", "https", ":authority", c.pick(lawHosts), ":path", c.pick(lawPaths)}
	for range c.next() % 4 {
		fields = append(fields, lawH2Fields[c.next()%len(lawH2Fields)]...)
	}
	body := c.piece()
	id := c.fr.open(len(body) == 0, fields)
	if len(body) > 0 {
		c.fr.fr.WriteData(id, true, body)
	}
	c.read()
}

// read takes what comes until nothing has for a while, and looks for the secret
// in it: no origin here repeats it.
func (c *lawClient) read() {
	if c.conn == nil {
		return
	}
	buf := make([]byte, 32<<10)
	var got []byte
	for {
		c.raw.SetReadDeadline(time.Now().Add(patience))
		n, err := c.conn.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil || n < len(buf) && bytes.Contains(got, []byte("\r\n\r\n")) {
			break
		}
	}
	c.raw.SetReadDeadline(time.Time{})
	c.w.look("the client", got)
}
