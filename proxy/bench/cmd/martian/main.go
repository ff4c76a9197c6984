// Martian is martian.Proxy with its MITM configuration and one header modifier.
package main

import (
	"context"
	"log"
	"net"

	"authsome/proxy/bench/internal/contestant"
	"authsome/proxy/bench/internal/rig"

	"github.com/google/martian/v3"
	"github.com/google/martian/v3/header"
	"github.com/google/martian/v3/mitm"
)

func main() {
	env := contestant.Parse()
	ca, err := rig.NewAuthority("martian")
	if err != nil {
		log.Fatal(err)
	}
	if err := env.Trust(ca.PEM); err != nil {
		log.Fatal(err)
	}
	config, err := mitm.NewConfig(ca.Cert, ca.Key)
	if err != nil {
		log.Fatal(err)
	}
	intercepting := newProxy(env)
	intercepting.SetMITM(config)
	intercepting.SetRequestModifier(header.NewModifier("Authorization", rig.Authorization))
	// A martian proxy intercepts every host or none, so that tunnels need
	// another one.
	tunnelling := newProxy(env)

	l, t := contestant.Listen(), contestant.Listen()
	go intercepting.Serve(l)
	go tunnelling.Serve(t)
	contestant.Run(rig.Ready{Proxy: l.Addr().String(), Tunnel: t.Addr().String()})
}

func newProxy(env *contestant.Env) *martian.Proxy {
	p := martian.NewProxy()
	tr := env.Transport()
	tr.DialContext = nil // martian sets Dial, and turns HTTP/2 off
	p.SetDial(func(network, address string) (net.Conn, error) {
		return env.Dial(context.Background(), network, address)
	})
	p.SetRoundTripper(tr)
	return p
}
