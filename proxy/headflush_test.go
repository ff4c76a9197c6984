package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// An answer's head reaches the client though nothing of its body has come, and
// with it when it has.
func TestHeadsDoNotWaitForBodies(t *testing.T) {
	t.Parallel()
	for _, originH2 := range []bool{false, true} {
		for _, clientH2 := range []bool{false, true} {
			for _, length := range []string{"", "4"} {
				t.Run(fmt.Sprintf("origin h2=%v, client h2=%v, length %q", originH2, clientH2, length), func(t *testing.T) {
					t.Parallel()
					seen := make(chan struct{})
					r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
						if length != "" {
							w.Header().Set("Content-Length", length)
						}
						w.WriteHeader(http.StatusOK)
						if req.URL.Path == "/late" {
							http.NewResponseController(w).Flush()
							select {
							case <-seen:
							case <-req.Context().Done():
								return
							}
						}
						io.WriteString(w, "body")
					})
					client := r.client(clientH2)
					for _, path := range []string{"/late", "/", "/", "/"} {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
						defer cancel()
						req, err := http.NewRequestWithContext(ctx, "GET", "https://"+apiHost+path, nil)
						if err != nil {
							t.Fatal(err)
						}
						resp, err := client.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						if path == "/late" {
							close(seen) // now that the head is there
						}
						body, err := io.ReadAll(resp.Body)
						if resp.Body.Close(); string(body) != "body" || err != nil {
							t.Errorf("%s: got %q, %v", path, body, err)
						}
					}
				})
			}
		}
	}
}
