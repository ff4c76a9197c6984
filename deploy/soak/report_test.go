//go:build linux

package soak_test

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

//go:embed testdata/endurance.md.tmpl
var reportText string

// kinds are what was done, in the order of their names.
func (l *load) kinds() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.counts))
}

// write writes the report of a long run.
func (s *soak) write(path string) {
	t := s.w.t
	rows := &strings.Builder{}
	for _, q := range quantities {
		first, last, most := q.thirds(s.samples)
		verdict := "flat"
		if q.grows {
			verdict = "grows with use"
		} else if !q.flat(first, last) {
			verdict = "**grows**"
		}
		fmt.Fprintf(rows, "| %s | %s | %s | %s | %s | %s | %s |\n", q.name, q.text(q.of(s.before)), q.text(first), q.text(last), q.text(most), q.text(q.of(s.after)), verdict)
	}
	work := &strings.Builder{}
	for _, kind := range s.load.kinds() {
		fmt.Fprintf(work, "| %s | %d |\n", kind, s.load.counts[kind])
	}
	out := &strings.Builder{}
	err := template.Must(template.New("").Parse(reportText)).Execute(out, map[string]any{
		"Date": s.began.UTC().Format("2006-01-02"), "Lasts": s.lasts, "Machine": machine(), "Load": loadAverage(),
		"Quantities": rows, "Work": work, "Requests": int(s.requests), "Injected": int(s.injected),
		"Refreshes": int(s.refreshes), "Late": s.late, "HangUps": s.hangUps, "Turns": s.load.counts["login and logout"],
		"Effect": median(s.load.effect).Round(time.Millisecond), "Slowest": slices.Max(append(s.load.effect, 0)).Round(time.Millisecond),
		"Unexpected": s.load.failures, "Processor": fmt.Sprintf("%.0f s", s.cpu), "Samples": len(s.samples), "WarmUp": min(warmUp, s.lasts/4),
		"Margin": int(margin * 100),
	})
	if err == nil {
		err = os.WriteFile(path, []byte(out.String()), 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

// machine says what the run was made on.
func machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s, %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), runtime.Version())
}

// loadAverage is the machine's, of all that runs on it, over 15 minutes.
func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(b)); len(f) > 2 {
		return f[2]
	}
	return "unknown"
}
