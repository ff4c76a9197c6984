package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
)

// TestUnaskedAnswers has an origin send a body where there must be none. It must
// not become the answer to the next request, whoever's that is.
func TestUnaskedAnswers(t *testing.T) {
	t.Parallel()
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	for _, tt := range []struct{ name, method, head string }{
		{"HEAD", http.MethodHead, "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"},
		{"204", http.MethodGet, "HTTP/1.1 204 No Content\r\n\r\n"},
		{"304", http.MethodGet, "HTTP/1.1 304 Not Modified\r\n\r\n"},
		{"longer than its length", http.MethodGet, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			origin := newRawOrigin(t, func(c *rawConn) {
				for {
					req, err := http.ReadRequest(c.br)
					if err != nil {
						return
					}
					if req.URL.Path == "/victim" {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal")
						continue
					}
					if err := inOneSegment(c, tt.head, forged); err != nil {
						return
					}
				}
			}, "http/1.1")
			r := newRig(t, false, nil, origin.use)
			attacker, victim := r.client(false), r.client(false)
			warm(t, victim)
			for range 20 {
				req, _ := http.NewRequest(tt.method, "https://"+apiHost+"/", nil)
				resp, err := attacker.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if got := warm(t, victim); got != "real" {
					t.Fatalf("the next client got %q", got)
				}
			}
		})
	}
}

func warm(t *testing.T, client *http.Client) string {
	t.Helper()
	resp, err := client.Get("https://" + apiHost + "/victim")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// inOneSegment sends two TLS records with one write.
func inOneSegment(c *rawConn, first, second string) error {
	wire := c.Conn.(*tls.Conn).NetConn().(*corked)
	wire.held = new(bytes.Buffer)
	io.WriteString(c, first)
	io.WriteString(c, second)
	held := wire.held.Bytes()
	wire.held = nil
	_, err := wire.Write(held)
	return err
}

// corkedListener's connections can hold back what TLS writes.
type corkedListener struct{ net.Listener }

func (l corkedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &corked{Conn: c}, err
}

type corked struct {
	net.Conn
	held *bytes.Buffer
}

func (c *corked) Write(p []byte) (int, error) {
	if c.held != nil {
		return c.held.Write(p)
	}
	return c.Conn.Write(p)
}
