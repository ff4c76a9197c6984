package main

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// samples are the values of one metric of one contestant, one per round. A
// round that failed is NaN, so that rounds of different metrics still pair up.
type samples []float64

func (s samples) good() samples {
	return slices.DeleteFunc(slices.Clone(s), math.IsNaN)
}

// median returns NaN when there is no sample.
func (s samples) median() float64 {
	g := s.good()
	if len(g) == 0 {
		return math.NaN()
	}
	slices.Sort(g)
	if n := len(g); n%2 == 0 {
		return (g[n/2-1] + g[n/2]) / 2
	}
	return g[len(g)/2]
}

func (s samples) spread() (lo, hi float64) {
	g := s.good()
	if len(g) == 0 {
		return math.NaN(), math.NaN()
	}
	return slices.Min(g), slices.Max(g)
}

// over divides round by round, which takes out what slowed the whole machine.
func (s samples) over(t samples) samples {
	return s.zip(t, func(a, b float64) float64 { return a / b })
}

func (s samples) zip(t samples, f func(a, b float64) float64) samples {
	var out samples
	for i := range min(len(s), len(t)) {
		out = append(out, f(s[i], t[i]))
	}
	return out
}

// least and most are the samples of the best of several contestants: the one
// with the best median, over all rounds. The best of each round would be
// whoever was lucky in it.
func least(all ...samples) samples { return best(all, func(a, b float64) bool { return a < b }) }
func most(all ...samples) samples  { return best(all, func(a, b float64) bool { return a > b }) }

func best(all []samples, better func(a, b float64) bool) samples {
	var out samples
	for _, s := range all {
		if m := out.median(); math.IsNaN(m) || better(s.median(), m) {
			out = s
		}
	}
	return out
}

// cell formats a median with its spread.
func (s samples) cell() string {
	lo, hi := s.spread()
	switch {
	case math.IsNaN(lo):
		return "–"
	case len(s.good()) == 1:
		return number(lo)
	}
	return number(s.median()) + " (" + number(lo) + "–" + number(hi) + ")"
}

// number writes three significant digits or the whole number.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a == 0:
		return "0"
	case a >= 100:
		return grouped(strconv.FormatFloat(math.Round(v), 'f', 0, 64))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case a >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// grouped sets thousands apart with a narrow no-break space.
func grouped(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return sign + digits
}
