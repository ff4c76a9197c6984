//go:build linux

package soak_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample is what the proxy takes of the machine at one moment.
type sample struct {
	rss, live, store, audit int64 // bytes
	descriptors, goroutines int64
}

// quantity is one of them, and how much it may grow between the first and the
// last third of a long run: by a tenth, and by slack for what is not
// proportional to anything.
type quantity struct {
	name  string
	of    func(sample) int64
	bytes bool
	slack int64
	grows bool // it is to grow: the audit log
}

const mib = 1 << 20

var quantities = []quantity{
	{name: "RSS", of: func(s sample) int64 { return s.rss }, bytes: true, slack: 4 * mib},
	{name: "live heap", of: func(s sample) int64 { return s.live }, bytes: true, slack: mib},
	{name: "descriptors", of: func(s sample) int64 { return s.descriptors }, slack: 10},
	{name: "goroutines", of: func(s sample) int64 { return s.goroutines }, slack: 10},
	{name: "store", of: func(s sample) int64 { return s.store }, bytes: true, slack: 64 << 10},
	{name: "audit log", of: func(s sample) int64 { return s.audit }, bytes: true, grows: true},
}

// margin is the growth that is still flat.
const margin = 0.10

func (q quantity) flat(first, last int64) bool {
	return q.grows || float64(last) <= float64(first)*(1+margin)+float64(q.slack)
}

func (q quantity) text(n int64) string {
	if !q.bytes {
		return fmt.Sprint(n)
	}
	if n < mib {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/mib)
}

// measure takes a sample.
func (w *world) measure() (s sample) {
	pid := w.cmd.Process.Pid
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		w.t.Errorf("the proxy has ended: %v", err)
		return s
	}
	for line := range strings.Lines(string(status)) {
		if fmt.Sscanf(line, "VmRSS: %d kB", &s.rss); strings.HasPrefix(line, "VmRSS") {
			s.rss <<= 10
		}
	}
	exposition := w.probe("/metrics")
	// What the last collection left: the next one is due at a multiple of it.
	s.live = int64(sumOf(exposition, "go_memstats_next_gc_bytes") / (1 + sumOf(exposition, "go_gc_gogc_percent")/100))
	s.goroutines = int64(sumOf(exposition, "go_goroutines"))
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		w.t.Error(err)
	}
	s.descriptors = int64(len(fds))
	s.store = sizeOf(filepath.Join(w.home, "profiles", "default", "store.db"))
	s.audit = sizeOf(filepath.Join(w.home, "audit.log*"))
	return s
}

func sizeOf(pattern string) (size int64) {
	paths, _ := filepath.Glob(pattern)
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			size += info.Size()
		}
	}
	return size
}

// sockets counts the proxy's TCP connections: those of clients, and those to
// origins that it keeps for the next request.
func (w *world) sockets() (clients, origins int) {
	mine := map[string]bool{}
	dir := fmt.Sprintf("/proc/%d/fd", w.cmd.Process.Pid)
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join(dir, fd.Name()))
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			mine[strings.TrimSuffix(inode, "]")] = true
		}
	}
	_, port, _ := strings.Cut(w.addr, ":")
	_, metrics, _ := strings.Cut(w.metrics, ":")
	table, _ := os.ReadFile("/proc/net/tcp")
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		const listening = "0A"
		if len(f) < 10 || !mine[f[9]] || f[3] == listening {
			continue
		}
		var local int
		fmt.Sscanf(f[1][strings.IndexByte(f[1], ':')+1:], "%X", &local)
		switch fmt.Sprint(local) {
		case port:
			clients++
		case metrics: // ours, asking
		default:
			origins++
		}
	}
	return clients, origins
}

// watch takes a sample every so often, until stop is closed.
func (w *world) watch(every time.Duration, stop <-chan struct{}) <-chan []sample {
	out := make(chan []sample, 1)
	go func() {
		var all []sample
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				out <- all
				return
			case <-tick.C:
				all = append(all, w.measure())
			}
		}
	}()
	return out
}

// thirds are the medians of a quantity in the first and in the last third of
// the samples, and the largest value of all.
func (q quantity) thirds(samples []sample) (first, last, most int64) {
	var values []int64
	for _, s := range samples {
		values = append(values, q.of(s))
		most = max(most, q.of(s))
	}
	n := len(values) / 3
	return median(values[:n]), median(values[len(values)-n:]), most
}

func median[T int64 | time.Duration](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// wantFlat compares the thirds of a long run, its warm-up left out.
func wantFlat(t *testing.T, samples []sample) {
	t.Helper()
	if len(samples) < 30 {
		t.Fatalf("%d samples are too few to say anything", len(samples))
	}
	for _, q := range quantities {
		if first, last, _ := q.thirds(samples); !q.flat(first, last) {
			t.Errorf("%s: %s in the first third, %s in the last", q.name, q.text(first), q.text(last))
		}
	}
}
