package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"authsome/proxy"
)

// helloOf is the ClientHello that crypto/tls sends.
func helloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	config.InsecureSkipVerify = true // the handshake does not get that far
	go tls.Client(client, config).Handshake()
	defer client.Close()
	server.SetReadDeadline(time.Now().Add(10 * time.Second))
	header := make([]byte, 5)
	if _, err := io.ReadFull(server, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(header, body...)
}

// inRecords cuts a one-record stream into records of size bytes.
func inRecords(stream []byte, size int) []byte {
	var out []byte
	for rest := stream[5:]; len(rest) > 0; {
		n := min(size, len(rest))
		out = append(out, stream[0], stream[1], stream[2], byte(n>>8), byte(n))
		out, rest = append(out, rest[:n]...), rest[n:]
	}
	return out
}

// withName replaces the server_name extension's content.
func withName(t testing.TB, content []byte) []byte {
	t.Helper()
	stream := helloOf(t, &tls.Config{ServerName: "x.test"})
	ext := append([]byte{0, 0, 0, byte(len("x.test") + 5)}, nameList("x.test")...)
	at := bytes.Index(stream, ext)
	if at < 0 {
		t.Fatal("no server_name extension found")
	}
	repl := append([]byte{0, 0, byte(len(content) >> 8), byte(len(content))}, content...)
	out := append(append(append([]byte(nil), stream[:at]...), repl...), stream[at+len(ext):]...)
	delta := len(repl) - len(ext)
	binary.BigEndian.PutUint16(out[3:], uint16(len(out)-5))
	size := len(out) - 9
	out[6], out[7], out[8] = byte(size>>16), byte(size>>8), byte(size)
	// The extensions' length stands after session id, suites and compression.
	i := 9 + 2 + 32
	i += 1 + int(out[i])
	i += 2 + int(binary.BigEndian.Uint16(out[i:]))
	i += 1 + int(out[i])
	binary.BigEndian.PutUint16(out[i:], uint16(int(binary.BigEndian.Uint16(out[i:]))+delta))
	return out
}

func nameList(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, 0, byte(len(n)>>8), byte(len(n)))
		list = append(list, n...)
	}
	return append([]byte{byte(len(list) >> 8), byte(len(list))}, list...)
}

func TestServerName(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = strings.Repeat("p", 200)
	}
	cases := []struct {
		name   string
		stream []byte
		want   string
		bad    bool
	}{
		{"usual", helloOf(t, &tls.Config{ServerName: "api.example.test"}), "api.example.test", false},
		{"TLS 1.2", helloOf(t, &tls.Config{ServerName: "api.example.test", MaxVersion: tls.VersionTLS12}), "api.example.test", false},
		{"none", helloOf(t, &tls.Config{}), "", false},
		{"an address is no name", helloOf(t, &tls.Config{ServerName: "192.0.2.1"}), "", false},
		{"8 KiB", helloOf(t, &tls.Config{ServerName: "api.example.test", NextProtos: many}), "api.example.test", false},
		{"a byte a record", inRecords(helloOf(t, &tls.Config{ServerName: "api.example.test"}), 1), "api.example.test", false},
		{"upper case", withName(t, nameList("API.example.test")), "API.example.test", false},
		{"two names", withName(t, nameList("a.test", "b.test")), "", true},
		{"trailing dot", withName(t, nameList("a.test.")), "", true},
		{"empty list", withName(t, []byte{0, 0}), "", true},
		{"empty name", withName(t, nameList("")), "", true},
		{"list too long", withName(t, []byte{0, 9, 0, 0, 1, 'a'}), "", true},
		{"bytes after the list", withName(t, append(nameList("a.test"), 0)), "", true},
		{"another kind of name", withName(t, append([]byte{0, 5, 7, 0, 2}, "xx"...)), "", false},
		{"not a ClientHello", []byte{22, 3, 3, 0, 4, 2, 0, 0, 0}, "", true},
		{"not a handshake", []byte{23, 3, 3, 0, 1, 0}, "", true},
		{"not TLS", []byte("GET / HTTP/1.1\r\n"), "", true},
		{"empty record", []byte{22, 3, 1, 0, 0}, "", true},
		{"record too long", []byte{22, 3, 1, 0x40, 1}, "", true},
		{"message too long", []byte{22, 3, 1, 0, 4, 1, 2, 0, 0}, "", true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, short, err := proxy.ParseServerName(c.stream)
			if got != c.want || (err != nil) != c.bad || short {
				t.Errorf("got %q, %v (short %v), want %q, error %v", got, err, short, c.want, c.bad)
			}
			if c.bad {
				return
			}
			for n := range c.stream {
				if _, short, _ := proxy.ParseServerName(c.stream[:n]); !short {
					t.Fatalf("after %d of %d bytes it is not said that more are needed", n, len(c.stream))
				}
			}
		})
	}
}

