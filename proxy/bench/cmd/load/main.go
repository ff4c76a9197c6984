// Load is the client of the benchmark: keep-alive HTTP/1.1 in a closed loop,
// through a CONNECT proxy or straight to an address. It does one measurement,
// and prints it as one line of JSON.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"authsome/proxy/bench/internal/rig"
)

// Result is one measurement. What a mode does not measure is zero.
type Result struct {
	Count    int     // requests, connections or downloads
	Seconds  float64 // that they took
	P50, P99 float64 // microseconds per request, connection or event
	Bytes    int64   // body bytes of downloads
	CPU      float64 // seconds of the watched process
	Origin   float64 // seconds of the origin
	Client   float64 // seconds of this process
	Objects  uint64  // heap allocations of the watched process
	Heap     uint64  // bytes of them
	Protocol string  // what an HTTP/2 origin was asked in; "" when it does not say
	Err      string
}

func main() {
	var (
		mode   = flag.String("mode", "keep", "keep, new, bulk, upload, sse, cancel, broken or hold")
		dur    = flag.Duration("d", time.Second, "how long to measure")
		warm   = flag.Duration("warm", 300*time.Millisecond, "how long to run before")
		conns  = flag.Int("n", 1, "connections")
		pid    = flag.Int("pid", 0, "process to watch")
		origin = flag.Int("origin-pid", 0, "the origin's process")
		ctl    = flag.String("control", "", "control port of a watched Go process")
		h2     = flag.Bool("h2", false, "cancel and broken: speak HTTP/2")
		t      target
	)
	flag.StringVar(&t.proxy, "proxy", "", "CONNECT proxy")
	flag.StringVar(&t.token, "token", "", "its password")
	flag.StringVar(&t.addr, "addr", "", "without a proxy: where to connect")
	flag.StringVar(&t.control, "origin", "", "cancel and broken: the origin's plain listener")
	flag.StringVar(&t.host, "host", rig.H1Host, "the origin's name")
	flag.StringVar(&t.path, "path", "/1k", "what to get")
	flag.StringVar(&t.roots, "ca", "", "file with the root to trust; none means no TLS")
	flag.BoolVar(&t.resume, "resume", false, "resume TLS sessions")
	flag.BoolVar(&t.lazy, "lazy", false, "do not verify certificate chains")
	flag.BoolVar(&t.real, "real", false, "send the real credential")
	flag.Parse()
	if err := t.prepare(); err != nil {
		log.Fatal(err)
	}
	w := &watched{pid: *pid, origin: *origin, control: *ctl}
	var r Result
	var err error
	switch *mode {
	case "keep":
		r, err = keep(&t, w, *conns, *warm, *dur)
	case "new":
		r, err = fresh(&t, w, *conns, *warm, *dur)
	case "bulk":
		r, err = bulk(&t, w, *conns)
	case "upload":
		r, err = upload(&t, w)
	case "sse":
		r, err = sse(&t, *conns)
	case "cancel":
		r, err = breaking(&t, *conns, false, *h2)
	case "broken":
		r, err = breaking(&t, *conns, true, *h2)
	case "hold":
		err = hold(&t, *conns)
	default:
		err = fmt.Errorf("unknown mode %q", *mode)
	}
	if err != nil {
		r.Err = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(r)
}
