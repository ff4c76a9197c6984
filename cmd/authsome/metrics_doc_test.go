package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authsome"
	"authsome/proxy"

	"github.com/prometheus/client_golang/prometheus"
)

var updateMetrics = flag.Bool("update-metrics", false, "write the table of docs/metrics.md")

const metricsPage = "../../docs/metrics.md"

// described is a metric as its registry knows it.
type described struct{ name, help, labels string }

var description = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)", (?:unit: "[^"]*", )?constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// registered lists what a running proxy exposes, ours alone.
func registered(t *testing.T) []described {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	client, err := authsome.Open(ctx, authsome.Options{Home: filepath.Join(t.TempDir(), "home"), Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	a := &app{getenv: func(string) string { return "" }, stderr: os.Stderr, stdout: os.Stdout}
	e, err := a.startEngine(ctx, client, engineConfig{proxy: proxy.Config{TrustPeer: proxy.ProcessTree(os.Getpid())}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.stop(ctx)
	(&sidecar{app: a, client: client, engine: e}).register()
	descs := make(chan *prometheus.Desc, 1000)
	e.registry.Describe(descs)
	close(descs)
	var all []described
	for d := range descs {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		if !strings.HasPrefix(m[1], "authsome_") {
			continue
		}
		labels := strings.Split(m[4], ",")
		for pair := range strings.SplitSeq(m[3], ",") {
			name, _, _ := strings.Cut(pair, "=")
			labels = append(labels, name)
		}
		labels = slices.DeleteFunc(labels, func(l string) bool { return l == "" })
		all = append(all, described{m[1], m[2], strings.Join(labels, ", ")})
	}
	slices.SortFunc(all, func(a, b described) int { return strings.Compare(a.name, b.name) })
	return all
}

func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case name == "authsome_request_duration_seconds", name == "authsome_proxy_overhead_seconds":
		return "histogram"
	}
	return "gauge"
}

// TestMetricsPage holds docs/metrics.md to the registry of a running proxy.
func TestMetricsPage(t *testing.T) {
	var table strings.Builder
	for _, m := range registered(t) {
		labels := "–"
		if m.labels != "" {
			labels = "`" + strings.ReplaceAll(m.labels, ", ", "`, `") + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", m.name, kindOf(m.name), labels, m.help)
	}
	b, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "| metric | kind | labels | |\n|---|---|---|---|\n", "\n<!-- end of the table -->"
	before, rest, ok := strings.Cut(string(b), begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("the page has no table to be filled")
	}
	if *updateMetrics {
		if err := os.WriteFile(metricsPage, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != table.String() {
		t.Errorf("the table is not what a proxy exposes; run: go test ./cmd/authsome -run TestMetricsPage -update-metrics\ngot\n%s\nwant\n%s", got, table.String())
	}
	if strings.Count(table.String(), "\n") < 15 {
		t.Errorf("only these were found:\n%s", table.String())
	}
}
