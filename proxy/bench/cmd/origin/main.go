// Origin is the API behind the proxies: a process of its own, so that what it
// costs is not charged to any of them, and lean, so that it is not what limits
// them. HTTP/1.1 is answered by hand; HTTP/2 is net/http's.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"authsome/proxy/bench/internal/rig"
)

func main() {
	caOut := flag.String("ca-out", "", "file to write the origin's root to")
	flag.Parse()
	ca, err := rig.NewAuthority("origin")
	if err != nil {
		log.Fatal(err)
	}
	leaf, _, err := ca.Leaf(rig.H1Host, rig.H2Host)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*caOut, ca.PEM, 0o644); err != nil {
		log.Fatal(err)
	}
	h1, h2, raw := listen(), listen(), listen()
	config := &tls.Config{Certificates: []tls.Certificate{leaf}, CurvePreferences: rig.Curves, NextProtos: []string{"http/1.1"}}
	go accept(h1, func(c net.Conn) net.Conn { return tls.Server(c, config) })
	go accept(raw, func(c net.Conn) net.Conn { return c })
	go serveH2(h2, leaf)
	ready := rig.Ready{H1: h1.Addr().String(), H2: h2.Addr().String(), Raw: raw.Addr().String()}
	if err := ready.Say(); err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	<-ctx.Done()
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

func accept(l net.Listener, wrap func(net.Conn) net.Conn) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serveH1(wrap(c))
	}
}
