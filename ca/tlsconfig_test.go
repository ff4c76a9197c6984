package ca_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"authsome/ca"
)

// handshake connects a client to the server side of target. The server's error
// counts: it is what the proxy sees.
func handshake(t testing.TB, server *tls.Config, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	// A real socket: a pipe would block on the session tickets.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	failed := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			failed <- err
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		tc := tls.Server(conn, server)
		if err := tc.HandshakeContext(context.Background()); err != nil {
			failed <- err
			return
		}
		_, err = tc.Write([]byte("k"))
		failed <- errors.Join(err, tc.CloseWrite())
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Client(conn, client)
	_, readErr := io.ReadFull(tc, make([]byte, 1)) // the ticket comes with the first byte
	if err := <-failed; err != nil {
		return tls.ConnectionState{}, err
	}
	return tc.ConnectionState(), readErr
}

func clientFor(a *ca.Authority, serverName string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.RootPEM())
	return &tls.Config{RootCAs: pool, ServerName: serverName, NextProtos: []string{"h2", "http/1.1"}}
}

func serverFor(t testing.TB, a *ca.Authority, host string) *tls.Config {
	t.Helper()
	c, err := a.TLSConfig(t.Context(), host, "h2", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestHandshake(t *testing.T) {
	a := newAuthority(t, func(c *ca.Config) { c.PermittedIPs = ips("127.0.0.1") })
	for _, test := range []struct {
		name, host, serverName string
		version                uint16
		mismatch               bool
	}{
		{"TLS 1.3", "api.example.test", "api.example.test", tls.VersionTLS13, false},
		{"TLS 1.2", "api.example.test", "api.example.test", tls.VersionTLS12, false},
		{"case", "api.example.test", "API.Example.test", tls.VersionTLS13, false},
		{"address, without a server name", "127.0.0.1", "127.0.0.1", tls.VersionTLS13, false},
		{"another permitted host", "api.example.test", "other.example.test", tls.VersionTLS13, true},
		{"another permitted host, TLS 1.2", "api.example.test", "other.example.test", tls.VersionTLS12, true},
		{"a foreign host", "api.example.test", "evil.test", tls.VersionTLS13, true},
		{"a name on a connection to an address", "127.0.0.1", "api.example.test", tls.VersionTLS13, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := clientFor(a, test.serverName)
			client.MaxVersion = test.version
			state, err := handshake(t, serverFor(t, a, test.host), client)
			var mismatch *ca.TargetMismatchError
			if errors.As(err, &mismatch) != test.mismatch || !test.mismatch && err != nil {
				t.Fatalf("got error %v, want mismatch: %v", err, test.mismatch)
			}
			if test.mismatch {
				if mismatch.Target != test.host || mismatch.ServerName != test.serverName {
					t.Errorf("got %+v", mismatch)
				}
				return
			}
			if state.Version != test.version || state.NegotiatedProtocol != "h2" {
				t.Errorf("got version %x, protocol %q", state.Version, state.NegotiatedProtocol)
			}
		})
	}
}

func TestTLS11IsRefused(t *testing.T) {
	a := newAuthority(t)
	client := clientFor(a, "api.example.test")
	client.MinVersion, client.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := handshake(t, serverFor(t, a, "api.example.test"), client); err == nil {
		t.Error("a handshake below TLS 1.2 succeeds")
	}
}

func TestTLSConfigOutsideConstraints(t *testing.T) {
	if _, err := newAuthority(t).TLSConfig(t.Context(), "evil.test"); !errors.Is(err, ca.ErrNotPermitted) {
		t.Errorf("got %v, want ErrNotPermitted", err)
	}
}

// renamed keeps sessions under one name whatever the server is called, as a
// client that tries to carry a session elsewhere would.
type renamed struct{ tls.ClientSessionCache }

func (r renamed) Get(string) (*tls.ClientSessionState, bool) { return r.ClientSessionCache.Get("") }
func (r renamed) Put(_ string, s *tls.ClientSessionState)    { r.ClientSessionCache.Put("", s) }

func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a := newAuthority(t)
		client := clientFor(a, "api.example.test")
		client.MaxVersion = version
		client.ClientSessionCache = renamed{tls.NewLRUClientSessionCache(4)}
		for i, want := range []bool{false, true, true} {
			// Asked for anew, as for every connection.
			state, err := handshake(t, serverFor(t, a, "api.example.test"), client)
			if err != nil {
				t.Fatal(err)
			}
			if state.DidResume != want {
				t.Errorf("version %x, connection %d: resumed %v, want %v", version, i+1, state.DidResume, want)
			}
		}

		// A resuming handshake asks for no certificate, but names a host too.
		elsewhere := client.Clone()
		elsewhere.ServerName = "other.example.test"
		elsewhere.InsecureSkipVerify = true // the thief of a session does not mind
		var mismatch *ca.TargetMismatchError
		if _, err := handshake(t, serverFor(t, a, "api.example.test"), elsewhere); !errors.As(err, &mismatch) {
			t.Errorf("version %x: resuming under another name: got %v, want a mismatch", version, err)
		}
		// A session of one host is worth nothing at another.
		state, err := handshake(t, serverFor(t, a, "other.example.test"), elsewhere)
		if err != nil {
			t.Fatal(err)
		}
		if state.DidResume {
			t.Errorf("version %x: a session was resumed at another host", version)
		}
	}
}

func TestTLSConfigPerProtocols(t *testing.T) {
	a := newAuthority(t)
	get := func(protos ...string) *tls.Config {
		c, err := a.TLSConfig(t.Context(), "api.example.test", protos...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	both, one, none := get("h2", "http/1.1"), get("http/1.1"), get()
	if both == one || one == none || both != get("h2", "http/1.1") || one != get("http/1.1") || none != get() {
		t.Error("want one configuration per list of protocols, the same each time")
	}
	if minted, _ := a.Stats(); minted != 1 {
		t.Errorf("minted %d, want 1", minted)
	}
}

func BenchmarkHandshake(b *testing.B) {
	for _, bench := range []struct {
		name    string
		resumed bool
	}{{"full", false}, {"resumed", true}} {
		b.Run(bench.name, func(b *testing.B) {
			a := newAuthority(b)
			client := clientFor(a, "api.example.test")
			if bench.resumed {
				client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				handshake(b, serverFor(b, a, "api.example.test"), client)
			}
			for b.Loop() {
				state, err := handshake(b, serverFor(b, a, "api.example.test"), client)
				if err != nil || state.DidResume != bench.resumed {
					b.Fatal(err, state.DidResume)
				}
			}
		})
	}
}
