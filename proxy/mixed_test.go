package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// mixedOrigin answers in many ways, and always with the id of its request.
func mixedOrigin(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/ws") {
		socketOrigin(w, r)
		return
	}
	id, size := r.Header.Get("X-Id"), 0
	fmt.Sscan(r.Header.Get("X-Size"), &size)
	w.Header().Set("X-Id", id)
	switch r.URL.Path {
	case "/hints":
		w.Header().Set("Link", "</"+id+">")
		w.Header().Set("Content-Length", "0") // has net/http's HTTP/2 server write a copy
		for range 3 {
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Del("Content-Length")
	case "/early":
		w.WriteHeader(http.StatusForbidden) // before the body is read
		return
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
		return
	case "/slow":
		time.Sleep(time.Duration(rand.IntN(80)) * time.Millisecond)
	case "/unauthorized":
		w.WriteHeader(http.StatusUnauthorized)
	case "/cut":
		w.Header().Set("Content-Length", "100000")
		io.WriteString(w, id)
		panic(http.ErrAbortHandler)
	case "/length":
		w.Header().Set("Content-Length", strconv.Itoa(size*len(id)))
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && len(body) > 0 && !bytes.Equal(body, bytes.Repeat([]byte(id), len(body)/len(id))) {
		w.Header().Set("X-Mixed", "the body of another")
	}
	w.Header().Set("Trailer", "X-End")
	io.WriteString(w, strings.Repeat(id, size/2))
	w.(http.Flusher).Flush()
	io.WriteString(w, strings.Repeat(id, size-size/2))
	w.Header().Set("X-End", id)
}

// TestMixedUnderCancellation has many clients do everything at once and change
// their mind. What a client gets is the answer to its own request, or none.
func TestMixedUnderCancellation(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("origin h2=%v", h2), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, h2, mixedOrigin)
			r.routeAs("oauth2", apiHost)
			var next, whole atomic.Int64
			var clients sync.WaitGroup
			until := time.Now().Add(2 * time.Second)
			for n := range 12 {
				client := r.client(n%2 == 0)
				clients.Go(func() {
					for time.Now().Before(until) && !t.Failed() {
						if err := mixedRequest(t, client, fmt.Sprintf("[%06d]", next.Add(1))); err == nil {
							whole.Add(1)
						}
					}
				})
			}
			for range 2 {
				client := &http.Client{Transport: overH2{r.h2conn(apiHost)}}
				clients.Go(func() {
					for time.Now().Before(until) && !t.Failed() {
						mixedSocket(t, client)
					}
				})
			}
			clients.Wait()
			if whole.Load() < 20 {
				t.Errorf("%d of %d requests were answered", whole.Load(), next.Load())
			}
		})
	}
}

func mixedRequest(t *testing.T, client *http.Client, id string) error {
	paths := []string{"/", "/hints", "/early", "/nothing", "/slow", "/unauthorized", "/cut", "/length"}
	path, size := paths[rand.IntN(len(paths))], rand.IntN(20000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if rand.IntN(3) == 0 {
		defer time.AfterFunc(time.Duration(rand.IntN(40_000))*time.Microsecond, cancel).Stop()
	}
	method, body := http.MethodGet, io.Reader(nil)
	switch rand.IntN(4) {
	case 0:
		method, body = http.MethodPost, strings.NewReader(strings.Repeat(id, rand.IntN(20000)+1))
	case 1:
		method, body = http.MethodPut, io.MultiReader(strings.NewReader(strings.Repeat(id, rand.IntN(20000)+1)))
	case 2:
		method = http.MethodHead
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+apiHost+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Id", id)
	req.Header.Set("X-Size", strconv.Itoa(size))
	if body != nil && rand.IntN(2) == 0 {
		req.Header.Set("Expect", "100-continue")
		req.Header.Set("Idempotency-Key", id)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if code := resp.Header.Get("Authsome-Error"); code != "" {
		return errors.New(code)
	}
	if got := resp.Header.Get("X-Id"); got != id {
		t.Errorf("%s %s %s: got the answer to %q", method, path, id, got)
	}
	if mixed := resp.Header.Get("X-Mixed"); mixed != "" {
		t.Errorf("%s %s %s: the origin got %s", method, path, id, mixed)
	}
	if rand.IntN(8) == 0 {
		return errors.New("left it there")
	}
	got, err := io.ReadAll(resp.Body)
	if want := strings.Repeat(id, size); !strings.HasPrefix(want, string(got)) {
		t.Errorf("%s %s %s: got bytes of another", method, path, id)
	} else if err == nil && resp.StatusCode == http.StatusOK && method != http.MethodHead && string(got) != want {
		t.Errorf("%s %s %s: got %d bytes for whole, want %d", method, path, id, len(got), len(want))
	}
	return err
}

// mixedSocket opens a WebSocket on an HTTP/2 stream, and may leave it there.
func mixedSocket(t *testing.T, client *http.Client) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if rand.IntN(3) == 0 {
		defer time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, cancel).Stop()
	}
	ws, _, err := websocket.Dial(ctx, "https://"+apiHost+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	if _, _, err := ws.Read(ctx); err != nil { // how the origin was asked
		return
	}
	for n := range rand.IntN(5) {
		want := fmt.Sprintf("%d %d", n, rand.Int())
		if ws.Write(ctx, websocket.MessageText, []byte(want)) != nil {
			return
		}
		_, got, err := ws.Read(ctx)
		if err == nil && string(got) != want {
			t.Errorf("a WebSocket got %q, want %q", got, want)
		}
	}
}
