package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// What the table of foreign words offers exists, and it hides no command.
func TestForeignWords(t *testing.T) {
	root := newRoot(&app{})
	for name, words := range meantBy {
		group := root
		if name != "" {
			group = child(root, name)
		}
		if group == nil || group != root && !isGroup(group) {
			t.Errorf("there is no group %q", name)
			continue
		}
		for word, offers := range words {
			if child(group, word) != nil || len(offers) == 0 {
				t.Errorf("%s %s: offers %q, and a command may have that name", name, word, offers)
			}
			for _, offer := range offers {
				if !exists(root, group, strings.Fields(offer)) {
					t.Errorf("%s %s: there is no %q", name, word, offer)
				}
			}
		}
	}
}

// exists reports whether words are a command below cmd, with flags of its.
func exists(root, cmd *cobra.Command, words []string) bool {
	for _, word := range words {
		flag, isFlag := strings.CutPrefix(word, "--")
		switch next := child(cmd, word); {
		case isFlag:
			if cmd.Flags().Lookup(flag) == nil {
				return false
			}
		case word == "help" && cmd == root: // cobra adds it when it runs
		case next == nil:
			return false
		default:
			cmd = next
		}
	}
	return true
}
