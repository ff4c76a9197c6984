package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// touched is a body that knows whether anybody has read from it.
type touched struct {
	io.Reader
	read atomic.Bool
}

func (b *touched) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.Reader.Read(p)
}

// The word to go on is the origin's, whatever either side speaks: a client that
// waits for it sends nothing to an origin that refuses.
func TestContinueInEveryCombination(t *testing.T) {
	t.Parallel()
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/refuse" {
				sleep(50) // or a proxy that asks on its own would not be noticed
				w.WriteHeader(http.StatusExpectationFailed)
				return
			}
			whoami(w, req)
		})
		client := r.client(clientH2)
		client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
		for _, want := range []int{417, 200, 417} {
			path := map[int]string{417: "/refuse", 200: "/take"}[want]
			asked := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { asked = true }})
			body := &touched{Reader: strings.NewReader("hello")}
			req, _ := http.NewRequestWithContext(ctx, "POST", "https://"+apiHost+path, body)
			req.ContentLength = 5
			req.Header.Set("Expect", "100-continue")
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			taken := want == 200 // an HTTP/1.1 client may send its body after a refusal, to keep the connection
			if resp.StatusCode != want || asked != taken || clientH2 && body.read.Load() != taken || taken && string(got) != "hello" {
				t.Errorf("%s: got %d %q; asked for the body: %v; body sent: %v", path, resp.StatusCode, got, asked, body.read.Load())
			}
			if !taken && !clientH2 && !resp.Close {
				t.Error("nobody can tell whether the body comes, and the connection is to be used on")
			}
		}
	})
}

// Informational answers arrive before the answer, and apart from it.
func TestEarlyHintsInEveryCombination(t *testing.T) {
	t.Parallel()
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		seen := make(chan struct{}, 2)
		r := newRig(t, originH2, func(w http.ResponseWriter, _ *http.Request) {
			for _, link := range []string{"</a>", "</b>"} {
				w.Header().Set("Link", link)
				w.WriteHeader(http.StatusEarlyHints)
				wait(t, "the client has the hint", seen)
			}
			w.Header().Del("Link")
			io.WriteString(w, "whole")
		})
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(status, h.Get("Link")))
			seen <- struct{}{}
			return nil
		}})
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+apiHost, nil)
		resp, err := r.client(clientH2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "whole" || resp.Header.Get("Link") != "" || fmt.Sprint(hints) != "[103</a> 103</b>]" {
			t.Errorf("got %v, %q, Link %q, %v", hints, body, resp.Header.Get("Link"), err)
		}
	})
}

// Answers without a body have none, say of it what the origin said, and leave
// the connection fit for the next.
func TestBodilessInEveryCombination(t *testing.T) {
	t.Parallel()
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Etag", `"1"`)
			if length := req.URL.Query().Get("length"); length != "" {
				w.Header().Set("Content-Length", length)
			}
			if status, err := strconv.Atoi(req.URL.Query().Get("status")); err == nil {
				w.WriteHeader(status)
			}
			if req.URL.Path == "/body" {
				io.WriteString(w, "whole")
			}
		})
		client := r.client(clientH2)
		for range 2 {
			for _, tt := range []struct {
				method, query string
				status        int
				length        int64
			}{
				{"HEAD", "/?length=12345", 200, 12345},
				{"HEAD", "/", 200, -1},
				{"HEAD", "/?length=7&status=404", 404, 7},
				{"GET", "/?status=204", 204, 0},
				{"DELETE", "/?status=204", 204, 0},
				{"GET", "/?status=304", 304, 0},
				{"GET", "/?length=0", 200, 0},
				{"GET", "/body?length=5", 200, 5},
			} {
				req, _ := http.NewRequest(tt.method, "https://"+apiHost+tt.query, nil)
				resp, err := client.Do(req)
				if err != nil {
					t.Fatalf("%s %s: %v", tt.method, tt.query, err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				want := map[bool]string{true: "whole"}[strings.HasPrefix(tt.query, "/body")]
				if err != nil || string(body) != want || resp.StatusCode != tt.status || resp.Header.Get("Etag") != `"1"` {
					t.Errorf("%s %s: got %d, %q, Etag %s, %v", tt.method, tt.query, resp.StatusCode, body, resp.Header.Get("Etag"), err)
				}
				if tt.length > 0 && resp.ContentLength != tt.length {
					t.Errorf("%s %s: Content-Length %d, want %d", tt.method, tt.query, resp.ContentLength, tt.length)
				}
				if _, found := resp.Header["Transfer-Encoding"]; found || tt.status == 204 && resp.Header["Content-Length"] != nil {
					t.Errorf("%s %s: framing of a body that is not there: %v", tt.method, tt.query, resp.Header)
				}
			}
		}
		r.reaches(1, "authsome_active_connections", "kind=client") // one connection did it all
	})
}

// Connection: close, from either side, ends that side's connection after the
// answer, and is nothing that the other side hears of.
func TestCloseInEveryCombination(t *testing.T) {
	t.Parallel()
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
			if req.Close || req.Header.Get("Connection") != "" {
				t.Error("the origin was told to close")
			}
			if req.URL.Path == "/origin" {
				w.Header().Set("Connection", "close")
			}
			io.WriteString(w, "whole")
		})
		client := r.client(clientH2)
		for _, path := range []string{"/", "/client", "/origin", "/origin", "/"} {
			req, _ := http.NewRequest("GET", "https://"+apiHost+path, nil)
			req.Close = path == "/client"
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != "whole" {
				t.Errorf("%s: got %q, %v", path, body, err)
			}
			if resp.Close != (path == "/client" && !clientH2) {
				t.Errorf("%s: the answer closes: %v", path, resp.Close)
			}
		}
	})
}

// Lines of JSON that come one by one, the length known or not, are passed on one
// by one.
func TestTricklesInEveryCombination(t *testing.T) {
	t.Parallel()
	combos(t, func(t *testing.T, clientH2, originH2 bool) {
		next := make(chan struct{})
		r := newRig(t, originH2, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			if req.URL.Path == "/known" {
				w.Header().Set("Content-Length", "30")
			}
			for i := range 3 {
				fmt.Fprintf(w, "{\"n\":%d,\n", i) // in two parts, as buffers happen to end
				w.(http.Flusher).Flush()
				<-next
				io.WriteString(w, "}\n")
				w.(http.Flusher).Flush()
				<-next
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		for _, path := range []string{"/unknown", "/known"} {
			req, _ := http.NewRequestWithContext(ctx, "GET", "https://"+apiHost+path, nil)
			resp, err := r.client(clientH2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				for _, want := range []string{fmt.Sprintf("{\"n\":%d,\n", i), "}\n"} {
					b := make([]byte, len(want))
					if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != want {
						t.Fatalf("%s: got %q, %v, want %q", path, b, err, want)
					}
					next <- struct{}{} // only now does the origin go on
				}
			}
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Errorf("%s: after the end: %q, %v", path, rest, err)
			}
			resp.Body.Close()
		}
	})
}
