package main

import (
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// columnsOf returns how wide a terminal is, 0 for what is none: what goes into a
// pipe or a file is never cut.
func columnsOf(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// table prints rows in columns; the first is the heading. On a terminal the
// widest columns are cut so that a row is a line.
func (a *app) table(rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
			widths[i] = max(widths[i], cells(row[i]))
		}
	}
	fit(widths, columnsOf(a.stdout))
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			cell = cut(cell, widths[i])
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-cells(cell)+len(gap)))
			}
		}
		line := strings.TrimRight(b.String(), " ")
		if n == 0 {
			line = a.paint(a.stdout, bold, line)
		}
		if err := a.print("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// gap is between two columns.
const gap = "  "

// leastCells are what remains of a column at least. A terminal that has no room
// for that wraps.
const leastCells = 3

// fit narrows columns, the widest first, until they fit. 0 columns is no limit.
func fit(widths []int, columns int) {
	if columns == 0 {
		return
	}
	over := len(gap)*(len(widths)-1) - columns
	for _, w := range widths {
		over += w
	}
	for ; over > 0; over-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= leastCells {
			return
		}
		widths[widest]--
	}
}

// cells is how many cells of a terminal a text takes.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n += cellsOf(r)
	}
	return n
}

func cellsOf(r rune) int {
	switch kind := width.LookupRune(r).Kind(); {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case kind == width.EastAsianWide, kind == width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cut shortens a text to a number of cells, and shows by … that it did.
func cut(s string, limit int) string {
	if cells(s) <= limit {
		return s
	}
	room := limit - 1 // for the …
	for i, r := range s {
		if room -= cellsOf(r); room < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

// printable keeps a text of somebody else's from doing anything to the
// terminal: control characters, and those that turn the direction of writing.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}
