package main

import (
	"io"
	"os"
	"slices"
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

// table prints rows in columns; the first is the heading. On a terminal a row is
// a line: the widest columns are cut, and where that would leave too little of
// them the columns of these headings go first, one after the other.
func (a *app) table(rows [][]string, spare ...string) error {
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
	}
	columns := columnsOf(a.stdout)
	widths, enough := fit(rows, columns)
	for ; !enough && len(spare) > 0; spare = spare[1:] {
		rows = without(rows, slices.Index(rows[0], spare[0]))
		widths, enough = fit(rows, columns)
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			cell = shorten(cell, widths[i])
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

// What remains of a column that is cut: less than enoughCells say little, and
// leastCells remain whatever the terminal.
const (
	enoughCells = 12
	leastCells  = 3
)

// fit returns how wide columns may be, narrowing the widest first until a row
// fits; 0 columns is no limit. enough is whether what remains says something.
func fit(rows [][]string, columns int) (widths []int, enough bool) {
	widths = make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], cells(cell))
		}
	}
	over := len(gap)*(len(widths)-1) - columns
	for _, w := range widths {
		over += w
	}
	enough = true
	for ; columns > 0 && over > 0; over-- {
		widest := slices.Index(widths, slices.Max(widths))
		if widths[widest] <= leastCells {
			break
		}
		widths[widest]--
		enough = enough && widths[widest] >= enoughCells
	}
	return widths, enough
}

// without returns rows that lack a column.
func without(rows [][]string, column int) [][]string {
	out := make([][]string, len(rows))
	for n, row := range rows {
		out[n] = slices.Concat(row[:column], row[column+1:])
	}
	return out
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

// shorten cuts a cell. Of "Display Name [name]" the name stays, which is what a
// person types.
func shorten(cell string, limit int) string {
	title, name, ok := strings.Cut(cell, " [")
	if !ok || !strings.HasSuffix(name, "]") || cells(cell) <= limit {
		return cut(cell, limit)
	}
	if room := limit - cells(" ["+name); room > 0 {
		return cut(title, room) + " [" + name
	}
	return cut(strings.TrimSuffix(name, "]"), limit)
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
