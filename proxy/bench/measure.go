package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"authsome/proxy/bench/internal/rig"
)

// result is what the load generator prints; see cmd/load.
type result struct {
	Count               int
	Seconds             float64
	P50, P99            float64
	Bytes               int64
	CPU, Origin, Client float64
	Objects, Heap       uint64
	Protocol            string
	Err                 string
}

// A measurement is made of one contestant at a time, and yields one sample of
// each of its metrics.
type measurement struct {
	name  string
	small bool // the relay can do it
	run   func(context.Context, *stage, *contestant) (map[string]float64, error)
}

// scale is how long things take.
type scale struct {
	rounds, idleRounds int
	budget             time.Duration // for all of it; a slow machine makes fewer rounds
	last               time.Duration // of it, kept for what follows the rounds
	keep, fresh        time.Duration
	warm               time.Duration
	conns              []int // connections of the keep-alive loads
	events             int
	breaks             int // requests broken off by each side
	idle               int // connections held
	settle             time.Duration
	extras             bool // what the targets do not ask for
}

var (
	quick = scale{rounds: 2, idleRounds: 1, budget: 58 * time.Second, last: 12 * time.Second, keep: 400 * time.Millisecond, fresh: 300 * time.Millisecond, warm: 100 * time.Millisecond,
		conns: []int{1, 64}, events: 4, breaks: 50, idle: 500, settle: 4 * time.Second}
	full = scale{rounds: 6, idleRounds: 2, budget: 590 * time.Second, last: 90 * time.Second, keep: time.Second, fresh: time.Second, warm: 250 * time.Millisecond,
		conns: []int{1, 64, 256}, events: 10, breaks: 50, idle: 1000, settle: 4 * time.Second, extras: true}
)

// The workers of the new-connection load, and the bytes through a tunnel.
const (
	freshWorkers = 8
	patience     = 90 * time.Second // for one load
)

// plan lists the measurements of a round.
func (sc scale) plan() []measurement {
	var plan []measurement
	for _, n := range sc.conns {
		plan = append(plan, sc.keepAlive(fmt.Sprintf("keep %d", n), n, rig.H1Host, "/1k"))
	}
	if sc.extras {
		plan = append(plan, sc.keepAlive("large", 64, rig.H1Host, "/16k"), sc.keepAlive("h2", 64, rig.H2Host, "/1k"))
	}
	plan = append(plan, sc.newConnections("new", false), sc.newConnections("resumed", true),
		bulk("download h1", "bulk", rig.H1Host, "/100m"), bulk("download h2", "bulk", rig.H2Host, "/100m"))
	if sc.extras {
		plan = append(plan, bulk("upload h1", "upload", rig.H1Host, "/1k"), bulk("upload h2", "upload", rig.H2Host, "/1k"))
	}
	plan = append(plan, tunnel, sc.firstEvent())
	for _, w := range ways {
		plan = append(plan, sc.breakingOff("cancel", w), sc.breakingOff("broken", w))
	}
	return plan
}

func (sc scale) keepAlive(name string, n int, host, path string) measurement {
	small := host == rig.H1Host && path == "/1k"
	return measurement{name, small, func(ctx context.Context, s *stage, c *contestant) (map[string]float64, error) {
		if host == rig.H2Host && c.proc == nil {
			return nil, nil // the load generator speaks HTTP/1.1
		}
		r, err := s.load(ctx, c, host, "-mode", "keep", "-path", path, "-n", strconv.Itoa(n), "-d", sc.keep.String(),
			"-warm", (sc.warm + time.Duration(n)*time.Millisecond).String())
		if err != nil {
			return nil, err
		}
		if host == rig.H2Host && r.Protocol != "HTTP/2.0" {
			return nil, errNotH2
		}
		count := float64(r.Count)
		m := map[string]float64{name + " rate": count / r.Seconds, name + " p50": r.P50, name + " p99": r.P99,
			name + " origin": 1e6 * r.Origin / count, name + " client": 1e6 * r.Client / count}
		if c.proc != nil {
			m[name+" cpu"] = 1e6 * r.CPU / count
		}
		if r.Objects > 0 {
			m[name+" allocs"], m[name+" heap"] = float64(r.Objects)/count, float64(r.Heap)/count
		}
		return m, nil
	}}
}

func (sc scale) newConnections(name string, resume bool) measurement {
	return measurement{name, false, func(ctx context.Context, s *stage, c *contestant) (map[string]float64, error) {
		r, err := s.load(ctx, c, rig.H1Host, "-mode", "new", "-lazy", "-resume="+strconv.FormatBool(resume),
			"-n", strconv.Itoa(freshWorkers), "-d", sc.fresh.String(), "-warm", sc.warm.String())
		if err != nil {
			return nil, err
		}
		m := map[string]float64{name + " rate": float64(r.Count) / r.Seconds, name + " p50": r.P50, name + " p99": r.P99}
		if c.proc != nil {
			m[name+" cpu"] = 1e6 * r.CPU / float64(r.Count)
		}
		return m, nil
	}}
}

// errNotH2 is returned for a contestant that will not speak HTTP/2 to an origin
// unless its client does.
var errNotH2 = errors.New("spoke HTTP/1.1 to the origin")

