package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// sharedOrigin is an HTTP/2 origin, to which all clients share a connection.
func sharedOrigin(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/hints":
		for range 20000 {
			w.Header().Set("Link", strings.Repeat("x", 4<<10))
			w.WriteHeader(http.StatusEarlyHints)
			if r.Context().Err() != nil {
				return
			}
		}
	case "/large":
		piece := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}
	io.WriteString(w, "ok")
}

// TestClientThatDoesNotRead has a client leave lying what it asked for. Others
// that talk to the same origin must not be kept waiting by that.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path  string
		times int
		h2    bool
	}{{"/hints", 1, false}, {"/hints", 1, true}, {"/large", 20, false}, {"/large", 20, true}, {"/large", 200, true}} {
		name := fmt.Sprint(strings.TrimPrefix(tt.path, "/"), " h1 ", tt.times)
		if tt.h2 {
			name = fmt.Sprint(strings.TrimPrefix(tt.path, "/"), " h2 ", tt.times)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, true, sharedOrigin)
			victim := r.client(true)
			fine := func(when string) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+apiHost+"/", nil)
				resp, err := victim.Do(req)
				if err != nil {
					t.Fatalf("%s: %v", when, err)
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); string(body) != "ok" || err != nil {
					t.Fatalf("%s: got %q, %v", when, body, err)
				}
			}
			fine("before")
			var h *h2Client
			for i := range tt.times {
				if tt.h2 {
					if i%100 == 0 {
						h = r.h2(apiHost + ":443")
					}
					h.open(true, get(tt.path))
					continue
				}
				c, _ := r.tls(apiHost + ":443")
				io.WriteString(c, "GET "+tt.path+" HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
			}
			for range 20 {
				fine("beside a client that does not read")
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}
