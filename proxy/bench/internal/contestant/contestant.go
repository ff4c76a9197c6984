// Package contestant is what the proxies of the benchmark that are written in Go
// have in common: their flags, where they dial, and how they are looked at.
package contestant

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"

	"authsome/proxy/bench/internal/rig"
)

// Env is what a contestant is started with.
type Env struct {
	Roots *x509.CertPool // of the origin
	Dir   string         // for files of its own
	addrs map[string]string
	ca    string
}

// Parse reads the command line.
func Parse() *Env {
	var h1, h2, raw, roots string
	e := &Env{}
	flag.StringVar(&h1, "h1", "", "where the HTTP/1.1 origin listens")
	flag.StringVar(&h2, "h2", "", "where the HTTP/2 origin listens")
	flag.StringVar(&raw, "raw", "", "where the plain TCP origin listens")
	flag.StringVar(&roots, "origin-ca", "", "file with the origin's root")
	flag.StringVar(&e.ca, "ca-out", "", "file to write our own root to")
	flag.StringVar(&e.Dir, "dir", "", "directory for files of our own")
	flag.Parse()
	e.addrs = map[string]string{rig.H1Host: h1, rig.H2Host: h2, rig.RawHost: raw}
	var err error
	if e.Roots, err = rig.Pool(roots); err != nil {
		log.Fatal(err)
	}
	return e
}

// Dial connects to wherever the name points.
func (e *Env) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := strings.Cut(address, ":")
	to, ok := e.addrs[host]
	if !ok {
		return nil, fmt.Errorf("dial %s: not part of the benchmark", address)
	}
	d := net.Dialer{Timeout: 10 * time.Second}
	return d.DialContext(ctx, network, to)
}

// Transport is the net/http transport that the peers get: verified origins,
// HTTP/2 when offered, and a pool that holds every connection of the load.
func (e *Env) Transport() *http.Transport {
	return &http.Transport{DialContext: e.Dial, TLSClientConfig: &tls.Config{RootCAs: e.Roots}, ForceAttemptHTTP2: true,
		DisableCompression: true, MaxIdleConnsPerHost: 512, IdleConnTimeout: 90 * time.Second}
}

// Trust writes the root that clients of this contestant have to trust.
func (e *Env) Trust(root []byte) error { return os.WriteFile(e.ca, root, 0o644) }

// Listen opens a loopback port.
func Listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	return l
}

// Run says that the contestant is ready and waits until it is told to end.
func Run(r rig.Ready) {
	r.Control = control()
	if err := r.Say(); err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	<-ctx.Done()
}

// control serves the process's insides on a port of its own.
func control() string {
	mux := http.NewServeMux()
	mux.HandleFunc("/allocs", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(allocs()) })
	mux.HandleFunc("/gc", func(w http.ResponseWriter, _ *http.Request) { debug.FreeOSMemory() })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	l := Listen()
	go http.Serve(l, mux)
	return l.Addr().String()
}

// Allocs are heap allocations since the start.
type Allocs struct{ Objects, Bytes uint64 }

func allocs() Allocs {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/tiny/allocs:objects"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return Allocs{s[0].Value.Uint64() + s[1].Value.Uint64(), s[2].Value.Uint64()}
}
