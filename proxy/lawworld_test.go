package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"authsome/ca"
	"authsome/proxy"
)

// lawWorld is a proxy, the pinned origin, and everybody else.
type lawWorld struct {
	rig  *rig
	away net.Listener // everybody else
	fake *tls.Config  // the impostor's

	mu     sync.Mutex // guards all below
	broken []string
	posing bool
	steady bool              // the one route has been in force since the beginning
	open   map[net.Conn]bool // of everybody else
	wg     sync.WaitGroup
}

func newLawWorld(f *testing.F) *lawWorld {
	w := &lawWorld{open: map[net.Conn]bool{}}
	w.rig = newRig(f, true, w.pinned, func(r *rig, c *proxy.Config) {
		c.Logger = nil
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, network, r.to(address))
			if err != nil {
				return nil, err
			}
			return &watchedWire{nc.(*net.TCPConn), w}, nil
		}
	})
	fakeCA, err := ca.New(f.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		f.Fatal(err)
	}
	w.fake = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return fakeCA.Leaf(context.Background(), apiHost)
	}}
	if w.away, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { w.away.Close(); w.begin(f) })
	go w.accept()
	w.rig.redirect(func(address string) string {
		w.mu.Lock()
		defer w.mu.Unlock()
		if address == apiHost+":443" && !w.posing {
			return w.rig.origin.Listener.Addr().String()
		}
		return w.away.Addr().String()
	})
	return w
}

// begin sets the world back to its ordinary state.
func (w *lawWorld) begin(t testing.TB) {
	w.rig.t = t
	w.verdict()
	w.impostor(false)
	w.rig.source.set(canary, nil)
	w.rig.route(apiHost)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steady = true
}

// unsettle says that routes change from now on.
func (w *lawWorld) unsettle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steady = false
}

// verdict waits until the proxy has let go of every client, ends what everybody
// else still has open and returns what was broken.
func (w *lawWorld) verdict() []string {
	for range 400 {
		if w.rig.metric("authsome_active_connections", "kind=client") == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w.mu.Lock()
	for c := range w.open {
		c.Close()
	}
	w.mu.Unlock()
	w.wg.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	broken := w.broken
	w.broken = nil
	return broken
}

// impostor puts somebody else where the pinned origin was, or back. Connections
// that the proxy has to the real one would hide it.
func (w *lawWorld) impostor(posing bool) {
	w.mu.Lock()
	changed := w.posing != posing
	w.posing = posing
	w.mu.Unlock()
	if changed {
		w.rig.origin.CloseClientConnections()
	}
}

func (w *lawWorld) breach(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

func (w *lawWorld) look(who string, p []byte) {
	if bytes.Contains(p, []byte(canary)) {
		w.breach("%s got the secret: %.200q", who, p)
	}
}

// pinned is the origin that the credential is for. While the route covers all of
// it, every request has the credential, once.
func (w *lawWorld) pinned(rw http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	values := r.Header.Values("Authorization")
	w.mu.Lock()
	steady := w.steady
	w.mu.Unlock()
	for _, v := range values {
		if strings.Contains(v, canary) && v != "Bearer "+canary {
			w.breach("the origin got %.100q", v)
		}
	}
	if host, _, _ := strings.Cut(r.Host, ":"); !strings.EqualFold(strings.TrimSuffix(host, "."), apiHost) {
		w.breach("the origin got a request for %.100q", r.Host)
	}
	if steady && (len(values) != 1 || values[0] != "Bearer "+canary) {
		w.breach("%s %.100q arrived with %d credentials", r.Method, r.URL, len(values))
	}
	rw.Header().Set("Content-Length", "2")
	io.WriteString(rw, "ok")
}

func (w *lawWorld) accept() {
	for {
		c, err := w.away.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.open[c] = true
		w.mu.Unlock()
		w.wg.Go(func() {
			w.elsewhere(c)
			c.Close()
			w.mu.Lock()
			delete(w.open, c)
			w.mu.Unlock()
		})
	}
}

// elsewhere is everybody else: it takes plaintext and TLS, poses as the origin
// as well as it can, and answers whatever it is asked.
func (w *lawWorld) elsewhere(c net.Conn) {
	var wire bytes.Buffer
	br := bufio.NewReader(io.TeeReader(c, &wire))
	defer func() { w.look("the wire elsewhere", wire.Bytes()) }()
	first, err := br.Peek(1)
	if err != nil {
		return
	}
	var in io.Reader = br
	var out io.Writer = c
	if first[0] == 0x16 {
		config := w.rig.origin.TLS.Clone()
		config.NextProtos = nil // what HTTP/2 compresses could not be searched
		w.mu.Lock()
		if w.posing {
			config = w.fake
		}
		w.mu.Unlock()
		tc := tls.Server(&aheadConn{c, br}, config)
		if tc.Handshake() != nil {
			return
		}
		in, out = tc, tc
	}
	var all []byte
	buf := make([]byte, 8<<10)
	for {
		n, err := in.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			break
		}
		io.WriteString(out, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
	w.look("elsewhere", all)
}

// watchedWire is a connection that the proxy has made, on which the secret must
// not be legible, whoever is at its other end.
type watchedWire struct {
	*net.TCPConn
	w *lawWorld
}

// Write implements net.Conn.
func (c *watchedWire) Write(p []byte) (int, error) {
	c.w.look("a wire in clear", p)
	return c.TCPConn.Write(p)
}

// ReadFrom implements io.ReaderFrom, past which nothing is written.
func (c *watchedWire) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, r)
}

// aheadConn reads what was read ahead first.
type aheadConn struct {
	net.Conn
	br *bufio.Reader
}

func (c *aheadConn) Read(p []byte) (int, error) { return c.br.Read(p) }
