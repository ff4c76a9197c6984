package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// h2Server serves the HTTP/2 connections of intercepted clients with net/http.
// Connections are handed to it one by one, after their TLS handshake.
type h2Server struct {
	server *http.Server
	feed   *feed
}

type connKey struct{}

func newH2Server(p *Proxy) *h2Server {
	s := &h2Server{feed: &feed{conns: make(chan net.Conn), done: make(chan struct{})}}
	s.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.forward(w, r, r.Context().Value(connKey{}).(*conn))
		}),
		BaseContext: func(net.Listener) context.Context { return p.ctx },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, nc.(*resetConn).c)
		},
		DisableGeneralOptionsHandler: true, // "OPTIONS *" is for the origin
		ReadHeaderTimeout:            p.limits.RequestHeader,
		IdleTimeout:                  p.limits.IdleClient,
		MaxHeaderBytes:               p.limits.RequestHeaderBytes,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:                    &http.Protocols{},
	}
	// What the server gets is the inside of TLS: HTTP/2 was chosen there.
	s.server.Protocols.SetUnencryptedHTTP2(true)
	go s.server.Serve(s.feed)
	return s
}

// maxStreams bounds what one HTTP/2 client can have under way at once.
const maxStreams = 250

// serve returns when the connection has been closed.
func (s *h2Server) serve(c *conn, inner *tls.Conn) {
	carrier := inner.NetConn().(*carrier)
	c.lendBuffers() // the server has its own
	defer c.takeBuffers()
	c.resets = &resetConn{Conn: inner, c: c}
	select {
	case s.feed.conns <- c.resets:
		<-carrier.closed
	case <-s.feed.done:
		inner.Close()
	}
}

func (s *h2Server) shutdown(ctx context.Context) { s.server.Shutdown(ctx) }
func (s *h2Server) close()                       { s.server.Close() }

// carrier is what an intercepted connection's TLS runs over.
type carrier struct {
	bulkConn
	c      *conn
	once   sync.Once
	closed chan struct{}

	patience time.Duration // with one write
	guard    *time.Timer   // of the write under way; TLS writes one at a time
}

// Write implements net.Conn. A client that reads nothing is broken off in the
// end, whoever writes: net/http waits for an HTTP/2 client without a limit, and
// TLS answers key updates where something is read, which has a deadline for
// reading alone.
func (c *carrier) Write(p []byte) (int, error) {
	if c.guard == nil {
		c.guard = time.AfterFunc(c.patience, func() { abort(c.c.raw) })
	} else {
		c.guard.Reset(c.patience)
	}
	defer c.guard.Stop()
	return c.bulkConn.Write(p)
}

// Close implements net.Conn and says so to whoever waits for the end.
func (c *carrier) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// feed is the listener of a server whose connections are made elsewhere.
type feed struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

func (f *feed) Close() error {
	f.once.Do(func() { close(f.done) })
	return nil
}

func (f *feed) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// keepExpect gives an HTTP/2 request its "Expect: 100-continue" back. net/http's
// server takes it out, and answers it when the body is first read; that must not
// happen before the origin has asked for the body. What the server remembers of
// it is in a field that it does not export; TestContinueInEveryCombination fails
// if it ever goes.
func keepExpect(r *http.Request) {
	body := reflect.ValueOf(r.Body)
	if body.Kind() != reflect.Pointer || body.Elem().Kind() != reflect.Struct {
		return
	}
	if waits := body.Elem().FieldByName("needsContinue"); waits.Kind() == reflect.Bool && waits.Bool() {
		r.Header["Expect"] = []string{"100-continue"}
	}
}

// strictH2 refuses what net/http lets through of HTTP/2 and an HTTP/1.1 origin
// would read as something else: two hosts, two lengths, a request line with more
// than two spaces. What is left can be said in both versions alike.
func strictH2(r *http.Request) error {
	if !httpguts.ValidHeaderFieldName(r.Method) {
		return fmt.Errorf("%w: method", errHead)
	}
	// A CONNECT that gets here is an extended one, with a path (RFC 8441
	// section 4).
	method := r.Method
	if method == http.MethodConnect {
		method = http.MethodGet
	}
	target, err := requestTarget(method, r.RequestURI)
	if err != nil {
		return err
	}
	if r.RequestURI[0] != '/' && r.RequestURI != "*" {
		return fmt.Errorf("%w: :path", errHead) // RFC 9113 section 8.3.1
	}
	r.URL = target
	if host, ok := r.Header["Host"]; ok {
		if len(host) > 1 || host[0] != r.Host {
			return fmt.Errorf("%w: Host beside :authority", errHead) // RFC 9113 section 8.3.1
		}
		delete(r.Header, "Host")
	}
	if _, ok := r.Header["Content-Length"]; ok {
		h := head{header: r.Header, contentLength: -1}
		if err := h.framing(); err != nil || h.contentLength != r.ContentLength {
			return fmt.Errorf("%w: Content-Length", errHead)
		}
	}
	return nil
}
