package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var updateDoc = flag.Bool("update-doc", false, "write docs/cli.md")

const cliDoc = "../../docs/cli.md"

const cliDocIntro = `# Command line

Written from the program by ` + "`go test ./cmd/authsome -run TestCLIDoc -update-doc`" + `; a test holds it current.

stdout carries data only; prompts, progress, warnings and errors go to stderr. With ` + "`--json`" + ` a command prints exactly one JSON value on stdout, and a failure prints ` + "`{\"error\":\"<Code>\",\"message\":\"…\",\"hint\":\"…\"}`" + ` with the same exit code. Each command's JSON has a [schema](schema), which is linked below, and errors have [theirs](schema/error.json).

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | any other failure |
| 2 | wrong usage |
| 3 | no such provider |
| 4 | authentication failed |
| 5 | credential missing, or expired with no way to refresh it |
| 6 | refresh failed |
| 7 | store unavailable |
| 8 | cancelled |
| 125, 126, 127 | run: authsome itself failed, the command is not executable, the command was not found |
| any other | run: the command's own; 128+n when signal n ended it |

`

// TestCLIDoc holds docs/cli.md to the commands and flags that there are.
func TestCLIDoc(t *testing.T) {
	root := newRoot(&app{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	var b strings.Builder
	b.WriteString(cliDocIntro)
	b.WriteString("## Flags of every command\n\n")
	writeFlags(&b, root.PersistentFlags())
	for _, c := range root.Commands() {
		writeCommand(&b, c, "##")
	}
	if *updateDoc {
		if err := os.WriteFile(cliDoc, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(cliDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Error("docs/cli.md is not current; run: go test ./cmd/authsome -run TestCLIDoc -update-doc")
	}
}

// TestEveryFlagIsExplained holds commands and flags to words of their own, in one
// form: a phrase without a stop at its end.
func TestEveryFlagIsExplained(t *testing.T) {
	root := newRoot(&app{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}})
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.Hidden && (c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Example == "") {
			t.Errorf("%s: short %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if len(strings.Fields(f.Usage)) < 2 || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: %q", c.CommandPath(), f.Name, f.Usage)
			}
			if _, has := c.GetFlagCompletionFunc(f.Name); !has && f.Value.Type() != "bool" && !strings.HasSuffix(f.Name, "-file") &&
				!strings.HasSuffix(f.Name, "-out") && f.Name != "config" {
				t.Errorf("%s --%s completes to any file", c.CommandPath(), f.Name)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// recorder stands for authsome and writes down what it is called with. Of other
// programs there are none, and sudo does what it is asked to.
const recorder = `
authsome() { printf '%s\0' "$@" > "$CALLS.$BASHPID.$RANDOM"; }
source() { :; } # fish's takes stdin
command_not_found_handle() { if [ "$1" = sudo ]; then shift; "$@"; fi; }
`

// TestExamples has a shell read the examples in the help, which are those in
// docs/cli.md, and holds them to what the commands take.
func TestExamples(t *testing.T) {
	a := &app{getenv: func(string) string { return "" }, stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			if calls := callsOf(t, line); len(calls) == 0 {
				t.Errorf("%s: the example %q calls no authsome", c.CommandPath(), line)
			} else {
				for _, args := range calls {
					if err := taken(a, args); err != nil {
						t.Errorf("%s: the example %q: %v", c.CommandPath(), line, err)
					}
				}
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(a))
	for _, wrong := range []string{"list --no-such-flag", "lst", "login", "vault rekey extra", "log -n x"} {
		if taken(a, strings.Fields(wrong)) == nil {
			t.Errorf("authsome %s is taken", wrong)
		}
	}
}

// callsOf are the arguments of each call of authsome in a line of shell.
func callsOf(t *testing.T, line string) (calls [][]string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "calls")
	if err := os.MkdirAll(filepath.Join(dir, ".authsome", "providers"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "--noprofile", "--norc", "-c", recorder+line)
	cmd.Dir, cmd.Env = dir, []string{"PATH=/nowhere", "HOME=" + dir, "CALLS=" + path}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s%v\n%s", line, err, out)
	}
	files, err := filepath.Glob(path + ".*") // one for each call: those of a pipe are made at once
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"))
	}
	return calls
}

// taken is the error that a command's flags and arguments are met with, before it
// does anything.
func taken(a *app, args []string) error {
	root := newRoot(a)
	c, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if !c.Runnable() || c == root && len(rest) > 0 {
		return fmt.Errorf("there is no command %q", args)
	}
	return c.ValidateArgs(c.Flags().Args())
}

func writeCommand(b *strings.Builder, c *cobra.Command, level string) {
	if c.Hidden || c.Name() == "help" {
		return
	}
	if c.Short == "" || c.Example == "" && !c.HasSubCommands() && c.Name() != "completion" {
		fmt.Fprintf(b, "%s has no example\n", c.CommandPath())
	}
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(b, "%s %s\n\n%s\n\n```\n%s\n```\n\n", level, c.CommandPath(), text, c.UseLine())
	if c.Example != "" {
		fmt.Fprintf(b, "```console\n%s\n```\n\n", c.Example)
	}
	schema := strings.ReplaceAll(strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" "), " ", "-") + ".json"
	if _, err := os.Stat("../../docs/schema/" + schema); err == nil {
		fmt.Fprintf(b, "JSON: [%s](schema/%s)\n\n", schema, schema)
	}
	writeFlags(b, c.LocalNonPersistentFlags())
	for _, sub := range c.Commands() {
		writeCommand(b, sub, level+"#")
	}
}

func writeFlags(b *strings.Builder, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	b.WriteString("| flag | meaning |\n|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if f.Value.Type() != "bool" {
			name += " " + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, strings.ReplaceAll(f.Usage, "|", "\\|"))
	})
	b.WriteString("\n")
}
