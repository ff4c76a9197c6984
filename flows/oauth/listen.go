package oauth

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"authsome/vault/secret"
)

const (
	// CallbackPort is the port of the redirect URI that people register with providers.
	CallbackPort = 7999
	// CallbackPath is its path.
	CallbackPath = "/callback"

	headerTimeout   = 10 * time.Second
	maxHeaderBytes  = 64 << 10
	shutdownTimeout = 2 * time.Second // for the result page to reach the browser
)

// ListenConfig says where a callback is awaited. The zero value means http://127.0.0.1:7999/callback.
type ListenConfig struct {
	// Host is how the redirect URI names this machine: 127.0.0.1 (the default), ::1, or localhost,
	// which some providers insist on. With localhost both families are listened on, as far as there
	// are both. No other host is accepted.
	Host string
	// Port; zero means [CallbackPort].
	Port int
	// AnyPort takes a free port when the chosen one is taken. Only for providers that ignore the port
	// of a loopback redirect URI (RFC 8252 section 7.3), or clients registered on the fly.
	AnyPort bool
	// Path; "" means [CallbackPath].
	Path string
}

// Listener holds the port of a redirect URI from before the browser is sent away, so that nobody else
// can take it in between.
type Listener struct {
	// RedirectURI is what to register with the provider and to send to it.
	RedirectURI string
	listeners   []net.Listener
}

// Listen takes the port on loopback. It fails with the port's number when it is taken.
func Listen(ctx context.Context, config ListenConfig) (*Listener, error) {
	if config.Host == "" {
		config.Host = "127.0.0.1"
	}
	if config.Path == "" {
		config.Path = CallbackPath
	}
	if config.Port == 0 {
		config.Port = CallbackPort
	}
	addresses := map[string][]string{"127.0.0.1": {"127.0.0.1"}, "::1": {"::1"}, "localhost": {"127.0.0.1", "::1"}}[config.Host]
	if addresses == nil {
		return nil, unsupported("listen", "the callback host must be 127.0.0.1, ::1 or localhost")
	}
	first, err := listenOn(ctx, addresses[0], config.Port)
	if errors.Is(err, syscall.EADDRINUSE) && config.AnyPort {
		first, err = listenOn(ctx, addresses[0], 0)
	}
	if err != nil {
		return nil, portTaken(addresses[0], config.Port, err)
	}
	port := first.Addr().(*net.TCPAddr).Port
	l := &Listener{
		RedirectURI: "http://" + net.JoinHostPort(config.Host, strconv.Itoa(port)) + config.Path,
		listeners:   []net.Listener{first},
	}
	for _, address := range addresses[1:] {
		ln, err := listenOn(ctx, address, port)
		if errors.Is(err, syscall.EADDRINUSE) { // whoever has it would get the callback of browsers that prefer IPv6
			return nil, errors.Join(portTaken(address, port, err), l.Close())
		}
		if err == nil { // a machine without IPv6 has no ::1 to be called on
			l.listeners = append(l.listeners, ln)
		}
	}
	return l, nil
}

func portTaken(address string, port int, err error) *Error {
	return &Error{
		Op: "listen", Code: "port_unavailable", kind: ErrPortUnavailable,
		Description: "port " + strconv.Itoa(port) + " on " + address + ": " + reason(err),
	}
}

func listenOn(ctx context.Context, address string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
}

// Close gives the port back. It is not needed after [Listener.Await].
func (l *Listener) Close() error {
	var errs []error
	for _, ln := range l.listeners {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// Await serves the callback until the login is decided, and gives the port back. See [Callback.Wait].
func (l *Listener) Await(ctx context.Context, callback *Callback, complete func(ctx context.Context, code secret.Text) error) error {
	server := &http.Server{
		Handler: callback, ReadHeaderTimeout: headerTimeout, IdleTimeout: headerTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       log.New(io.Discard, "", 0), // it quotes requests
	}
	idle := &unusedConns{conns: map[net.Conn]bool{}}
	server.ConnState = idle.note
	served := make(chan error, len(l.listeners))
	for _, ln := range l.listeners {
		go func() { served <- server.Serve(ln) }()
	}
	err := callback.Wait(ctx, complete)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	idle.close()
	if server.Shutdown(closing) != nil {
		server.Close()
	}
	for range l.listeners {
		<-served
	}
	return err
}

// unusedConns are the connections that have carried no request. Browsers open some in advance, and
// http.Server.Shutdown would wait for them.
type unusedConns struct {
	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu
}

func (u *unusedConns) note(conn net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state == http.StateNew {
		u.conns[conn] = true
	} else {
		delete(u.conns, conn)
	}
}

func (u *unusedConns) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for conn := range u.conns {
		conn.Close()
	}
}

// AwaitTokens waits for the browser to come back from auth and exchanges the code.
func (c *Config) AwaitTokens(ctx context.Context, l *Listener, auth *Authorization, config CallbackConfig) (*TokenSet, error) {
	callback, err := NewCallback(auth, config)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var tokens *TokenSet
	err = l.Await(ctx, callback, func(ctx context.Context, code secret.Text) (err error) {
		tokens, err = c.Exchange(ctx, auth, code)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}
