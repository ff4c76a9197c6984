//go:build !linux

package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

var errNoRedirect = errors.New("redirected connections are taken on Linux only")

// ListenRedirected fails: redirected connections are taken on Linux only.
func ListenRedirected(context.Context, string) (net.Listener, error) { return nil, errNoRedirect }

func originalDestination(net.Conn, *net.TCPAddr) (netip.AddrPort, error) {
	return netip.AddrPort{}, errNoRedirect
}
