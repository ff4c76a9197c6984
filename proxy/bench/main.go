// Bench measures the proxy against its peers on this machine: the same load,
// the same origin, one contestant after the other in every round, so that what
// disturbs the machine disturbs all of them. It writes a table and a plot.
//
// Only ratios within one run mean anything. All traffic stays on the loopback.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func main() {
	testing.Init() // registers what testing.Benchmark reads
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx))
}

// options are the command line's.
type options struct {
	quick bool
	docs  string
	only  string
	just  string
	json  string
	keep  bool
}

func run(ctx context.Context) int {
	var o options
	flag.BoolVar(&o.quick, "quick", false, "take less than a minute; the spread is large")
	flag.StringVar(&o.docs, "docs", "", "directory for benchmarks.md and benchmarks.svg; none prints the table")
	flag.StringVar(&o.only, "only", "", "contestants, separated by commas; none is all")
	flag.StringVar(&o.just, "just", "", "measurements, by the first word of their names, separated by commas; none is all")
	flag.StringVar(&o.json, "json", "", "file for every single sample")
	flag.BoolVar(&o.keep, "keep", false, "keep the temporary directory")
	flag.Parse()
	flag.Set("test.benchtime", "60ms")
	if err := o.run(ctx); err != nil {
		slog.Error("benchmark failed", "error", err)
		return 1
	}
	return 0
}

func (o options) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "authsome-bench-")
	if err != nil {
		return err
	}
	if !o.keep {
		defer os.RemoveAll(dir)
	}
	slog.Info("building", "in", dir)
	if err := build(ctx, dir); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	sc := full
	if o.quick {
		sc = quick
	}
	meter := startMeter()
	rep, err := o.race(ctx, dir, sc)
	if err != nil {
		return err
	}
	rep.others = meter.others()
	if o.json != "" {
		if err := rep.saveSamples(o.json); err != nil {
			return err
		}
	}
	if o.docs == "" || o.just != "" { // a part of the report would replace all of it
		fmt.Print(rep.markdown(""))
		return nil
	}
	if err := os.WriteFile(filepath.Join(o.docs, "benchmarks.svg"), []byte(rep.plot()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.docs, "benchmarks.md"), []byte(rep.markdown("benchmarks.svg")), 0o644)
}

// wants reports whether a measurement is to be made.
func (o options) wants(name string) bool {
	first, _, _ := strings.Cut(name, " ")
	return o.just == "" || slices.Contains(strings.Split(o.just, ","), first)
}

// race runs everything there is to run.
func (o options) race(ctx context.Context, dir string, sc scale) (*report, error) {
	began := time.Now()
	s, err := newStage(dir)
	if err != nil {
		return nil, err
	}
	defer s.origin.stop()
	rep := &report{scale: sc, values: make(map[string]map[string]samples), failed: make(map[string]string), machine: describeMachine(),
		processors: runtime.NumCPU()}
	var field []*contestant
	for _, st := range starters {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), st.name) {
			continue
		}
		c, err := s.start(st.name)
		if err != nil {
			slog.Warn("contestant does not take part", "name", st.name, "error", err)
			rep.failed[st.name] = err.Error()
			continue
		}
		defer c.stop()
		field = append(field, c)
		rep.names = append(rep.names, st.name)
	}
	for round := range sc.rounds {
		since := time.Since(began)
		if round > 0 && since+since/time.Duration(round) > sc.budget-sc.last {
			slog.Warn("no time for another round", "made", round)
			break
		}
		rep.rounds = round + 1
		slog.Info("round", "number", round+1, "of", sc.rounds, "since", since.Round(time.Second))
		for _, m := range sc.plan() {
			if !o.wants(m.name) {
				continue
			}
			rep.each(ctx, round, field, m.name, func(c *contestant) (map[string]float64, error) {
				if c.small && !m.small {
					return nil, nil
				}
				return m.run(ctx, s, c)
			})
		}
	}
	for round := range sc.idleRounds {
		if !o.wants("idle") {
			break
		}
		slog.Info("idle connections", "round", round+1, "since", time.Since(began).Round(time.Second))
		rep.each(ctx, round, field, "idle", func(c *contestant) (map[string]float64, error) {
			if c.proc == nil || c.small {
				return nil, nil
			}
			return sc.idleCost(ctx, s, c.name)
		})
	}
	if o.wants("micro") {
		rep.micro = micros()
	}
	rep.took = time.Since(began)
	return rep, ctx.Err()
}

// each measures every contestant in turn, beginning with another one in every
// round.
func (rep *report) each(ctx context.Context, round int, field []*contestant, name string, measure func(*contestant) (map[string]float64, error)) {
	for i := range field {
		c := field[(i+round)%len(field)]
		if ctx.Err() != nil {
			return
		}
		values, err := measure(c)
		if err != nil {
			slog.Warn("measurement failed", "contestant", c.name, "measurement", name, "error", err)
			rep.failed[c.name+": "+name] = err.Error()
			continue
		}
		for metric, v := range values {
			rep.add(metric, c.name, round, v)
		}
	}
}

func (rep *report) add(metric, name string, round int, v float64) {
	of := rep.values[metric]
	if of == nil {
		of = make(map[string]samples)
		rep.values[metric] = of
	}
	for len(of[name]) < round {
		of[name] = append(of[name], math.NaN())
	}
	of[name] = append(of[name], v)
}

// saveSamples writes metric → contestant → samples.
func (rep *report) saveSamples(path string) error {
	out := make(map[string]map[string][]string)
	for metric, of := range rep.values {
		out[metric] = make(map[string][]string)
		for name, s := range of {
			for _, v := range s {
				out[metric][name] = append(out[metric][name], fmt.Sprintf("%.4g", v))
			}
		}
	}
	data, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
