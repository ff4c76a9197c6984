package main

import (
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

func TestSamples(t *testing.T) {
	nan := math.NaN()
	for _, tt := range []struct {
		s    samples
		want string
	}{
		{nil, "–"},
		{samples{nan}, "–"},
		{samples{0.25}, "0.250"},
		{samples{3, nan, 1, 2}, "2.00 (1.00–3.00)"},
		{samples{10, 20}, "15.0 (10.0–20.0)"},
		{samples{12345.6, 1234567}, "623\u202f456 (12\u202f346–1\u202f234\u202f567)"},
	} {
		if got := tt.s.cell(); got != tt.want {
			t.Errorf("cell of %v = %q, want %q", tt.s, got, tt.want)
		}
	}
	ratio := samples{1, 4, nan}.over(samples{2, 2, 2})
	if got, want := ratio.cell(), "1.25 (0.500–2.00)"; got != want {
		t.Errorf("ratio = %q, want %q", got, want)
	}
	if got, want := most(samples{1, 4}, nil, samples{2, nan, 5}, samples{nan}).cell(), "3.50 (2.00–5.00)"; got != want {
		t.Errorf("most = %q, want %q", got, want)
	}
}

// testReport has values for some metrics and contestants, and a round that
// failed.
func testReport() *report {
	rep := &report{scale: full, names: []string{"authsome", "haproxy", "mitmproxy", "direct"},
		values: make(map[string]map[string]samples), failed: map[string]string{"mitmproxy: sse": "EOF\nmore"}}
	for i, name := range rep.names {
		for round := range 3 {
			if name == "haproxy" && round == 1 {
				continue
			}
			for _, metric := range []string{"keep 1 rate", "keep 64 rate", "keep 64 cpu", "idle"} {
				rep.add(metric, name, round, float64((i+1)*(i+1)*(round+1)))
			}
			for k, w := range ways {
				rep.add("cancel "+w.client+" "+w.origin+" p99", name, round, float64(i*1000+k*(round+1)))
				if w.client == "h1" {
					rep.add("broken "+w.client+" "+w.origin+" p99", name, round, 1)
				}
			}
		}
	}
	return rep
}

func TestReport(t *testing.T) {
	rep := testReport()
	text := rep.markdown("plot.svg")
	for _, want := range []string{
		"| CPU per request, of haproxy's: aiming at 1 | 0.250 (0.250–0.250) | met |",
		"| first event: under 500 µs | – | not measured |",
		"| a client's cancellation at the origin, p99 of the slowest way: within 200 ms | 6.00 (3.00–9.00) ms | met |",
		"| an origin's reset at the client, p99 of the slowest way: within 200 ms | – | not measured |",
		"| a client's cancellation at the origin, p99 ms, h2 client, h1 origin | 4.00 (2.00–6.00) | 1\u202f004 ",
		"| requests/s, 1 connection | 2.00 (1.00–3.00) | 8.00 (4.00–12.0) |",
		"- mitmproxy: sse: EOF\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q", want)
		}
	}
	d := xml.NewDecoder(strings.NewReader(rep.plot()))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("plot is not XML: %v", err)
		}
	}
	if strings.Contains(rep.plot(), "NaN") {
		t.Error("plot has NaN in it")
	}
}

func TestWants(t *testing.T) {
	for _, tt := range []struct {
		just, name string
		want       bool
	}{
		{"", "keep 64", true},
		{"cancel,broken", "cancel h1 h2", true},
		{"cancel,broken", "broken h2 h2", true},
		{"cancel", "broken h1 h1", false},
		{"keep", "idle", false},
	} {
		if got := (options{just: tt.just}).wants(tt.name); got != tt.want {
			t.Errorf("-just %q: %q got %v, want %v", tt.just, tt.name, got, tt.want)
		}
	}
}
