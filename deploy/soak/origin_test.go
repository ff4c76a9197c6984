//go:build linux

package soak_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"authsome/ca"

	"github.com/coder/websocket"
)

// internet is every host but the proxy's own.
type internet struct {
	dns       *dns
	issuers   map[string]*issuer // by the first label of their hosts, and of the API's that takes their tokens
	authority *ca.Authority
	fault     originFaults // of *.fault.example.test

	mu   sync.Mutex // guards acks
	acks map[string]chan struct{}
}

// newInternet starts all hosts but those that break.
func newInternet(t *testing.T, issuers map[string]*issuer) *internet {
	t.Helper()
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{domain}})
	if err != nil {
		t.Fatal(err)
	}
	i := &internet{dns: newDNS(t), issuers: issuers, authority: authority, acks: map[string]chan struct{}{}}
	i.serve(t, plainOrigin+":443", i, "http/1.1")
	i.serve(t, plainOrigin+":80", i)
	i.serve(t, h2Origin+":443", i, "h2", "http/1.1")
	i.serve(t, authOrigin+":443", i.tokens(), "h2", "http/1.1")
	i.echo(t, plainOrigin+":7")
	return i
}

// tokens is every authorization server.
func (i *internet) tokens() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.issuers[label(r.Host)].ServeHTTP(w, r)
	})
}

// label is the first of a host's.
func label(host string) string {
	first, _, _ := strings.Cut(host, ".")
	return first
}

// serve runs one server, with TLS if it is told protocols. The server can be
// stopped, with all its connections.
func (i *internet) serve(t *testing.T, address string, h http.Handler, protocols ...string) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	// ReadTimeout is none: what the proxy does with slow bodies is the question.
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	if len(protocols) > 0 {
		server.TLSConfig = &tls.Config{NextProtos: protocols, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return i.authority.Leaf(context.Background(), hello.ServerName)
		}}
		if protocols[0] != "h2" {
			server.Protocols = new(http.Protocols)
			server.Protocols.SetHTTP1(true)
		}
		go server.ServeTLS(l, "", "")
	} else {
		go server.Serve(l)
	}
	t.Cleanup(func() { server.Close() })
	return func() { server.Close() }
}

// echo gives back what it gets, until the other side has ended.
func (i *internet) echo(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
				c.(*net.TCPConn).CloseWrite()
			}()
		}
	}()
}

// apiKey is what the API's hosts want, turnKey what turn.example.test does.
const apiKey = canary + "api"

func turnKey(n int) string { return fmt.Sprintf("%sturn-%d", canary, n) }

// who says whose credential a request carries: "" when it carries none that
// this host takes.
func (i *internet) who(r *http.Request) string {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	name := label(r.Host)
	number, turn := strings.CutPrefix(token, canary+"turn-")
	switch {
	case !bearer:
	case i.issuers[name] != nil:
		if i.issuers[name].accepts(token) {
			return "a token"
		}
	case name == "turn" && turn:
		return "key " + number
	case name != "turn" && token == apiKey:
		return "the key"
	}
	return ""
}

// open reports whether a host asks for no credential.
func open(host string) bool {
	return strings.HasPrefix(host, "elsewhere.") || strings.HasPrefix(host, "plain.")
}

// ServeHTTP is every origin. It says in a header whose credential came.
func (i *internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who := i.who(r)
	w.Header().Set("Came", who)
	switch {
	case who == "" && !open(r.Host):
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case open(r.Host) && strings.Contains(fmt.Sprint(r.Header), canary):
		http.Error(w, "a credential came that is not for this host", http.StatusTeapot)
	case i.fault.disturbs(w, r):
	case r.URL.Path == "/bytes":
		i.bytes(w, r)
	case r.URL.Path == "/sum":
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		if err != nil { // the client has gone
			return
		}
		fmt.Fprintf(w, "%d %s", n, hex.EncodeToString(sum.Sum(nil)))
	case r.URL.Path == "/events":
		i.events(w, r)
	case r.URL.Path == "/ack":
		i.ack(r.FormValue("id"))
	case r.URL.Path == "/socket":
		i.socket(w, r)
	default:
		http.NotFound(w, r)
	}
}

// pattern is the body that both sides know.
func pattern(seed uint64, n int64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), n)
}

func (i *internet) bytes(w http.ResponseWriter, r *http.Request) {
	seed, _ := strconv.ParseUint(r.FormValue("seed"), 10, 64)
	n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
	if r.FormValue("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	io.Copy(w, pattern(seed, n)) // fails when the client has gone
}

// events sends one event and then waits for the client to have read it: a proxy
// that holds it back never sees the end.
func (i *internet) events(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	acked := make(chan struct{}, 1)
	i.mu.Lock()
	i.acks[id] = acked
	i.mu.Unlock()
	defer func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.acks, id)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	fmt.Fprintf(w, "data: event 0 of %s\n\n", id)
	flush()
	select {
	case <-acked:
	case <-r.Context().Done():
		return
	}
	for n := 1; n < events; n++ {
		if !pause(r.Context(), 50*time.Millisecond) {
			return
		}
		fmt.Fprintf(w, "data: event %d of %s\n\n", n, id)
		flush()
	}
}

// events of a stream.
const events = 20

func (i *internet) ack(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if acked := i.acks[id]; acked != nil {
		select {
		case acked <- struct{}{}:
		default: // twice, after a retry
		}
	}
}

// socket echoes messages.
func (i *internet) socket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil {
			return // the client has closed it
		}
		if c.Write(r.Context(), kind, b) != nil {
			return
		}
	}
}

// originFaults are how *.fault.example.test misbehaves.
type originFaults struct {
	mode atomic.Int32
}

// The ways of an origin that is there and does not work.
const (
	originWorks  = iota
	originHangs  // no answer, until the client gives up
	originResets // in the middle of the body
)

// disturbs spoils the answer of a host that is to be broken.
func (f *originFaults) disturbs(w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasSuffix(r.Host, "fault."+domain) {
		return false
	}
	switch f.mode.Load() {
	case originHangs:
		<-r.Context().Done()
	case originResets:
		w.Header().Set("Content-Length", "100000")
		io.Copy(w, pattern(1, 50000))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		return false
	}
	return true
}
