// Relay is not a proxy that anybody could use: it is the least that a Go program
// does to be one. Its TLS is crypto/tls, each client connection has an origin
// connection of its own, and the credential is patched into bytes that nobody
// parsed. What a real proxy costs above it is that proxy's; what it costs itself
// is the runtime's and the kernel's. A tunnel through it is spliced, and nothing
// else is done.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"strconv"

	"authsome/proxy/bench/internal/contestant"
	"authsome/proxy/bench/internal/rig"
)

func main() {
	env := contestant.Parse()
	ca, err := rig.NewAuthority("relay")
	if err != nil {
		log.Fatal(err)
	}
	if err := env.Trust(ca.PEM); err != nil {
		log.Fatal(err)
	}
	leaf, _, err := ca.Leaf(rig.H1Host)
	if err != nil {
		log.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"http/1.1"}}
	origin := &tls.Config{RootCAs: env.Roots, ServerName: rig.H1Host, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	l := contestant.Listen()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(env, c, config, origin)
		}
	}()
	contestant.Run(rig.Ready{Proxy: l.Addr().String()})
}

func serve(env *contestant.Env, c net.Conn, config, origin *tls.Config) {
	defer c.Close()
	head, err := readHead(bufio.NewReader(c))
	if err != nil {
		return
	}
	host := rig.H1Host
	if bytes.Contains(head, []byte(rig.RawHost)) {
		host = rig.RawHost
	}
	up, err := env.Dial(context.Background(), "tcp", host+":443")
	if err != nil {
		return
	}
	defer up.Close()
	if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		return
	}
	if host == rig.RawHost {
		join(c, up)
		return
	}
	down := tls.Server(c, config)
	r := relay{down: down, up: tls.Client(up, origin), out: make([]byte, 0, 8<<10)}
	r.fromClient, r.fromOrigin = bufio.NewReaderSize(r.down, 4<<10), bufio.NewReaderSize(r.up, 4<<10)
	for r.one() == nil {
	}
}

type relay struct {
	down, up               *tls.Conn
	fromClient, fromOrigin *bufio.Reader
	out                    []byte
}

var errUnexpected = errors.New("not what the benchmark sends")

// one passes on one request, whose last field is Authorization, and its small
// answer.
func (r *relay) one() error {
	head, err := readHead(r.fromClient)
	if err != nil {
		return err
	}
	i := bytes.Index(head, []byte("Authorization: "))
	if i < 0 {
		return errUnexpected
	}
	r.out = append(append(append(r.out[:0], head[:i]...), "Authorization: "+rig.Authorization...), "\r\n\r\n"...)
	if _, err := r.up.Write(r.out); err != nil {
		return err
	}
	if head, err = readHead(r.fromOrigin); err != nil {
		return err
	}
	r.out = append(r.out[:0], head...)
	_, after, _ := bytes.Cut(head, []byte("Content-Length: "))
	digits, _, _ := bytes.Cut(after, []byte("\r\n"))
	n, err := strconv.Atoi(string(digits))
	if err != nil {
		return err
	}
	body, err := r.fromOrigin.Peek(n)
	if err != nil {
		return err
	}
	r.out = append(r.out, body...)
	r.fromOrigin.Discard(n)
	_, err = r.down.Write(r.out)
	return err
}

// readHead returns a head, valid until br is read again.
func readHead(br *bufio.Reader) ([]byte, error) {
	for need := 1; ; need = br.Buffered() + 1 {
		if _, err := br.Peek(need); err != nil {
			return nil, err
		}
		b, _ := br.Peek(br.Buffered())
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			br.Discard(i + 4)
			return b[:i+4], nil
		}
	}
}
