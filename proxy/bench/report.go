package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is everything that a run found out.
type report struct {
	scale      scale
	rounds     int                           // that there was time for
	names      []string                      // contestants that took part
	values     map[string]map[string]samples // metric → contestant → one per round
	failed     map[string]string             // why something is missing
	micro      map[string]micro
	machine    string
	processors int
	took       time.Duration
	others     float64 // share of the machine's time that other programs took
}

func (rep *report) of(metric, name string) samples { return rep.values[metric][name] }

// rows are the table's: a metric with its unit.
func (sc scale) rows() [][2]string {
	var rows [][2]string
	for _, part := range [][2]string{{"rate", "requests/s"}, {"p50", "p50 µs"}, {"p99", "p99 µs"}, {"cpu", "CPU µs per request"}} {
		for _, n := range sc.conns {
			s := "s"
			if n == 1 {
				s = ""
			}
			rows = append(rows, [2]string{fmt.Sprintf("keep %d %s", n, part[0]), fmt.Sprintf("%s, %d connection%s", part[1], n, s)})
		}
	}
	if sc.extras {
		rows = append(rows, [2]string{"large cpu", "CPU µs per request, 64 connections, 16 KiB answers"},
			[2]string{"h2 rate", "requests/s, 64 connections, HTTP/2 origin"}, [2]string{"h2 cpu", "CPU µs per request, 64 connections, HTTP/2 origin"})
	}
	rows = append(rows, [2]string{"keep 64 allocs", "allocations per request"}, [2]string{"keep 64 heap", "bytes allocated per request"},
		[2]string{"new rate", "new connections/s"}, [2]string{"new cpu", "CPU µs per new connection"},
		[2]string{"resumed rate", "resumed connections/s"}, [2]string{"resumed cpu", "CPU µs per resumed connection"},
		[2]string{"download h1", "100 MB download, MB/s"}, [2]string{"download h1 cpu", "CPU ms per 100 MB download"},
		[2]string{"download h2", "100 MB download, HTTP/2 origin, MB/s"}, [2]string{"download h2 cpu", "CPU ms per 100 MB download, HTTP/2 origin"})
	if sc.extras {
		rows = append(rows, [2]string{"upload h1", "100 MB upload, MB/s"}, [2]string{"upload h2", "100 MB upload, HTTP/2 origin, MB/s"})
	}
	rows = append(rows, [2]string{"tunnel", "tunnel, MB/s"}, [2]string{"tunnel cpu", "CPU ms per 100 MB tunnelled"},
		[2]string{"tunnel ends", "CPU ms of client and origin meanwhile"}, [2]string{"sse", "first event on the way, µs"})
	for _, mode := range [][2]string{{"cancel", "a client's cancellation at the origin"}, {"broken", "an origin's reset at the client"}} {
		for _, w := range ways {
			for _, q := range []string{"p50", "p99"} {
				rows = append(rows, [2]string{mode[0] + " " + w.client + " " + w.origin + " " + q,
					mode[1] + ", " + q + " ms, " + w.client + " client, " + w.origin + " origin"})
			}
		}
	}
	return append(rows, [2]string{"idle", "KiB per idle connection"}, [2]string{"rss", "MiB at rest"})
}

func (rep *report) markdown(plot string) string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\n")
	fmt.Fprintf(&b, "Written by `make bench` on %s, in %s: %d rounds. %s Other programs took %.0f %% of the machine meanwhile.\n\n",
		time.Now().UTC().Format("2006-01-02"), rep.took.Round(time.Second), rep.rounds, rep.machine, 100*rep.others)
	b.WriteString(method)
	if plot != "" {
		fmt.Fprintf(&b, "\n![Requests, CPU, connections, throughput and memory of each contestant](%s)\n", plot)
	}
	b.WriteString(reading)
	b.WriteString("\n## Targets\n\nRatios are taken round by round; the median is given with the smallest and the largest.\n\n")
	b.WriteString("| target | measured | |\n|---|---|---|\n")
	for _, t := range rep.targets() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", t.text, t.measured, t.verdict())
	}
	if rep.processors == 2 {
		fmt.Fprintf(&b, "\nDirect has two processes for the two processors here, a tunnel has three. What client and origin spend when direct, of\n"+
			"that and what the relay spends on splicing, is %s: no tunnel could be a larger part of direct, if no processor ever waited.\n", rep.tunnelBound().cell())
	}
	b.WriteString("\n## All numbers\n\nMedian (min–max).\n\n")
	rep.table(&b)
	rep.microTable(&b)
	rep.missing(&b)
	return b.String()
}

