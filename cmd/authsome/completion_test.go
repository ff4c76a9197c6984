//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completing is a world whose "authsome" prints its arguments, each in brackets,
// and completes as the real one does.
func completing(t *testing.T) (w *world, dir string) {
	w = newWorld(t)
	w.login(exampleDefinition, "example")
	if r := w.run(w.command(nil, "login", "example", "--connection", "workplace", "--secret-file", "-"), canary+"\n"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	w.must("profile", "create", "another")
	dir = t.TempDir()
	script := "#!/bin/sh\ncase $1 in completion|__complete*) exec " + binary + " \"$@\";; esac\nprintf '<'; printf '[%s]' \"$@\"; echo '>'\n"
	if err := os.WriteFile(filepath.Join(dir, "authsome"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return w, dir
}

// pressed are command lines with a press of the tabulator in them, and the
// arguments that the command then gets.
var pressed = []struct{ typed, want string }{
	{"authsome inspect exam\t", "[inspect][example]"},
	{"authsome conn\tdef\texam\twork\t", "[connection][default][example][workplace]"},
	{"authsome get example --conn\twork\t", "[get][example][--connection][workplace]"},
	{"authsome run --connection example=work\t true", "[run][--connection][example=workplace][true]"},
	{"authsome run --connection=example=work\t true", "[run][--connection=example=workplace][true]"},
	{"authsome list --profile ano\t", "[list][--profile][another]"},
	{"authsome --profile=ano\t list", "[--profile=another][list]"},
	{"authsome profile use ano\t", "[profile][use][another]"},
	{"authsome export --format sh\t", "[export][--format][shell]"},
	{"authsome log --event inj\t", "[log][--event][inject]"},
	{"authsome vault rekey --mode pass\t", "[vault][rekey][--mode][passphrase]"},
}

// TestCompletionInShells presses the tabulator in real shells on a terminal:
// bash with and without the package that its completions commonly use, and zsh.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	w, dir := completing(t)
	for _, shell := range []struct {
		name  string
		argv  []string
		setup string
	}{
		{"bash", []string{"bash", "--norc", "--noprofile", "-i"}, "source <(authsome completion bash)"},
		{"bash with bash-completion", []string{"bash", "--norc", "--noprofile", "-i"},
			"source /usr/share/bash-completion/bash_completion && source <(authsome completion bash)"},
		{"zsh", []string{"zsh", "-f", "-i"}, "autoload -Uz compinit && compinit -u -D && source <(authsome completion zsh)"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(tool(t, shell.argv[0]), shell.argv[1:]...)
			cmd.Env = append(w.env("PS1=$ ", "TERM=dumb", "HISTFILE=", "A="+binary), "PATH="+dir+":"+os.Getenv("PATH"))
			term := onTerminal(t, cmd)
			term.typed("bind 'set enable-bracketed-paste off' 2>/dev/null; " + shell.setup + " && echo rea''dy\r")
			term.expect("ready")
			for i, p := range pressed {
				line, rest, _ := strings.Cut(p.typed, "\t")
				for _, part := range strings.SplitAfter(line+"\t"+rest, "\t") {
					term.typed(part)
				}
				term.typed("\r")
				var got string
				eventually(t, fmt.Sprintf("%q gives %s", p.typed, p.want), func() bool {
					out := term.output()
					got = out[max(0, strings.LastIndex(out, "<[")):]
					return strings.Count(out, "<[") > i && strings.Contains(got, ">") // all of it
				}, term.output)
				if !strings.HasPrefix(got, "<"+p.want+">") {
					t.Errorf("%q: got %s, want %s", p.typed, strings.SplitN(got, "\n", 2)[0], p.want)
				}
			}
		})
	}
}

// TestCompletionInFish asks fish itself what it would offer.
func TestCompletionInFish(t *testing.T) {
	t.Parallel()
	w, dir := completing(t)
	for _, p := range pressed {
		line, _, _ := strings.Cut(p.typed, "\t")
		if strings.Count(p.typed, "\t") > 1 {
			line = "authsome connection default example work"
		}
		cmd := exec.Command(tool(t, "fish"), "--no-config", "-c", "authsome completion fish | source; complete -C \"$LINE\"")
		cmd.Env = append(w.env("LINE="+line), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("fish: %v: %s", err, out)
		}
		offered := strings.Split(strings.SplitN(string(out), "\n", 2)[0], "\t")[0]
		words := strings.FieldsFunc(p.want, func(r rune) bool { return r == '[' || r == ']' })
		if !slices.Contains(words, offered) || !strings.HasPrefix(offered, line[strings.LastIndexAny(line, " ")+1:]) {
			t.Errorf("%q: fish offers %q, want it for %s", line, out, p.want)
		}
	}
}

// TestCompletionOffersAll holds the lists that are completed from to the documents
// that a test holds to the program.
func TestCompletionOffersAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join(schemaDir, "get.json"))), &schema); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(page(t, "audit.md"), "## Events")
	table, _, _ = strings.Cut(table, "## Tampering")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"get", "openai", "--field", ""}, slices.Sorted(maps.Keys(schema.Properties))},
		{[]string{"log", "--event", ""}, slices.Sorted(maps.Keys(tabled(table)))},
	} {
		offered := strings.Fields(w.must(append([]string{"__complete"}, c.args...)...).stdout)
		offered = offered[:len(offered)-1] // what the shell is to do
		slices.Sort(offered)
		if !slices.Equal(offered, c.want) {
			t.Errorf("%v offers %q, want %q", c.args, offered, c.want)
		}
	}
}

// TestCompletionTouchesNothing completes with no home, and with one that is
// locked: nothing is made, asked or said.
func TestCompletionTouchesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ask := [][]string{{"get", "exam"}, {"connection", "default", "example", ""}, {"get", "example", "--connection", ""},
		{"run", "--connection", ""}, {"list", "--profile", ""}, {"profile", "use", ""}, {"log", "--provider", ""}}
	for _, args := range ask {
		if r := w.must(append([]string{"__complete"}, args...)...); strings.Contains(r.stdout, "Error") {
			t.Errorf("%q: %s%s", args, r.stdout, r.stderr)
		}
	}
	if _, err := os.Stat(w.home); err == nil {
		t.Error("a completion made a home")
	}
	w.login(exampleDefinition, "example")
	passphrase := file(t, t.TempDir(), "passphrase", "correct horse battery staple\n")
	if r := w.run(w.command([]string{"AUTHSOME_PASSPHRASE_FILE=" + passphrase}, "vault", "rekey", "--mode", "passphrase"), ""); r.code != 0 {
		t.Fatal(r.stderr)
	}
	before := w.events()
	for _, args := range ask {
		term := onTerminal(t, w.command(nil, append([]string{"__complete"}, args...)...))
		if code := term.wait(); code != 0 || strings.Contains(term.output(), "assphrase") {
			t.Errorf("%q: exit %d: %s", args, code, term.output())
		}
	}
	if r := w.must("__complete", "run", "--connection", ""); !strings.HasPrefix(r.stdout, "example=default\n") {
		t.Errorf("a locked vault has the connections %s", r.stdout)
	}
	if w.events() != before {
		t.Error("a completion is on record")
	}
}
