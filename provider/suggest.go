package provider

import (
	"cmp"
	"slices"
	"strings"
)

// maxSuggestions bounds what is offered for a mistyped name.
const maxSuggestions = 3

// Suggest returns the names that are spelled like name, nearest first, at most
// three.
func Suggest(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	name = strings.ToLower(name)
	if name == "" || len(name) > maxNameBytes {
		return nil
	}
	var near []candidate
	for _, n := range names {
		d := distance(name, strings.ToLower(n))
		// A start that is long enough is as good as one slip.
		if len(name) >= 3 && strings.HasPrefix(strings.ToLower(n), name) {
			d = min(d, 1)
		}
		if d <= max(1, len(name)/3) {
			near = append(near, candidate{n, d})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range near[:min(len(near), maxSuggestions)] {
		out = append(out, c.name)
	}
	return out
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours that turn a into b (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