const method = `Every contestant is a process of its own between the same load generator and the same TLS origin, over
the loopback. It intercepts the host, attaches a credential without which the origin answers 401, and verifies the
origin. Requests are what Python's requests sends; answers are 1 KiB of JSON unless it says otherwise. In each round
every measurement is made of all contestants in turn. CPU is the proxy process's own clock, user and system together.
Every side is held to TLS 1.3, X25519, AES-128-GCM and ECDSA P-256 where it lets itself be held.

- **authsome** runs as ` + "`authsome run`" + ` sets it up: client authentication, metrics, and an audit line for every request.
- **goproxy** is elazarl/goproxy, **martian** is martian.Proxy, each with a pooled transport and the least code that sets the header.
- **mitmproxy** is Debian's, with a four-line addon.
- **haproxy** is Debian's, as a re-encrypting reverse proxy on two threads. It is addressed directly, without CONNECT, and logs nothing: the limit.
- **relay** is no proxy: it patches the credential into unparsed bytes, one origin connection for each client's, and its
  tunnel is two threads that splice. It shows what Go's TLS and runtime cost by themselves, and what the kernel can do.
- **direct** is the load generator at the origin, without anything between.
`

const reading = `
Load generator, proxy and origin share the processors, so that rates say how much is left for the proxy to use; CPU per
request says what it uses, and stretches less when the machine has other things to do. The busier it is, the less the
rates mean, and the tunnel's most of all: three processes then compete where two do for direct. To an HTTP/1.1 origin
authsome speaks by itself, to an HTTP/2 origin through net/http's transport, as goproxy does to both.

What one side breaks off is timed from then until the other side knows, by the machine's one clock. A client leaves as
soon as its request has reached the origin, and an origin resets its answer once the client reads it; 50 of each, ten at
a time. A contestant that lets a second go by is under "Not measured".
`

func (rep *report) table(b *strings.Builder) {
	b.WriteString("| | " + strings.Join(rep.names, " | ") + " |\n|---|" + strings.Repeat("---:|", len(rep.names)) + "\n")
	for _, row := range rep.scale.rows() {
		fmt.Fprintf(b, "| %s |", row[1])
		for _, name := range rep.names {
			fmt.Fprintf(b, " %s |", rep.of(row[0], name).cell())
		}
		b.WriteString("\n")
	}
}

func (rep *report) microTable(b *strings.Builder) {
	b.WriteString("\n## Within the process\n\n| | CPU ns | allocations |\n|---|---:|---:|\n")
	for _, row := range [][2]string{{"match 10", "find the route among 10 providers"}, {"match 1000", "among 1 000"},
		{"match 10000", "among 10 000"}, {"match wildcard", "a wildcard among 10 000"},
		{"leaf", "find a leaf"}, {"mint", "mint a leaf"}} {
		r := rep.micro[row[0]]
		fmt.Fprintf(b, "| %s | %s | %d |\n", row[1], r.cpu.cell(), r.allocs)
	}
}

func (rep *report) missing(b *strings.Builder) {
	if len(rep.failed) == 0 {
		return
	}
	b.WriteString("\n## Not measured\n\n")
	var keys []string
	for k := range rep.failed {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		line, _, _ := strings.Cut(rep.failed[k], "\n")
		fmt.Fprintf(b, "- %s: %s\n", k, line)
	}
}

func describeMachine() string {
	cpu := "unknown CPU"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(data), "model name")
		_, rest, _ = strings.Cut(rest, ": ")
		cpu, _, _ = strings.Cut(rest, "\n")
	}
	out := fmt.Sprintf("%d × %s, Linux %s, %s", runtime.NumCPU(), cpu, kernel(), runtime.Version())
	for _, v := range [][]string{{"haproxy", "-v"}, {"mitmdump", "--version"}} {
		if text, err := exec.Command(v[0], v[1:]...).Output(); err == nil {
			line, _, _ := strings.Cut(string(text), "\n")
			line, _, _ = strings.Cut(line, " 20") // the date of a version
			out += ", " + strings.TrimSpace(line)
		}
	}
	return out + "."
}

func kernel() string {
	data, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	version, _, _ := strings.Cut(strings.TrimSpace(string(data)), "-")
	return version
}

// target is something that the engine is to reach.
type target struct {
	text     string
	measured string
	met      bool
	known    bool
}

