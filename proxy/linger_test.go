package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// A client that looks for the answer only when it has sent its whole request gets
// it, whoever answers before the end of the body, and whatever becomes of the
// connection. (Python's clients are like that.)
func TestAnswersToLargeUploads(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	})
	failing := newRig(t, false, nil)
	failing.source.set("", errors.New("no credential"))
	const size = 16 << 20
	for _, tt := range []struct {
		name string
		dial func() net.Conn
		line string
		want int
	}{
		{"the origin", func() net.Conn { c, _ := r.tls(apiHost + ":443"); return c }, "POST / HTTP/1.1\r\nHost: " + apiHost, 413},
		{"a refusal", func() net.Conn { c, _ := failing.tls(apiHost + ":443"); return c }, "POST / HTTP/1.1\r\nHost: " + apiHost, 502},
		{"a refusal of a stranger", r.dial, "POST http://" + apiHost + "/ HTTP/1.1\r\nHost: " + apiHost, 407},
		{"a malformed request", func() net.Conn { c, _ := r.tls(apiHost + ":443"); return c }, "POST / HTTP/1.1\r\nHost: " + apiHost + "\r\nContent-Length: +1", 400},
	} {
		for _, connection := range []string{"keep-alive", "close"} {
			t.Run(tt.name+", "+connection, func(t *testing.T) {
				c := tt.dial()
				if _, err := fmt.Fprintf(c, "%s\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n", tt.line, connection, size); err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(c, io.LimitReader(zeros{}, size)); err != nil {
					t.Fatalf("after %d bytes of the body: %v", n, err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != tt.want {
					t.Errorf("got %d, %v, want %d", resp.StatusCode, err, tt.want)
				}
			})
		}
	}
}
