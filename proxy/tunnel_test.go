package proxy_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"authsome/proxy"
)

// What a client says first after CONNECT decides what is done, and nothing but
// TLS gets a credential.
func TestAfterConnect(t *testing.T) {
	echoAll := func(c *rawConn) { io.Copy(c, c) }
	for _, tt := range []struct {
		name, target, say string
		tunnelled         bool // what the client says comes back
	}{
		{"SSH to an uncovered host", "elsewhere.test:443", "SSH-2.0-x\r\n", true},
		{"HTTP to an uncovered host", "elsewhere.test:443", "GET / HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n", true},
		{"garbage to an uncovered host", "elsewhere.test:443", "\x00\x01\x02\xff", true},
		{"SSH to a covered host", apiHost + ":443", "SSH-2.0-x\r\n", true},
		{"SMTP to a covered host", apiHost + ":443", "EHLO me\r\n", true},
		{"garbage to a covered host", apiHost + ":443", "\x00\x01\x02\xff", true},
		{"an old ClientHello to a covered host", apiHost + ":443", "\x80\x2e\x01\x03\x01", true},
		{"HTTP/2 without TLS to a covered host", apiHost + ":443", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true},
		{"a method of nobody's to a covered host", apiHost + ":443", "PROPFIND / HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n", true},
		{"the start of a method to a covered host", apiHost + ":443", "GETX / HTTP/1.1\r\nHost: " + apiHost + "\r\n\r\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			origin := newRawOrigin(t, echoAll)
			r := newRig(t, false, whoami, origin.use)
			c, br := r.connect(tt.target)
			io.WriteString(c, tt.say)
			got := make([]byte, len(tt.say))
			if _, err := io.ReadFull(br, got); err != nil || string(got) != tt.say {
				t.Fatalf("got %q, %v", got, err)
			}
			if streams := origin.streams(); len(streams) != 1 || streams[0] != tt.say {
				t.Errorf("the origin read %q", streams)
			}
			if got := r.metric("authsome_tunnels_total", "outcome=ok"); got != 1 {
				t.Errorf("tunnels_total: got %v, want 1", got)
			}
		})
	}
}

// A server that speaks first is heard before its client says a word.
func TestServerSpeaksFirst(t *testing.T) {
	origin := newRawOrigin(t, func(c *rawConn) {
		io.WriteString(c, "220 ready\r\n")
		line, _ := c.br.ReadString('\n')
		io.WriteString(c, "250 "+line)
	})
	r := newRig(t, false, whoami, origin.use)
	c, br := r.connect("mail.elsewhere.test:25")
	if line, err := br.ReadString('\n'); err != nil || line != "220 ready\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	io.WriteString(c, "HELO\r\n")
	if line, err := br.ReadString('\n'); err != nil || line != "250 HELO\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
}

// PITFALLS 17: each direction ends by itself, and the other goes on.
func TestHalfClose(t *testing.T) {
	const size = 8 << 20
	sum := make(chan [32]byte, 1)
	origin := newRawOrigin(t, func(c *rawConn) {
		h := sha256.New()
		io.Copy(h, c.Conn) // to the client's end
		sum <- [32]byte(h.Sum(nil))
		io.CopyN(c, zeros{}, size) // only now
		c.Conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c.Conn)
	})
	r := newRig(t, false, whoami, origin.use)
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("bytes with CONNECT=%v", early), func(t *testing.T) {
			data := make([]byte, size)
			rand.Read(data)
			var c net.Conn
			var br io.Reader
			if early {
				c = r.dial()
				head := "CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test\r\n" + r.authHeader() + "\r\n"
				c.Write(append([]byte(head), data[:100]...))
				b := bufioReader(c)
				if resp, err := http.ReadResponse(b, &http.Request{Method: "CONNECT"}); err != nil || resp.StatusCode != 200 {
					t.Fatal(resp, err)
				}
				br = b
				c.Write(data[100:])
			} else {
				conn, b := r.connect("elsewhere.test:443")
				c, br = conn, b
				c.Write(data)
			}
			c.(*net.TCPConn).CloseWrite()
			if got := wait(t, "the origin sees the end", sum); got != sha256.Sum256(data) {
				t.Error("the origin got other bytes")
			}
			if n, err := io.Copy(io.Discard, br); err != nil || n != size {
				t.Errorf("got %d bytes, %v, want %d", n, err, size)
			}
		})
	}
}

// A side that reads slowly, while the other is busy, loses nothing.
func TestSlowSideOfATunnel(t *testing.T) {
	const size = 32 << 20 // more than the kernel's buffers hold
	data := make([]byte, size)
	rand.Read(data)
	origin := newRawOrigin(t, func(c *rawConn) {
		end := make(chan struct{})
		go func() { io.Copy(io.Discard, c.Conn); close(end) }()
		c.Conn.Write(data)
		c.Conn.(*net.TCPConn).CloseWrite()
		<-end
	})
	r := newRig(t, false, whoami, origin.use, short)
	c, br := r.connect("elsewhere.test:443")
	stop := make(chan struct{})
	go func() { // keeps the tunnel moving
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := c.Write([]byte("still here")); err != nil {
					return
				}
				sleep(50)
			}
		}
	}()
	defer close(stop)
	sleep(1600) // longer than the idle limit
	got, err := io.ReadAll(br)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v; equal: %v", len(got), err, bytes.Equal(got, data))
	}
}

