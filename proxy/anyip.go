package proxy

import (
	"errors"
	"net"

	"authsome/injector"
)

// ServeAnyIP accepts connections from l until Shutdown, after which it returns
// nil. The listener is in a network namespace in which every address is local,
// so that the address which a client connected to is the connection's own. They
// are treated as redirected ones are: nobody but the clients that are meant can
// be in such a namespace, and that is what admits them.
func (p *Proxy) ServeAnyIP(l net.Listener) error {
	if _, ok := l.Addr().(*net.TCPAddr); !ok {
		l.Close()
		return errors.New("serve every address: not a TCP listener")
	}
	return p.accept(l, func(c *conn) {
		p.serveDestined(c, unmap(c.raw.LocalAddr().(*net.TCPAddr).AddrPort()))
	})
}

// Admits reports whether a client may connect to a host on one of the ports,
// and whether the host is then found by its name, whatever address the client
// connected to.
func (p *Proxy) Admits(host string, ports []uint16) (admitted, byName bool) {
	egress, table := p.egress.Load(), p.cfg.Injector.Table()
	for _, port := range ports {
		t, err := injector.ParseTarget(host, port)
		if err != nil || t.Port != port {
			return false, false
		}
		named := egress.names(t) || table.Covers(t)
		byName = byName || named
		admitted = admitted || named || !egress.deny
	}
	return admitted, byName
}
