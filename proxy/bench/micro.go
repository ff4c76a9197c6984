package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"authsome/ca"
	"authsome/injector"
	"authsome/provider"
)

// routeTable has n providers: mostly exact hosts, some wildcards.
func routeTable(n int) *injector.Table {
	routes := make([]*injector.Route, n)
	for i := range routes {
		p := provider.HostPattern{Kind: provider.Exact, Host: "api.p" + strconv.Itoa(i) + ".test", Port: 443}
		if i%10 == 9 {
			p.Kind, p.Host = provider.Wildcard, "p"+strconv.Itoa(i)+".test"
		}
		p.Raw = p.Host
		routes[i] = &injector.Route{Provider: "p" + strconv.Itoa(i), Connection: "default", Pattern: p,
			Injects: []provider.Inject{{Manner: provider.MannerBearer}}}
	}
	return injector.NewTable(routes)
}

// benchMatch finds one route of n.
func benchMatch(n int, host string) func(*testing.B) {
	return func(b *testing.B) {
		table := routeTable(n)
		target := injector.Target{Host: host, Port: 443}
		r, err := http.NewRequest(http.MethodGet, "https://"+host+"/v1/chat/completions?stream=true", nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		defer chargeCPU(b)()
		for b.Loop() {
			if m, err := table.Match(target, r); err != nil || m.Route == nil {
				b.Fatal("no match", err)
			}
		}
	}
}

// benchMint issues a leaf for a host that has none yet.
func benchMint(b *testing.B) {
	a, err := ca.New(context.Background(), ca.Config{PermittedDNS: []string{"test"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer chargeCPU(b)()
	i := 0
	for b.Loop() {
		i++
		if _, err := a.Leaf(context.Background(), "h"+strconv.Itoa(i)+".test"); err != nil {
			b.Fatal(err)
		}
	}
}

// benchCached looks up a leaf that exists.
func benchCached(b *testing.B) {
	a, err := ca.New(context.Background(), ca.Config{PermittedDNS: []string{"test"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer chargeCPU(b)()
	for b.Loop() {
		if _, err := a.Leaf(context.Background(), "h.test"); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuMetric is the processor's time for one operation, in nanoseconds. On a
// machine that is shared it says more than the clock on the wall.
const cpuMetric = "cpu-ns/op"

// chargeCPU reports cpuMetric for what happens until the returned function is
// called.
func chargeCPU(b *testing.B) func() {
	from := ownTime()
	return func() { b.ReportMetric(float64(ownTime()-from)/float64(b.N), cpuMetric) }
}

// micro is one cost within the process.
type micro struct {
	cpu    samples // nanoseconds
	allocs int64
}

// microRounds is how often each is measured.
const microRounds = 5

// micros measures the costs within the process, by name.
func micros() map[string]micro {
	benches := map[string]func(*testing.B){"match wildcard": benchMatch(10000, "eu.p5009.test"), "mint": benchMint, "leaf": benchCached}
	for _, n := range []int{10, 1000, 10000} {
		benches[fmt.Sprintf("match %d", n)] = benchMatch(n, "api.p"+strconv.Itoa(n/2)+".test")
	}
	out := make(map[string]micro)
	for range microRounds {
		for name, f := range benches {
			r := testing.Benchmark(f)
			out[name] = micro{append(out[name].cpu, r.Extra[cpuMetric]), r.AllocsPerOp()}
		}
	}
	return out
}
