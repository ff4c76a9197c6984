package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRetryKeepsTheBody has a pooled connection close under a request whose body
// waits for "100 Continue": what the second attempt sends must be all of it.
func TestRetryKeepsTheBody(t *testing.T) {
	t.Parallel()
	const want = "every byte of it, once"
	for name, length := range map[string]int64{"length": int64(len(want)), "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int32
			got := make(chan string, 1)
			origin := newRawOrigin(t, func(c *rawConn) {
				stale := conns.Add(1) == 1
				for answered := false; ; answered = true {
					req, err := http.ReadRequest(c.br)
					if err != nil || stale && answered {
						return // closed without an answer: the request may be sent anew
					}
					if req.Header.Get("Expect") != "" {
						time.Sleep(200 * time.Millisecond) // whoever may not read the body has time to
						io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
						body, err := io.ReadAll(req.Body)
						got <- fmt.Sprint(string(body), " ", err)
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}, "http/1.1")
			r := newRig(t, false, nil, origin.use)
			client := r.client(false)
			client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
			if resp, err := client.Get("https://" + apiHost + "/"); err != nil {
				t.Fatal(err)
			} else {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			req, _ := http.NewRequest(http.MethodPost, "https://"+apiHost+"/", io.NopCloser(strings.NewReader(want)))
			req.ContentLength = length
			req.Header.Set("Expect", "100-continue")
			req.Header.Set("Idempotency-Key", "1")
			answered := make(chan error, 1)
			go func() {
				resp, err := client.Do(req)
				if err == nil {
					resp.Body.Close()
				}
				answered <- err
			}()
			if body := wait(t, "the body", got); body != want+" <nil>" {
				t.Errorf("the origin got %q, want %q", body, want)
			}
			wait(t, "the answer", answered)
		})
	}
}