// dribble gives one byte at a time.
type dribble struct {
	net.Conn
	r io.Reader
}

func (d dribble) Read(p []byte) (int, error) { return d.r.Read(p[:1]) }

func TestReadHelloInPieces(t *testing.T) {
	stream := helloOf(t, &tls.Config{ServerName: "api.example.test"})
	read, name, err := proxy.ReadServerName(dribble{r: bytes.NewReader(stream)})
	if err != nil || name != "api.example.test" || !bytes.Equal(read, stream) {
		t.Errorf("got %q, %v and %d bytes, want all %d", name, err, len(read), len(stream))
	}
	if _, _, err := proxy.ReadServerName(dribble{r: bytes.NewReader(stream[:50])}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut short: got %v, want unexpected EOF", err)
	}
	// Each record is looked at once: there may be many, and a read for each byte.
	endless := inRecords(append([]byte{22, 3, 1, 0, 0, 1, 0, 0xff, 0xff}, make([]byte, 1<<16)...), 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := proxy.ReadServerName(dribble{r: bytes.NewReader(endless)}); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too large: got %v, want it refused", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d bytes were made of 64 KiB", n)
	}
}

// FuzzServerName holds that we see the name that crypto/tls sees: what decides
// and what terminates TLS must not disagree.
func FuzzServerName(f *testing.F) {
	f.Add(helloOf(f, &tls.Config{ServerName: "api.example.test"}))
	f.Add(helloOf(f, &tls.Config{}))
	f.Add(inRecords(helloOf(f, &tls.Config{ServerName: "api.example.test"}), 100))
	f.Add(withName(f, nameList("a.test", "b.test")))
	f.Add(withName(f, nameList("a.test.")))
	f.Add(withName(f, []byte{0, 0}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		name, short, err := proxy.ParseServerName(stream)
		if err != nil && name != "" {
			t.Errorf("a name %q beside error %v", name, err)
		}
		theirs, read := serverNameOf(stream)
		if !read {
			return // crypto/tls looks at more than we do
		}
		if err != nil {
			t.Errorf("crypto/tls reads %q, we fail: %v (short %v)", theirs, err, short)
		} else if name != theirs {
			t.Errorf("got %q, crypto/tls reads %q", name, theirs)
		}
	})
}

// serverNameOf is the server name that crypto/tls sees in a stream.
func serverNameOf(stream []byte) (name string, read bool) {
	config := &tls.Config{MinVersion: tls.VersionTLS10, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, read = hello.ServerName, true
		return nil, errors.New("seen enough")
	}}
	tls.Server(readOnly{bytes.NewReader(stream)}, config).HandshakeContext(context.Background())
	return name, read
}

// readOnly is a connection that swallows what is written to it.
type readOnly struct{ io.Reader }

func (readOnly) Write(p []byte) (int, error)      { return len(p), nil }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }

// FuzzSniff holds what the first bytes after CONNECT are taken for to what they
// can be read as.
func FuzzSniff(f *testing.F) {
	for _, seed := range []string{"\x16\x03\x01", "GET / HTTP/1.1\r\n", "GETX", "G", "PRI * HTTP/2.0\r\n", "SSH-2.0-x", "", "POST /", "\x80\x2e\x01"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		if len(stream) == 0 {
			return
		}
		got, needed := proxy.Sniff(stream)
		method, _, spaced := strings.Cut(string(stream), " ")
		isMethod := spaced && len(method) < 10 && method == strings.ToUpper(method) && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
		switch {
		case (got == "tls") != (stream[0] == 0x16):
			t.Errorf("%.20q is taken for %s", stream, got)
		case got == "http" && !isMethod:
			t.Errorf("%.20q is taken for HTTP", stream)
		case needed > 16:
			t.Errorf("%.20q: %d bytes were waited for", stream, needed)
		}
	})
}