// A tunnel that one side resets is reset on the other: plaintext has no other
// way to tell that it was cut.
func TestResetIsPassedOn(t *testing.T) {
	origin := newRawOrigin(t, func(c *rawConn) {
		io.WriteString(c, "half of it")
		c.br.ReadByte()
		c.Conn.(*net.TCPConn).SetLinger(0)
	})
	r := newRig(t, false, whoami, origin.use)
	c, br := r.connect("elsewhere.test:443")
	io.ReadFull(br, make([]byte, 10))
	io.WriteString(c, "x")
	if rest, err := io.ReadAll(br); err == nil {
		t.Errorf("got %q and a clean end", rest)
	}
}

// A plaintext tunnel is bound to its CONNECT as an intercepted one is.
func TestPlaintextTunnelIsBound(t *testing.T) {
	origin := newRawOrigin(t, echo)
	r := newRig(t, false, whoami, origin.use)
	for _, target := range []string{"http://evil.test/x", "https://evil.test/x", "http://evil.test:443/x", "//evil.test/x"} {
		c, br := r.connect(apiHost + ":443")
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: evil.test\r\n\r\n", target)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s: got %d, want 421", target, resp.StatusCode)
		}
	}
	// Its own name, in absolute form, is fine, and stays without a credential.
	c, br := r.connect(apiHost + ":443")
	fmt.Fprintf(c, "GET http://%s:443/x HTTP/1.1\r\nHost: %s:443\r\n\r\n", apiHost, apiHost)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("got %v, %v", resp, err)
	}
	for _, s := range origin.streams() {
		if strings.Contains(s, canary) || strings.Contains(s, "evil") {
			t.Errorf("the origin read %q", s)
		}
	}
}

// CONNECT is answered once: inside a tunnel it is no way to another host.
func TestConnectInsideATunnel(t *testing.T) {
	r := newRig(t, false, whoami)
	for _, plain := range []bool{false, true} {
		var c io.Writer
		var br = bufioReader(nil)
		if plain {
			c, br = r.connect(apiHost + ":443")
		} else {
			c, br = r.tls(apiHost + ":443")
		}
		fmt.Fprintf(c, "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n%s\r\n", r.authHeader())
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		checkRefusal(t, r, resp, "bad_request", 400)
	}
}

// An upgrade whose request has a body is not passed on: nobody could tell where
// the one ends and the other begins.
func TestUpgradeWithABody(t *testing.T) {
	for _, framing := range []string{"Content-Length: 1000000\r\n\r\nxxx", "Transfer-Encoding: chunked\r\n\r\n3\r\nxxx\r\n", "Content-Length: 3\r\n\r\nxxx"} {
		origin := newRawOrigin(t, func(c *rawConn) {
			c.br.ReadString('\n')
			for line := ""; line != "\r\n"; line, _ = c.br.ReadString('\n') {
				if strings.HasPrefix(line, "Upgrade") || strings.HasPrefix(line, "Connection: Upgrade") {
					t.Errorf("the origin read %q", line)
				}
				if line == "" && c.br.Buffered() == 0 {
					continue
				}
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
			io.Copy(io.Discard, c)
		}, "http/1.1")
		r := newRig(t, false, whoami, origin.use)
		c, br := r.tls(apiHost + ":443")
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s", apiHost, framing)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("got %d, want 502: a 101 that was not asked for", resp.StatusCode)
		}
	}
}

// PITFALLS 23: the end of an intercepted connection is announced.
func TestCloseNotify(t *testing.T) {
	r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/cut" {
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "whole")
	})
	for path, clean := range map[string]bool{"/": true, "/cut": false} {
		c, _ := r.tls(apiHost + ":443")
		fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", path) // the body ends with the connection
		_, err := io.ReadAll(c)
		if clean && err != nil {
			t.Errorf("%s: a whole answer ends with %v", path, err)
		}
		if !clean && err == nil {
			t.Errorf("%s: a cut answer ends like a whole one", path)
		}
	}
}

// The ends of an origin's TLS reach the client of a tunnel untouched.
func TestTunnelledTLSIsUntouched(t *testing.T) {
	r := newRig(t, true, whoami, func(_ *rig, c *proxy.Config) {})
	raw, _ := r.connect("elsewhere.test:443")
	c := tls.Client(raw, &tls.Config{RootCAs: r.originRoots(), ServerName: "elsewhere.test", NextProtos: []string{"h2"}})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Errorf("ALPN: got %q, want the origin's h2", got)
	}
}