func bulk(name, mode, host, path string) measurement {
	return measurement{name, false, func(ctx context.Context, s *stage, c *contestant) (map[string]float64, error) {
		if host == rig.H2Host && c.proc == nil {
			return nil, nil // the load generator speaks HTTP/1.1
		}
		r, err := s.load(ctx, c, host, "-mode", mode, "-n", "1", "-path", path)
		if err != nil {
			return nil, err
		}
		if host == rig.H2Host && r.Protocol != "HTTP/2.0" {
			return nil, errNotH2
		}
		m := map[string]float64{name: float64(r.Bytes) / 1e6 / r.Seconds}
		if c.proc != nil {
			m[name+" cpu"] = 1e3 * r.CPU
		}
		return m, nil
	}}
}

var tunnel = measurement{"tunnel", true, func(ctx context.Context, s *stage, c *contestant) (map[string]float64, error) {
	r, err := s.load(ctx, c, rig.RawHost, "-mode", "bulk", "-n", "1", "-path", "/1g")
	if err != nil {
		return nil, err
	}
	m := map[string]float64{"tunnel": float64(r.Bytes) / 1e6 / r.Seconds}
	per := 1e11 / float64(r.Bytes) // to ms for each 100 MB
	m["tunnel ends"] = per * (r.Client + r.Origin)
	if c.proc != nil {
		m["tunnel cpu"] = per * r.CPU
	}
	return m, nil
}}

func (sc scale) firstEvent() measurement {
	return measurement{"sse", false, func(ctx context.Context, s *stage, c *contestant) (map[string]float64, error) {
		r, err := s.load(ctx, c, rig.H1Host, "-mode", "sse", "-n", strconv.Itoa(sc.events), "-path", "/sse")
		if err != nil {
			return nil, err
		}
		return map[string]float64{"sse": r.P50}, nil
	}}
}

// way is what the client and the origin speak.
type way struct{ client, origin string }

var ways = []way{{"h1", "h1"}, {"h1", "h2"}, {"h2", "h1"}, {"h2", "h2"}}

// breakingOff measures how long one side takes to know that the other has broken
// off a request: for "cancel" the origin, and for "broken" the client. Only
// contestants that speak HTTP/2 to clients take part where those do.
func (sc scale) breakingOff(mode string, w way) measurement {
	name := mode + " " + w.client + " " + w.origin
	return measurement{name, false, func(ctx context.Context, s *stage, c *contestant) (map[string]float64, error) {
		if c.proc == nil && w.client != w.origin || w.client == "h2" && !c.h2 {
			return nil, nil
		}
		host := map[string]string{"h1": rig.H1Host, "h2": rig.H2Host}[w.origin]
		r, err := s.load(ctx, c, host, "-mode", mode, "-n", strconv.Itoa(sc.breaks), "-h2="+strconv.FormatBool(w.client == "h2"),
			"-origin", s.origin.ready.Raw)
		if err != nil {
			return nil, err
		}
		return map[string]float64{name + " p50": r.P50 / 1e3, name + " p99": r.P99 / 1e3}, nil
	}}
}

// load runs the load generator once against a contestant.
func (s *stage) load(ctx context.Context, c *contestant, host string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var r result
	cmd := exec.CommandContext(ctx, s.program("load"), append(s.aim(c, host), args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(bytes.TrimSpace(out), &r)
	}
	if err == nil && r.Err != "" {
		err = errors.New(r.Err)
	}
	if err == nil && r.Count == 0 {
		err = errors.New("nothing came back in time")
	}
	return r, err
}

// aim returns the load generator's arguments for reaching host.
func (s *stage) aim(c *contestant, host string) []string {
	args := []string{"-host", host, "-origin-pid", strconv.Itoa(s.origin.pid()), "-real=" + strconv.FormatBool(c.real)}
	if host != rig.RawHost {
		args = append(args, "-ca", c.ca)
	}
	if c.proc == nil {
		o := s.origin.ready
		return append(args, "-addr", map[string]string{rig.H1Host: o.H1, rig.H2Host: o.H2, rig.RawHost: o.Raw}[host])
	}
	ready := c.proc.ready
	addr := ready.Proxy
	if host == rig.RawHost && ready.Tunnel != "" {
		addr = ready.Tunnel
	}
	args = append(args, "-pid", strconv.Itoa(c.proc.pid()), "-control", ready.Control, "-token", ready.Token)
	if c.direct {
		return append(args, "-addr", addr)
	}
	return append(args, "-proxy", addr)
}

// idleCost measures what a connection costs that has made a request and waits, in a
// process that has done nothing else.
func (sc scale) idleCost(ctx context.Context, s *stage, name string) (map[string]float64, error) {
	c, err := s.start(name)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	// What is made once is not a connection's: a first use of everything.
	if _, err := s.load(ctx, c, rig.H1Host, "-mode", "keep", "-n", "4", "-d", "50ms", "-warm", "10ms"); err != nil {
		return nil, err
	}
	time.Sleep(sc.settle / 2)
	before, err := c.proc.resident()
	if err != nil {
		return nil, err
	}
	after, err := s.holding(ctx, c, sc.idle, sc.settle)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"idle": (after - before) / float64(sc.idle), "rss": before / 1024}, nil
}

// holding returns a contestant's memory while n connections are open.
func (s *stage) holding(ctx context.Context, c *contestant, n int, settle time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program("load"), append(s.aim(c, rig.H1Host), "-mode", "hold", "-lazy", "-n", strconv.Itoa(n))...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer in.Close()
	line := make([]byte, 3)
	if _, err := io.ReadFull(out, line); err != nil || line[0] != '{' || line[1] != '}' {
		return 0, fmt.Errorf("hold %d connections: %w", n, errors.Join(err, fmt.Errorf("said %q", line)))
	}
	time.Sleep(settle)
	return c.proc.resident()
}
