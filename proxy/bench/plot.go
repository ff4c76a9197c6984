package main

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strings"
)

// panel is one small bar chart: one bar for each contestant.
type panel struct {
	title, note, metric string
}

const (
	panelWidth, panelHeight = 372, 190
	barHeight, barGap       = 17, 6
	labelWidth, valueWidth  = 74, 62
	outlier                 = 3 // a value so many times the next one's is cut off
)

// style follows the reader's light or dark page.
const style = `<style>
text{font:12px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.n{fill:#59636e;font-size:11px}
.b{fill:#b6bec8}.us{fill:#0969da}.l{fill:#d1d9e0}.g{stroke:#d1d9e0;stroke-width:1}
.s{fill:none;stroke:#9aa4af;stroke-width:1.5}.su{fill:none;stroke:#0969da;stroke-width:2.5}.cut{fill:none;stroke:#fff;stroke-width:3}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.b{fill:#4d5561}.us{fill:#4493f8}.l{fill:#3d444d}
.g{stroke:#3d444d}.s{stroke:#7d8590}.su{stroke:#4493f8}.cut{stroke:#0d1117}}
</style>`

// plot draws the main numbers as small charts, with the requests over the
// number of connections first.
func (rep *report) plot() string {
	panels := []panel{
		{"CPU per request, µs", "64 connections; less is better", "keep 64 cpu"},
		{"New connections per second", "full handshakes; more is better", "new rate"},
		{"100 MB download, MB/s", "HTTP/1.1 origin; more is better", "download h1"},
		{"100 MB download, MB/s", "HTTP/2 origin; more is better", "download h2"},
		{"KiB per idle connection", "less is better", "idle"},
	}
	columns, rows := 2, (len(panels)+2)/2
	w, h := columns*panelWidth, rows*panelHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Benchmark of HTTPS proxies that attach a credential">%s`+"\n", w, h, w, h, style)
	rep.lines(&b, 0, 0)
	for i, p := range panels {
		at := i + 1
		rep.bars(&b, p, at%columns*panelWidth, at/columns*panelHeight)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// bars draws one panel with its corner at x, y.
func (rep *report) bars(b *strings.Builder, p panel, x, y int) {
	fmt.Fprintf(b, `<g transform="translate(%d %d)"><text x="8" y="20" class="t">%s</text><text x="8" y="36" class="n">%s</text>`+"\n",
		x, y, html.EscapeString(p.title), html.EscapeString(p.note))
	top := rep.ceiling(p.metric)
	at := 46
	for _, name := range rep.names {
		v := rep.of(p.metric, name).median()
		if math.IsNaN(v) {
			continue
		}
		full := float64(panelWidth - labelWidth - valueWidth - 16)
		width := math.Max(1, math.Min(v/top, 1)*full)
		class := "b"
		if name == "authsome" {
			class = "us"
		}
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`,
			labelWidth, at+13, name, class, labelWidth+8, at, width, barHeight)
		if v > top { // a break in the bar
			fmt.Fprintf(b, `<path class="cut" d="M%.1f %d l6 %d"/>`, float64(labelWidth)+full-14, at+barHeight+2, -barHeight-4)
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", float64(labelWidth)+14+width, at+13, number(v))
		at += barHeight + barGap
	}
	b.WriteString("</g>\n")
}

// ceiling is the value of a full bar: the largest, unless it dwarfs the others.
func (rep *report) ceiling(metric string) float64 {
	first, second := 0.0, 0.0
	for _, name := range rep.names {
		v := rep.of(metric, name).median()
		switch {
		case v > first:
			first, second = v, first
		case v > second:
			second = v
		}
	}
	if second > 0 && first > outlier*second {
		return 1.3 * second
	}
	return math.Max(first, 1e-9)
}

// lines draws requests per second over the number of connections.
func (rep *report) lines(b *strings.Builder, x, y int) {
	fmt.Fprintf(b, `<g transform="translate(%d %d)"><text x="8" y="20" class="t">Requests per second</text><text x="8" y="36" class="n">by connections; more is better</text>`+"\n", x, y)
	left, right, floor, roof := 52.0, float64(panelWidth-90), float64(panelHeight-24), 50.0
	top := 0.0
	for _, name := range rep.lined() {
		for _, n := range rep.scale.conns {
			if v := rep.of(fmt.Sprintf("keep %d rate", n), name).median(); v > top {
				top = v
			}
		}
	}
	for _, share := range []float64{0, .5, 1} {
		yy := floor - share*(floor-roof)
		fmt.Fprintf(b, `<path class="g" d="M%.0f %.1f H%.0f"/><text class="n" x="%.0f" y="%.1f" text-anchor="end">%s</text>`, left, yy, right, left-6, yy+4, number(share*top))
	}
	step := (right - left) / math.Max(1, float64(len(rep.scale.conns)-1))
	for i, n := range rep.scale.conns {
		fmt.Fprintf(b, `<text class="n" x="%.1f" y="%.1f" text-anchor="middle">%d</text>`, left+float64(i)*step, floor+16, n)
	}
	b.WriteString("\n")
	labels := make(map[string]float64)
	for _, name := range rep.lined() {
		class, path, end := "s", "M", 0.0
		if name == "authsome" {
			class = "su"
		}
		for i, n := range rep.scale.conns {
			v := rep.of(fmt.Sprintf("keep %d rate", n), name).median()
			if math.IsNaN(v) {
				continue
			}
			end = floor - v/top*(floor-roof)
			path += fmt.Sprintf(" %.1f %.1f", left+float64(i)*step, end)
		}
		labels[name] = end
		fmt.Fprintf(b, `<path class="%s" d="%s"/>`+"\n", class, path)
	}
	// From the bottom up, each label at its line's end or above the one below.
	names := slices.SortedFunc(maps.Keys(labels), func(a, b string) int { return cmp.Compare(labels[b], labels[a]) })
	below := math.Inf(1)
	for _, name := range names {
		below = math.Min(labels[name], below-13)
		fmt.Fprintf(b, `<text x="%.0f" y="%.1f">%s</text>`+"\n", right+8, below+4, name)
	}
	b.WriteString("</g>\n")
}

// lined are the contestants of the line chart: what has no proxy in it would
// flatten the others.
func (rep *report) lined() []string {
	var names []string
	for _, n := range rep.names {
		if n != "direct" && n != "relay" {
			names = append(names, n)
		}
	}
	return names
}
