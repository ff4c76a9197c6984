//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the scripts of testdata/script against the built binary.
// Besides testscript's own, they have these commands:
//
//	exits CODE PROGRAM ARG...   run it and expect the code; authsome's output
//	                            must also keep the rules of [checkOutput]
//	json PATH VALUE             the JSON on stdout has this at PATH (a.0.b)
//	jsonkeys PATH KEY...        and exactly these keys
//	mode OCTAL FILE...          the files' permissions
func TestScripts(t *testing.T) {
	w := newWorld(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(time.Minute),
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"PATH":          filepath.Dir(binary) + string(os.PathListSeparator) + os.Getenv("PATH"),
				"AUTHSOME_HOME": filepath.Join(env.WorkDir, "home"),
				"HOME":          env.WorkDir,
				"HTTPS_PROXY":   w.internet,
				"SSL_CERT_FILE": w.roots,
				"CANARY":        canary,
				"FREE_PORT":     freePort(t),
				"LANG":          "C.UTF-8",
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "json": jsonValue, "jsonkeys": jsonKeys, "mode": fileMode,
		},
	})
}

// freePort returns a port that was free just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%s exited with %d, want %d", args[1], got, want)
	}
	if args[1] == "authsome" {
		for _, problem := range checkOutput(args[2:], got, ts.ReadFile("stdout"), ts.ReadFile("stderr")) {
			ts.Fatalf("%s", problem)
		}
	}
}

// checkOutput holds what every command promises of its output: no stack trace,
// no colour in a pipe, no secret that was not asked for, one JSON value with
// --json, and of an error one line that says what to run next.
func checkOutput(args []string, code int, stdout, stderr string) []string {
	var problems []string
	complain := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }
	both := stdout + stderr
	if strings.Contains(both, "goroutine ") || strings.Contains(both, "panic:") {
		complain("a stack trace")
	}
	if strings.Contains(both, "\x1b") {
		complain("an escape sequence, and stdout is no terminal")
	}
	asked := slices.Contains(args, "export") || slices.Contains(args, "--show-secret")
	if strings.Contains(stderr, canary) || strings.Contains(stdout, canary) && !asked {
		complain("the secret was printed")
	}
	if strings.Contains(both, "Go struct field") || strings.Contains(both, "Go value") {
		complain("an error in the words of the Go library")
	}
	own := code >= 125 && code <= 127 || !slices.Contains(args, "run")
	if code == 0 || !own {
		if slices.Contains(args, "--quiet") && own {
			for line := range strings.Lines(stderr) {
				prompt := strings.HasPrefix(line, "Open ") // what a login cannot go on without
				if !strings.HasPrefix(line, "warning: ") && !prompt {
					complain("chatter though --quiet: %q", line)
				}
			}
		}
	} else if !slices.Contains(args, "--json") {
		problems = append(problems, checkErrorLine(stderr)...)
	}
	if slices.Contains(args, "--json") && own {
		problems = append(problems, checkJSON(code, stdout, stderr)...)
	}
	return problems
}

// errorLine is an error and what to run or do next.
var errorLine = regexp.MustCompile(`(?m)^error: .+ \(.+\)$`)

func checkErrorLine(stderr string) []string {
	if n := strings.Count("\n"+stderr, "\nerror: "); n != 1 {
		return []string{fmt.Sprintf("%d lines on stderr begin with \"error: \", want 1", n)}
	}
	if !errorLine.MatchString(stderr) {
		return []string{"the error does not say what to do next"}
	}
	if !strings.HasPrefix(stderr[strings.LastIndex(strings.TrimSuffix(stderr, "\n"), "\n")+1:], "error: ") {
		return []string{"the error is not the last line"}
	}
	return nil
}

func checkJSON(code int, stdout, stderr string) []string {
	dec := json.NewDecoder(strings.NewReader(stdout))
	var value any
	if err := dec.Decode(&value); err != nil {
		return []string{fmt.Sprintf("stdout is not JSON: %v", err)}
	}
	if err := dec.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return []string{"there is more than one JSON value on stdout"}
	}
	if code == 0 {
		return nil
	}
	fault, _ := value.(map[string]any)
	if fault["error"] == nil {
		return checkErrorLine(stderr) // data was printed, the error is on stderr
	}
	for _, key := range []string{"error", "message", "hint"} {
		if text, _ := fault[key].(string); text == "" || strings.Contains(text, "\n") {
			return []string{fmt.Sprintf("%q of the error is %q", key, text)}
		}
	}
	return nil
}

// at walks to a place in a JSON value: "" is all of it, "a.0.b" a part.
func at(ts *testscript.TestScript, path string) any {
	var value any
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	ts.Check(dec.Decode(&value))
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		switch v := value.(type) {
		case map[string]any:
			next, ok := v[step]
			if !ok {
				ts.Fatalf("there is no %q in %s", step, path)
			}
			value = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(v) {
				ts.Fatalf("there is no element %q in %s", step, path)
			}
			value = v[i]
		default:
			ts.Fatalf("%s: %q is inside %v", path, step, value)
		}
	}
	return value
}

func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] json PATH VALUE")
	}
	value := at(ts, args[0])
	got, ok := value.(string)
	if !ok {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		ts.Check(enc.Encode(value))
		got = strings.TrimSpace(b.String())
	}
	if (got == args[1]) == neg {
		ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
	}
}

func jsonKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: jsonkeys PATH KEY...")
	}
	object, ok := at(ts, args[0]).(map[string]any)
	if !ok {
		ts.Fatalf("%s is no object", args[0])
	}
	var got []string
	for key := range object {
		got = append(got, key)
	}
	want := slices.Sorted(slices.Values(args[1:]))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		ts.Fatalf("%s has the keys %q, want %q", args[0], got, want)
	}
}

func fileMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode OCTAL FILE...")
	}
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}