func (t target) verdict() string {
	switch {
	case !t.known:
		return "not measured"
	case t.met:
		return "met"
	}
	return "**missed**"
}

// atMost and atLeast judge a median.
func atMost(text string, limit float64, s samples, unit string) target {
	return judge(text, s, unit, s.median() <= limit)
}

func atLeast(text string, limit float64, s samples, unit string) target {
	return judge(text, s, unit, s.median() >= limit)
}

func judge(text string, s samples, unit string, met bool) target {
	if len(s.good()) == 0 {
		return target{text: text, measured: s.cell()}
	}
	return target{text, s.cell() + unit, met, true}
}

func (rep *report) targets() []target {
	of := rep.of
	last := rep.scale.conns[len(rep.scale.conns)-1]
	goPeers := func(metric string) []samples { return []samples{of(metric, "goproxy"), of(metric, "martian")} }
	peers := func(metric string) []samples { return append(goPeers(metric), of(metric, "mitmproxy")) }
	cpu := of("keep 64 cpu", "authsome")
	match := rep.micro["match 10000"]
	rate := func(n int) samples { return of(fmt.Sprintf("keep %d rate", n), "authsome") }
	return []target{
		atMost("CPU per request, of the best Go peer's: at most 0.7", 0.7, cpu.over(least(goPeers("keep 64 cpu")...)), ""),
		atMost("CPU per request, of haproxy's: aiming at 1", 1, cpu.over(of("keep 64 cpu", "haproxy")), ""),
		atMost("CPU per request, of mitmproxy's: at most 0.05", 0.05, cpu.over(of("keep 64 cpu", "mitmproxy")), ""),
		atMost("allocations per request: at most 40", 40, of("keep 64 allocs", "authsome"), ""),
		atLeast("new connections, of haproxy's: at least 1", 1, of("new rate", "authsome").over(of("new rate", "haproxy")), ""),
		atLeast("100 MB download, of the best peer's: at least 1", 1, of("download h1", "authsome").over(most(peers("download h1")...)), ""),
		atLeast("100 MB download from an HTTP/2 origin, of the best peer's from one: at least 1", 1,
			of("download h2", "authsome").over(most(peers("download h2")...)), ""),
		atLeast("100 MB download from an HTTP/2 origin, of the best peer's from any: at least 1", 1,
			of("download h2", "authsome").over(most(append(peers("download h2"), peers("download h1")...)...)), ""),
		atLeast(fmt.Sprintf("requests/s at %d connections, of those at 1: at least 1", last), 1, rate(last).over(rate(1)), ""),
		atLeast("tunnel, of direct: at least 0.75", 0.75, of("tunnel", "authsome").over(of("tunnel", "direct")), ""),
		atLeast("tunnel, of the relay's, which only splices: aiming at 1", 1, of("tunnel", "authsome").over(of("tunnel", "relay")), ""),
		atLeast("tunnel, of the fastest other: at least 1", 1, of("tunnel", "authsome").over(most(append(peers("tunnel"), of("tunnel", "haproxy"))...)), ""),
		atMost("first event: under 500 µs", 500, of("sse", "authsome"), " µs"),
		atMost("a client's cancellation at the origin, p99 of the slowest way: within 200 ms", 200, rep.slowest("cancel"), " ms"),
		atMost("an origin's reset at the client, p99 of the slowest way: within 200 ms", 200, rep.slowest("broken"), " ms"),
		atMost("finding a route among 10 000 providers: under 200 ns", 200, match.cpu, " ns"),
		atMost("… and without an allocation", 0, samples{float64(match.allocs)}, ""),
		atMost("an idle intercepted connection: at most 40 KiB", 40, of("idle", "authsome"), " KiB"),
	}
}

// tunnelBound is the part of direct's throughput that two processors allow to a
// tunnel that only splices.
func (rep *report) tunnelBound() samples {
	ends := rep.of("tunnel ends", "direct")
	return ends.zip(rep.of("tunnel cpu", "relay"), func(ends, relay float64) float64 { return ends / (ends + relay) })
}

// slowest returns authsome's samples of the way that passes on least soon what one
// side breaks off. It has none when a way was not measured.
func (rep *report) slowest(mode string) samples {
	var all []samples
	for _, w := range ways {
		s := rep.of(mode+" "+w.client+" "+w.origin+" p99", "authsome")
		if len(s.good()) == 0 {
			return nil
		}
		all = append(all, s)
	}
	return most(all...)
}
