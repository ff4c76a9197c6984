package proxy_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestHintsToAStreamThatIsReset has clients reset their streams while hints are
// on the way: what is written must not be changed meanwhile, which would end the
// process.
func TestHintsToAStreamThatIsReset(t *testing.T) {
	t.Parallel()
	origin := newRawOrigin(t, func(c *rawConn) {
		for {
			if _, err := http.ReadRequest(c.br); err != nil {
				return
			}
			for range 200 {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: a\r\nX-A: b\r\nX-B: c\r\n\r\n"); err != nil {
					return
				}
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}, "http/1.1")
	r := newRig(t, false, nil, origin.use)
	var clients sync.WaitGroup
	for range 4 {
		h := r.h2(apiHost + ":443")
		go io.Copy(io.Discard, h.conn)
		clients.Go(func() {
			for until := time.Now().Add(time.Second); time.Now().Before(until); {
				id := h.open(true, get("/"))
				time.Sleep(rand.N(2 * time.Millisecond))
				h.fr.WriteRSTStream(id, http2.ErrCodeCancel)
			}
		})
	}
	clients.Wait()
}
