package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"authsome/proxy"
)

// sockets are the listeners of a sidecar, by what they are for.
type sockets struct {
	proxy, transparent, metrics []net.Listener
}

// openSockets takes the sockets that the service manager has opened for us, and
// opens those that are configured. Sockets that were passed for a purpose
// replace the configured addresses.
func openSockets(ctx context.Context, cfg sidecarConfig) (s sockets, err error) {
	if s, err = inherited(); err != nil {
		return s, err
	}
	plain := func(addr string) (net.Listener, error) { return (&net.ListenConfig{}).Listen(ctx, "tcp", addr) }
	redirected := func(addr string) (net.Listener, error) { return proxy.ListenRedirected(ctx, addr) }
	for _, kind := range []struct {
		to     *[]net.Listener
		flag   string
		addrs  []string
		listen func(string) (net.Listener, error)
	}{
		{&s.proxy, "--listen", cfg.Listen, plain},
		{&s.transparent, "--transparent-listen", cfg.TransparentListen, redirected},
		{&s.metrics, "--metrics-addr", withoutEmpty([]string{cfg.MetricsAddr}), plain},
	} {
		if len(*kind.to) > 0 {
			continue
		}
		for _, addr := range kind.addrs {
			l, err := kind.listen(addr)
			if err != nil {
				s.close()
				return s, &fault{code: "Listen", exit: exitOther, msg: fmt.Sprintf("%s %s: %v", kind.flag, addr, bareListen(err)),
					hint: listenHint(err), err: err}
			}
			*kind.to = append(*kind.to, l)
		}
	}
	return s, nil
}

// listenHint says what to do about an address that cannot be listened on.
func listenHint(err error) string {
	var bad *net.AddrError
	var dns *net.DNSError
	switch {
	case errors.As(err, &bad), errors.As(err, &dns):
		return "give an address of this machine as HOST:PORT"
	case errors.Is(err, fs.ErrPermission):
		return "choose a port of 1024 or more, or give the program CAP_NET_BIND_SERVICE"
	}
	return "is another process there? choose another address"
}

// bareListen drops what the message says already.
func bareListen(err error) error {
	if op, ok := err.(*net.OpError); ok {
		return op.Err
	}
	return err
}

func (s *sockets) close() {
	for _, all := range [][]net.Listener{s.proxy, s.transparent, s.metrics} {
		for _, l := range all {
			l.Close()
		}
	}
}
