//go:build linux

package main_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write testdata/golden")

const (
	goldenDir = "testdata/golden"
	schemaDir = "../../docs/schema"
)

// TestJSON runs every command with --json, once for each way in which it can
// end, and compares the outcome with testdata/golden/COMMAND/OUTCOME and the
// JSON with the schema that docs/schema publishes. A command without an outcome,
// an outcome without a schema, and files of neither kind that nobody uses fail.
//
// The files are written by go test ./cmd/authsome -run TestJSON -update.
func TestJSON(t *testing.T) {
	schemas := readSchemas(t)
	seen := outcomesSeen{names: map[string][]string{}}
	t.Run("commands", func(t *testing.T) {
		for name, c := range scenarios {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				d := newGoldenDesk(t)
				for _, s := range c {
					if s.prepares() {
						d.prepare(s)
						continue
					}
					command := s.command()
					seen.add(command, s.outcome)
					d.check(s, command, schemas)
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	seen.complete(t, schemas)
}

// An invocation is one run in a scenario. Without an outcome it only prepares the next,
// and must succeed.
type invocation struct {
	outcome string
	run     string // authsome's arguments, without --json
	stdin   string
	env     []string // $DIR is the working directory
	code    int
	before  func(d *goldenDesk)
	how     func(cmd *exec.Cmd)
}

func (s invocation) prepares() bool { return s.outcome == "" }

// command is what the golden file and the schema are called after: the words
// that the arguments begin with, as far as they are commands.
func (s invocation) command() string {
	words := strings.Fields(s.run)
	if len(words) == 0 || strings.HasPrefix(words[0], "-") {
		return "authsome"
	}
	if len(words) > 1 && slices.Contains(commandNames, words[0]+" "+words[1]) {
		return words[0] + "-" + words[1]
	}
	return words[0]
}

// with are the arguments with one more. Those of run end at the first word.
func (s invocation) with(flag string) []string {
	args := strings.Fields(s.run)
	if s.command() == "run" {
		return slices.Insert(args, 1, flag)
	}
	return append(args, flag)
}

// outcomesSeen are the outcomes that were run, by command.
type outcomesSeen struct {
	mu    sync.Mutex // guards names
	names map[string][]string
}

func (o *outcomesSeen) add(command, outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.names[command] = append(o.names[command], outcome)
}

// commandNames are all commands, as docs/cli.md has them, which another test
// holds to the program.
var commandNames = func() (names []string) {
	b, _ := os.ReadFile("../../docs/cli.md") // no commands fail TestJSON
	for _, m := range regexp.MustCompile(`(?m)^##+ authsome (.+)$`).FindAllStringSubmatch(string(b), -1) {
		names = append(names, m[1])
	}
	return append(names, "help")
}()

// withoutSchema print no JSON of their own: groups of commands, and run, whose
// stdout is the child's.
func withoutSchema(name string) bool {
	return name == "run" || name != "log" && slices.ContainsFunc(commandNames, func(other string) bool { return strings.HasPrefix(other, name+" ") })
}

// complete finds commands without an outcome or a schema, and files without a
// command.
func (o *outcomesSeen) complete(t *testing.T, schemas map[string]*jsonschema.Schema) {
	if len(commandNames) < 40 {
		t.Fatalf("docs/cli.md has the commands %q", commandNames)
	}
	for _, name := range commandNames {
		file := strings.ReplaceAll(name, " ", "-")
		if len(o.names[file]) == 0 {
			t.Errorf("authsome %s has no golden file", name)
		}
		if withoutSchema(name) != (schemas[file] == nil) {
			t.Errorf("authsome %s has a schema: %t", name, schemas[file] != nil)
		}
		if !withoutSchema(name) && !slices.Contains(o.names[file], "success") {
			t.Errorf("authsome %s has no golden file of its success", name)
		}
		if !slices.ContainsFunc(o.names[file], func(s string) bool { return s != "success" }) && name != "help" {
			t.Errorf("authsome %s has no golden file of a failure", name)
		}
	}
	for name := range schemas {
		if len(o.names[name]) == 0 && name != "error" && name != "common" {
			t.Errorf("docs/schema/%s.json is of no command", name)
		}
	}
	files, err := filepath.Glob(filepath.Join(goldenDir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		command, outcome := filepath.Base(filepath.Dir(file)), filepath.Base(file)
		if slices.Contains(o.names[command], outcome) {
			continue
		}
		if !*update || t.Failed() { // with -run not all commands were
			t.Errorf("%s is of no outcome", file)
		} else if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

// readSchemas compiles docs/schema, by the commands' names.
func readSchemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	schemas := map[string]*jsonschema.Schema{}
	for _, file := range files {
		s, err := c.Compile(file)
		if err != nil {
			t.Fatal(err)
		}
		if s.DraftVersion != 2020 {
			t.Errorf("%s is of draft %d", file, s.DraftVersion)
		}
		schemas[strings.TrimSuffix(filepath.Base(file), ".json")] = s
	}
	return schemas
}

// goldenDesk is a world with a directory to work in.
type goldenDesk struct {
	*world
	dir string
}

func newGoldenDesk(t *testing.T) *goldenDesk {
	d := &goldenDesk{newWorld(t), t.TempDir()}
	for name, content := range scenarioFiles {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(d.dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		file(t, d.dir, name, content)
	}
	return d
}

func (d *goldenDesk) do(s invocation, args []string) result {
	d.t.Helper()
	if s.before != nil {
		s.before(d)
	}
	env := make([]string, len(s.env))
	for i, pair := range s.env {
		env[i] = strings.ReplaceAll(pair, "$DIR", d.dir)
	}
	cmd := d.command(env, args...)
	cmd.Dir = d.dir
	if s.how != nil {
		s.how(cmd)
	}
	return d.world.run(cmd, s.stdin)
}

func (d *goldenDesk) prepare(s invocation) {
	d.t.Helper()
	if r := d.do(s, strings.Fields(s.run)); r.code != s.code {
		d.t.Fatalf("authsome %s: exit %d, want %d\n%s%s", s.run, r.code, s.code, r.stdout, r.stderr)
	}
}

// check runs a step with --json and compares.
func (d *goldenDesk) check(s invocation, command string, schemas map[string]*jsonschema.Schema) {
	t := d.t
	t.Helper()
	args := s.with("--json")
	r := d.do(s, args)
	if r.code != s.code {
		t.Errorf("authsome %s: exit %d, want %d\n%s%s", s.run, r.code, s.code, r.stdout, r.stderr)
		return
	}
	for _, problem := range checkOutput(args, r.code, r.stdout, r.stderr) {
		t.Errorf("authsome %s: %s\n%s%s", s.run, problem, r.stdout, r.stderr)
	}
	if err := validate(command, r, schemas); err != nil {
		t.Errorf("authsome %s: %v\n%s", s.run, err, r.stdout)
	}
	got := fmt.Sprintf("$ authsome %s\nexit %d\n-- stdout --\n%s-- stderr --\n%s", strings.Join(args, " "), r.code, d.normal(r.stdout), d.normal(r.stderr))
	path := filepath.Join(goldenDir, command, s.outcome)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant\n%s", path, got, want)
	}
}

// validate holds the JSON to the schema: that of errors when it says "error" and
// the command failed, that of its command otherwise.
func validate(command string, r result, schemas map[string]*jsonschema.Schema) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(r.stdout))
	if command == "run" && r.code == 0 {
		return nil // the child's
	}
	if err != nil {
		return err
	}
	name := command
	if object, ok := value.(map[string]any); ok && r.code != 0 && object["error"] != nil {
		name = "error"
	}
	if strings.Contains(r.stdout, `"help":`) {
		name = "help"
	}
	if schemas[name] == nil {
		return fmt.Errorf("there is no schema of %s", name)
	}
	return schemas[name].Validate(value)
}

// differ is what two runs of the same cannot have in common.
var differ = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`"(pid|uid|bytes_in|bytes_out|duration_ms|bytes_before|bytes_after)":( ?)[\d.]+`), `"$1":${2}N`},
	{regexp.MustCompile(`run(": ?"|=)[0-9a-f]{12}\b`), "run${1}RUN"},
	{regexp.MustCompile(`(127\.0\.0\.1|\[::\]):\d+`), "$1:PORT"},
	{regexp.MustCompile(`"authsome_version": "[^"]+"`), `"authsome_version": "VERSION"`},
	{regexp.MustCompile(`demo-[0-9a-f]{32}`), "demo-KEY"},
	{regexp.MustCompile(`(?:-----BEGIN CERTIFICATE-----\\n[A-Za-z0-9+/=\\n]+-----END CERTIFICATE-----\\n)+`), "CERTIFICATES"},
	{regexp.MustCompile(`\d+ definitions`), "N definitions"},
	{regexp.MustCompile(`expires in \d+m`), "expires in TIME"},
	{regexp.MustCompile(`(expired|failed) \d+s ago`), "$1 AGO"},
	{regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----\n.*-----END CERTIFICATE-----\n`), "CERTIFICATES\n"},
	{regexp.MustCompile(`authsome-[0-9a-f]{16}\b`), "authsome-ROOT"},
	{regexp.MustCompile(`"script": ".*"`), `"script": "SCRIPT"`},
	{regexp.MustCompile(`"run --isolate (works|does not work) here[^"]*"`), `"ISOLATION"`}, // by kernel and user
	{regexp.MustCompile(`"steps": \[[^\]]*\]`), `"steps": [STEPS]`},
}

func (d *goldenDesk) normal(text string) string {
	text = strings.NewReplacer(d.home, "$AUTHSOME_HOME", d.dir, "$DIR", d.tmp, "$TMP", filepath.Dir(d.home), "$HOME").Replace(text)
	for _, one := range differ {
		text = one.what.ReplaceAllString(text, one.with)
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

// write replaces a file of the desk's home, the path's last part.
func (d *goldenDesk) write(path string, content []byte) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.home, path), content, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// damage alters the envelopes of the default profile's store that follow an
// expression, none of which opens then.
func (d *goldenDesk) damage(after string) {
	d.t.Helper()
	const path = "profiles/default/store.db"
	b := []byte(readFile(d.t, filepath.Join(d.home, path)))
	damaged := regexp.MustCompile(`(`+after+`"ciphertext":")[^"]{8}`).ReplaceAll(b, []byte("${1}AAAAAAAA"))
	if bytes.Equal(b, damaged) {
		d.t.Fatalf("there is no envelope after %s in the store", after)
	}
	d.write(path, damaged)
}
