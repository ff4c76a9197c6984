package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/ca"
	"authsome/proxy"
)

// rawOrigin is a TLS origin (and a plaintext one) that keeps every byte it
// reads, connection by connection, and answers through serve.
type rawOrigin struct {
	t      testing.TB
	roots  *x509.CertPool
	listen net.Listener
	serve  func(c *rawConn)
	wg     sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns []*rawConn
}

// rawConn is one connection of a rawOrigin.
type rawConn struct {
	net.Conn
	br *bufio.Reader

	mu   sync.Mutex // guards read
	read []byte
}

func (c *rawConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.read = append(c.read, p[:n]...)
	c.mu.Unlock()
	return n, err
}

// bytes is what has been read so far.
func (c *rawConn) bytes() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.read)
}

// newRawOrigin starts an origin; protos are what it offers by ALPN, and without
// any it speaks plaintext.
func newRawOrigin(t testing.TB, serve func(c *rawConn), protos ...string) *rawOrigin {
	t.Helper()
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test", "elsewhere.test"}})
	if err != nil {
		t.Fatal(err)
	}
	o := &rawOrigin{t: t, serve: serve, roots: x509.NewCertPool()}
	o.roots.AppendCertsFromPEM(authority.RootPEM())
	if o.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if len(protos) > 0 {
		o.listen = tls.NewListener(corkedListener{o.listen}, &tls.Config{NextProtos: protos, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return authority.Leaf(context.Background(), hello.ServerName)
		}})
	}
	o.wg.Go(o.accept)
	t.Cleanup(o.close)
	return o
}

func (o *rawOrigin) accept() {
	for {
		nc, err := o.listen.Accept()
		if err != nil {
			return
		}
		c := &rawConn{Conn: nc}
		c.br = bufio.NewReader(c)
		o.mu.Lock()
		o.conns = append(o.conns, c)
		o.mu.Unlock()
		o.wg.Go(func() {
			defer nc.Close()
			o.serve(c)
		})
	}
}

func (o *rawOrigin) close() {
	o.listen.Close()
	o.mu.Lock()
	for _, c := range o.conns {
		c.Close()
	}
	o.mu.Unlock()
	o.wg.Wait()
}

// streams returns what each connection has read.
func (o *rawOrigin) streams() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for _, c := range o.conns {
		all = append(all, c.bytes())
	}
	return all
}

// take returns what all connections have read, and forgets it.
func (o *rawOrigin) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for _, c := range o.conns {
		c.mu.Lock()
		if len(c.read) > 0 {
			all = append(all, string(c.read))
		}
		c.read = nil
		c.mu.Unlock()
	}
	return all
}

// use makes a rig's proxy reach o for every host, instead of the rig's origin.
func (o *rawOrigin) use(r *rig, c *proxy.Config) {
	c.RootCAs = o.roots
	c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, o.listen.Addr().String())
	}
}

// echo answers every request with its request line, and its body's length.
func echo(c *rawConn) {
	for echoOnce(c, "") == nil {
	}
}

// echoAndClose answers one request on each connection.
func echoAndClose(c *rawConn) { echoOnce(c, "Connection: close\r\n") }

func echoOnce(c *rawConn, more string) error {
	r, err := http.ReadRequest(c.br)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Line: "+r.Method+" "+r.RequestURI+"\r\nX-Length: "+strconv.FormatInt(n, 10)+"\r\n"+more+"Content-Length: 0\r\n\r\n")
	return err
}

// answer is one response as a test looks at it.
type answer struct {
	status int
	header http.Header
	body   string
}

// answers reads responses until the connection ends.
func answers(t testing.TB, br *bufio.Reader, method string) []answer {
	t.Helper()
	var all []answer
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Error("the connection neither answers nor ends")
			}
			return all
		}
		body, _ := io.ReadAll(resp.Body)
		all = append(all, answer{resp.StatusCode, resp.Header, string(body)})
	}
}

// requestsIn counts the requests that parsers of different leniency find in
// what an origin read. They must agree: a stream on which they do not is the
// one that smuggles.
func requestsIn(stream string) map[string]int {
	counts := map[string]int{}
	for name, p := range map[string]parser{
		"strict":            {},
		"bare LF":           {bareLF: true},
		"length first":      {lengthFirst: true},
		"bare LF, length":   {bareLF: true, lengthFirst: true},
		"any coding chunks": {bareLF: true, looseTE: true},
		"first length":      {firstLength: true, lengthFirst: true, bareLF: true},
	} {
		counts[name] = p.count(stream)
	}
	return counts
}

// parser is a model of an origin that reads sloppily.
type parser struct{ bareLF, lengthFirst, looseTE, firstLength bool }

// count is -1 when the stream is not whole requests.
func (p parser) count(s string) int {
	for n := 0; ; n++ {
		if strings.Trim(s, "\r\n") == "" {
			return n
		}
		head, rest, ok := strings.Cut(s, "\r\n\r\n")
		if p.bareLF {
			if h, r, found := strings.Cut(s, "\n\n"); found && len(h) < len(head) {
				head, rest, ok = h, r, true
			}
		}
		if !ok {
			return -1
		}
		length, chunked, hasLength := 0, false, false
		for _, line := range strings.Split(strings.ReplaceAll(head, "\r\n", "\n"), "\n")[1:] {
			name, value, _ := strings.Cut(line, ":")
			name, value = strings.ToLower(strings.TrimSpace(name)), strings.ToLower(strings.TrimSpace(value))
			switch {
			case name == "content-length" && (!hasLength || !p.firstLength):
				length, _ = strconv.Atoi(strings.TrimPrefix(value, "+"))
				hasLength = true
			case name == "transfer-encoding" && (value == "chunked" || p.looseTE && strings.Contains(value, "chunked")):
				chunked = true
			}
		}
		if chunked && (!p.lengthFirst || !hasLength) {
			if rest, ok = skipChunks(rest); !ok {
				return -1
			}
		} else {
			if length > len(rest) {
				return -1
			}
			rest = rest[length:]
		}
		s = rest
	}
}

func skipChunks(s string) (rest string, ok bool) {
	for {
		line, after, found := strings.Cut(s, "\n")
		if !found {
			return "", false
		}
		size, err := strconv.ParseUint(strings.TrimSpace(strings.SplitN(line, ";", 2)[0]), 16, 31)
		if err != nil || int(size)+2 > len(after) && size > 0 {
			return "", false
		}
		if size == 0 {
			_, rest, ok = strings.Cut("\r\n"+after, "\r\n\r\n")
			return rest, ok
		}
		s = after[size:]
		s = strings.TrimPrefix(strings.TrimPrefix(s, "\r"), "\n")
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Errorf("never happened: %s", what)
}

// discardLog is for servers whose complaints are expected.
func discardLog() *log.Logger { return slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug) }
