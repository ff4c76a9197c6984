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

// combos are the four combinations of what client and origin speak.
func combos(t *testing.T, f func(t *testing.T, clientH2, originH2 bool)) {
	for _, clientH2 := range []bool{false, true} {
		for _, originH2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("client h2=%v origin h2=%v", clientH2, originH2), func(t *testing.T) { f(t, clientH2, originH2) })
		}
	}
}

// A client that goes away must be noticed by the origin, at every stage of the
// request. Models think for minutes, and are paid by the minute.
func TestClientGoesAway(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method string
		body   func() io.Reader
		path   string
	}{
		{"waiting for the answer to a GET", "GET", nil, "/wait"},
		{"waiting for the answer to a POST without a body", "POST", nil, "/wait"},
		{"waiting for the answer to a small POST", "POST", func() io.Reader { return strings.NewReader("prompt") }, "/wait"},
		{"waiting for the answer to a chunked POST", "POST", func() io.Reader { return io.MultiReader(strings.NewReader("prompt")) }, "/wait"},
		{"waiting for the answer to a large POST", "POST", func() io.Reader { return io.LimitReader(zeros{}, 1<<20) }, "/wait"},
		{"in the middle of the answer", "GET", nil, "/stream"},
		{"in the middle of the answer to a POST", "POST", func() io.Reader { return strings.NewReader("prompt") }, "/stream"},
		{"in the middle of the upload", "POST", stuck, "/upload"},
		{"in the middle of both", "POST", stuck, "/both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			combos(t, func(t *testing.T, clientH2, originH2 bool) {
				started, gone := make(chan struct{}), make(chan time.Time, 1)
				r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
					defer func() { gone <- time.Now() }()
					if req.URL.Path == "/upload" {
						io.ReadFull(req.Body, make([]byte, 1))
						close(started)
						io.Copy(io.Discard, req.Body)
						return
					}
					if req.URL.Path == "/wait" {
						io.Copy(io.Discard, req.Body)
					} else {
						if req.URL.Path == "/both" { // or HTTP/1.1 would read the body first
							http.NewResponseController(w).EnableFullDuplex()
						}
						io.WriteString(w, "first")
						w.(http.Flusher).Flush()
					}
					close(started)
					if req.URL.Path == "/both" {
						io.Copy(io.Discard, req.Body)
						return
					}
					<-req.Context().Done()
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var body io.Reader
				if tt.body != nil {
					body = tt.body()
				}
				if pipe, ok := body.(io.Closer); ok { // net/http waits for a body to end
					context.AfterFunc(ctx, func() { pipe.Close() })
				}
				req, _ := http.NewRequestWithContext(ctx, tt.method, "https://"+apiHost+tt.path, body)
				failed := make(chan error, 1)
				go func() {
					resp, err := r.client(clientH2).Do(req)
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
					}
					failed <- err
				}()
				wait(t, "the request reaches the origin", started)
				time.Sleep(60 * time.Millisecond) // past the time after which a client is watched
				cancelled := time.Now()
				cancel()
				select {
				case at := <-gone:
					// 200 ms is the aim; the bound leaves room for a busy machine.
					if took := at.Sub(cancelled); took > 2*time.Second {
						t.Errorf("the origin noticed after %v", took)
					}
				case <-time.After(5 * time.Second):
					t.Error("the origin still works for a client that has gone")
				}
				if err := <-failed; err == nil {
					t.Error("the client got a whole answer")
				}
				if tt.path == "/upload" || tt.path == "/both" {
					return // a body that ends early is a bad request to who reads it
				}
				// The credential was sent, and nothing was refused.
				if e := r.event("inject"); e.Provider != "example" {
					t.Errorf("audit: %+v", e)
				}
				if got := r.metric("authsome_refusals_total"); got != 0 {
					t.Errorf("%v refusals were counted", got)
				}
			})
		})
	}
}

// An origin that goes away must be noticed by the client, and an answer that
// was cut must not look whole.
func TestOriginGoesAway(t *testing.T) {
	for _, tt := range []struct {
		name string
		path string
		want string // error code; "" for a cut body
	}{
		{"before the answer", "/before", "upstream_unreachable"},
		{"in the middle of a body of unknown length", "/chunked", ""},
		{"in the middle of a body of known length", "/known", ""},
		{"after a while", "/later", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			combos(t, func(t *testing.T, clientH2, originH2 bool) {
				r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
					switch req.URL.Path {
					case "/known":
						w.Header().Set("Content-Length", "1000")
						fallthrough
					case "/chunked":
						io.WriteString(w, "first")
						w.(http.Flusher).Flush()
					case "/later":
						io.WriteString(w, "first")
						w.(http.Flusher).Flush()
						time.Sleep(100 * time.Millisecond)
					}
					panic(http.ErrAbortHandler)
				})
				resp, err := r.client(clientH2).Post("https://"+apiHost+tt.path, "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if tt.want == "" && err == nil {
					t.Errorf("got %q and no error: a cut body looks whole", body)
				}
				if got := resp.Header.Get("Authsome-Error"); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// stuck is a body whose second byte does not come until the transport closes
// it, because its request was cancelled.
func stuck() io.Reader {
	r, w := io.Pipe()
	go w.Write([]byte("x"))
	return r
}

// wait waits for a channel, generously.
func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("never happened: %s", what)
		panic("unreachable")
	}
}

func sleep(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }
