package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/injector"
	"authsome/provider"
	"authsome/proxy"
	"authsome/vault/secret"
)

// named gives every provider a credential of its own.
type named struct{}

func (named) Credential(_ context.Context, provider, _ string) (secret.Text, error) {
	return secret.New(canary + "-" + provider), nil
}

func (named) Refresh(_ context.Context, provider, _ string, _ secret.Text) (secret.Text, error) {
	return secret.New(canary + "-" + provider + "-again"), nil
}

const reuseHosts = 6

// namedRoutes routes each host to its own provider. The last host's connection
// has a name, so that it can be taken away from requests that are under way.
func namedRoutes(t *testing.T, last string) *injector.Table {
	var routes []*injector.Route
	for n := range reuseHosts {
		name := fmt.Sprintf("p%d", n)
		pattern, err := provider.ParseHostURL(name + ".example.test")
		if err != nil {
			t.Error(err)
			return nil
		}
		connection := "default"
		if n == reuseHosts-1 {
			connection = last
		}
		routes = append(routes, &injector.Route{Provider: name, Connection: connection, Pattern: pattern, Refreshable: true,
			Injects: []provider.Inject{{Manner: provider.MannerBearer}}})
	}
	return injector.NewTable(routes)
}

// ownedBy reports what of a message is another's: every X- field, and every byte
// of the body, is made of its id.
func ownedBy(id string, h http.Header, trailer http.Header, body []byte) error {
	for _, fields := range []http.Header{h, trailer} {
		for name, values := range fields {
			if strings.HasPrefix(name, "X-") && !slices.Equal(values, []string{id}) {
				return fmt.Errorf("%s: %s is %q", id, name, values)
			}
		}
	}
	if !bytes.HasPrefix(bytes.Repeat([]byte(id), len(body)/len(id)+1), body) {
		return fmt.Errorf("%s: the body is another's", id)
	}
	return nil
}

// ownedOrigin answers in the way that the path asks for, after a look at whether
// all of the request belongs together.
func ownedOrigin(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Id")
		host, _, _ := strings.Cut(r.Host, ".")
		want := "Bearer " + canary + "-" + host
		if got := r.Header.Get("Authorization"); got != want && got != want+"-again" {
			t.Errorf("%s: the credential at %s is %q", id, r.Host, got)
		}
		_, kind, _ := strings.Cut(r.URL.Path[1:], "/")
		if r.URL.Path != "/"+id+"/"+kind || r.URL.RawQuery != "id="+id || r.Header.Get("Cookie") != id || r.Header["Connection"] != nil && kind != "upgrade" {
			t.Errorf("%s: the request is for %s, with %v", id, r.RequestURI, r.Header)
		}
		optional := "X-" + string('A'+rune(rand.IntN(8)))
		w.Header()["X-Id"], w.Header()[optional] = []string{id}, []string{id}
		switch kind {
		case "early": // before the body is read
			w.WriteHeader(http.StatusForbidden)
			return
		case "abort":
			panic(http.ErrAbortHandler)
		case "hints":
			w.WriteHeader(http.StatusEarlyHints)
		case "upgrade":
			w.Header()["Connection"], w.Header()["Upgrade"] = []string{"Upgrade"}, []string{"own"}
			w.WriteHeader(http.StatusSwitchingProtocols)
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				io.WriteString(c, id)
				c.Close()
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		if err := ownedBy(id, r.Header, r.Trailer, body); err != nil {
			t.Errorf("at the origin: %v", err)
		}
		switch kind {
		case "nothing":
			w.WriteHeader(http.StatusNoContent)
		case "unchanged":
			w.WriteHeader(http.StatusNotModified)
		case "unauthorized":
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, id)
		case "cut":
			w.Header().Set("Content-Length", "100000")
			io.WriteString(w, id)
			panic(http.ErrAbortHandler)
		case "trailer":
			w.Header().Set("Trailer", "X-End")
			io.WriteString(w, strings.Repeat(id, rand.IntN(2000)))
			w.(http.Flusher).Flush()
			w.Header().Set("X-End", id)
		default:
			io.WriteString(w, strings.Repeat(id, rand.IntN(200)))
		}
	}
}

// owned is a request, and what is to be found in its answer.
type owned struct {
	id, method, kind string
	refused          bool // by the proxy
}

// writeOwned writes a request of a kind by hand, all of it at once.
func writeOwned(w *bytes.Buffer, host, id string) owned {
	kinds := []string{"plain", "plain", "plain", "trailer", "nothing", "unchanged", "unauthorized", "hints", "early", "abort", "cut", "elsewhere", "trace", "upgrade"}
	o := owned{id: id, method: http.MethodGet, kind: kinds[rand.IntN(len(kinds))]}
	version, more, body := "1.1", "", ""
	size := []int{1, 100, 9000}[rand.IntN(3)] // the last is sent while the answer is waited for
	switch rand.IntN(6) {
	case 0:
		o.method, body = http.MethodPost, strings.Repeat(id, size)
		more = fmt.Sprintf("Content-Length: %d\r\n", len(body))
	case 1:
		o.method, body = http.MethodPut, strings.Repeat(id, size)
		more, body = "Transfer-Encoding: chunked\r\nTrailer: X-End\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\nX-End: %s\r\n\r\n", len(body), body, id)
	case 2:
		o.method = http.MethodHead
	case 3:
		version, more = "1.0", "Connection: keep-alive\r\n"
	case 4:
		more = "Connection: keep-alive, X-Gone\r\nX-Gone: for the proxy\r\nTE: trailers\r\n"
	}
	if body != "" && o.kind == "early" && rand.IntN(2) == 0 {
		// Written twice it is not ours to answer, and the connection goes on
		// while a goroutine waits for the origin's word to send the body.
		more += "Expect: 100-continue\r\nExpect: 100-continue\r\n"
	} else if body != "" && rand.IntN(3) == 0 {
		more += "Expect: 100-continue\r\nIdempotency-Key: " + id + "\r\n"
	}
	named := host
	switch o.kind {
	case "elsewhere":
		o.refused, named = true, "p9.example.test"
	case "trace":
		o.refused, o.method = true, http.MethodTrace
	case "abort":
		o.refused = true
	case "upgrade":
		o.method, version, body, more = http.MethodGet, "1.1", "", "Connection: Upgrade\r\nUpgrade: own\r\n"
	}
	fmt.Fprintf(w, "%s /%s/%s?id=%s HTTP/%s\r\nHost: %s\r\nAuthorization: Bearer %s\r\nCookie: %s\r\nX-Id: %s\r\nX-%c: %s\r\n%s\r\n%s",
		o.method, id, o.kind, id, version, named, id, id, id, 'A'+rune(rand.IntN(8)), id, more, body)
	return o
}

// checkOwned reads the answer to o. It reports whether it is whole, and the
// connection goes on.
func checkOwned(t *testing.T, br *bufio.Reader, o owned) (whole, again bool) {
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: o.method})
		if err != nil {
			if strings.Contains(err.Error(), "malformed") {
				t.Errorf("%s: %v", o.id, err)
			}
			return false, false
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			got, err := io.ReadAll(br)
			if err := ownedBy(o.id, resp.Header, nil, got); err != nil {
				t.Errorf("the upgraded connection for %v", err)
			}
			return err == nil, false
		}
		if resp.StatusCode < 200 {
			if err := ownedBy(o.id, resp.Header, nil, nil); err != nil || resp.StatusCode == http.StatusEarlyHints && resp.Header.Get("X-Id") == "" {
				t.Errorf("%s: a hint with %v", o.id, resp.Header)
			}
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Header.Get("Authsome-Error") != "" {
			if resp.Header.Get("X-Id") != "" {
				t.Errorf("%s: a refusal with the fields of an answer: %v", o.id, resp.Header)
			}
			return err == nil, err == nil && !resp.Close
		}
		if o.refused {
			t.Errorf("%s: got %d %v for what is refused", o.id, resp.StatusCode, resp.Header)
		}
		if resp.Header.Get("X-Id") != o.id {
			t.Errorf("%s: got the answer to %q", o.id, resp.Header.Get("X-Id"))
		}
		trailer := resp.Trailer
		if err != nil { // before the end, what was announced has no value
			trailer = nil
		}
		if err := ownedBy(o.id, resp.Header, trailer, body); err != nil {
			t.Errorf("the answer for %v", err)
		}
		return err == nil, err == nil && !resp.Close
	}
}

// TestHeadsAreNobodyElses has many clients send requests of all kinds, one behind
// the other on each connection, to hosts with a credential each. The objects
// that heads are read into are used again, and with the race detector whoever
// still looks at one is found; without it, what is mixed up is.
func TestHeadsAreNobodyElses(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("origin h2=%v", h2), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, h2, ownedOrigin(t), func(r *rig, c *proxy.Config) {
				r.inject = injector.New(named{})
				r.inject.Update(namedRoutes(t, "a"))
				c.Injector = r.inject
			})
			var next, whole atomic.Int64
			var clients sync.WaitGroup
			until := time.Now().Add(2 * time.Second)
			for n := range 16 {
				host := fmt.Sprintf("p%d.example.test", n%reuseHosts)
				clients.Go(func() {
					for time.Now().Before(until) && !t.Failed() {
						c, br := r.tls(host + ":443")
						whole.Add(burstOf(t, c, br, host, &next))
					}
				})
			}
			clients.Go(func() { // logs out and in
				for n := 0; time.Now().Before(until); n++ {
					r.inject.Update(namedRoutes(t, string('a'+rune(n%2))))
					time.Sleep(20 * time.Millisecond)
				}
			})
			clients.Wait()
			if whole.Load() < 100 {
				t.Errorf("%d of %d requests were answered", whole.Load(), next.Load())
			}
		})
	}
}

// burstOf sends some requests on a connection, reads their answers, and may
// leave before it has them. It returns how many were whole.
func burstOf(t *testing.T, c net.Conn, br *bufio.Reader, host string, next *atomic.Int64) (whole int64) {
	defer c.Close()
	for range 4 {
		var burst bytes.Buffer
		var sent []owned
		for range 1 + rand.IntN(6) {
			sent = append(sent, writeOwned(&burst, host, fmt.Sprintf("[%06d]", next.Add(1))))
		}
		out := burst.Bytes()
		if rand.IntN(8) == 0 {
			out = out[:rand.IntN(len(out))]
			defer time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, func() { c.Close() }).Stop()
		}
		written := make(chan error, 1)
		go func() {
			_, err := c.Write(out)
			written <- err
		}()
		again := true
		for _, o := range sent {
			var ok bool
			if ok, again = checkOwned(t, br, o); ok {
				whole++
			}
			if !again {
				c.Close()
				break
			}
		}
		if err := <-written; err != nil || !again {
			return whole
		}
	}
	return whole
}
