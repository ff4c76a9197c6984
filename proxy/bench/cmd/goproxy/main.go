// Goproxy is github.com/elazarl/goproxy with the least code that injects a
// credential, and a store for its leaves, without which it mints one for every
// connection.
package main

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"sync"

	"authsome/proxy/bench/internal/contestant"
	"authsome/proxy/bench/internal/rig"

	"github.com/elazarl/goproxy"
)

func main() {
	env := contestant.Parse()
	ca, err := rig.NewAuthority("goproxy")
	if err != nil {
		log.Fatal(err)
	}
	if err := env.Trust(ca.PEM); err != nil {
		log.Fatal(err)
	}
	signer := &tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}, PrivateKey: ca.Key, Leaf: ca.Cert}
	mitm := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(signer)}

	p := goproxy.NewProxyHttpServer()
	p.Tr = env.Transport()
	p.CertStore = &store{leaves: make(map[string]*tls.Certificate)}
	p.ConnectDial = func(network, address string) (net.Conn, error) {
		return env.Dial(context.Background(), network, address)
	}
	api := goproxy.ReqHostIs(rig.H1Host+":443", rig.H2Host+":443")
	p.OnRequest(api).HandleConnect(goproxy.FuncHttpsHandler(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return mitm, host
	}))
	p.OnRequest().DoFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		r.Header.Set("Authorization", rig.Authorization)
		return r, nil
	})
	l := contestant.Listen()
	go http.Serve(l, p)
	contestant.Run(rig.Ready{Proxy: l.Addr().String()})
}

// store keeps leaves by host.
type store struct {
	mu     sync.Mutex // guards leaves
	leaves map[string]*tls.Certificate
}

// Fetch implements goproxy.CertStorage.
func (s *store) Fetch(host string, gen func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.leaves[host]; c != nil {
		return c, nil
	}
	c, err := gen()
	if err == nil {
		s.leaves[host] = c
	}
	return c, err
}
