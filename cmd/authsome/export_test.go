//go:build linux

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExportIntoPrograms exports a key into everything that the documents name:
// a real token into all of them, and a hostile one by the shell format.
func TestExportIntoPrograms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	hostile := canary + ` -n it's "q" $HOME $(id) ` + "`id`" + ` \n \\ ! #x; * é☃`
	node := node24(t)
	const print = `printf %s "$EXAMPLE_API_KEY"`
	file := filepath.Join(t.TempDir(), "env")
	programs := map[string][]string{
		"python-dotenv": {"/usr/bin/python3", "-c", "import dotenv, sys; print(end=dotenv.dotenv_values(sys.argv[1])['EXAMPLE_API_KEY'])", file},
		"node":          {node, "--env-file=" + file, "-e", "process.stdout.write(process.env.EXAMPLE_API_KEY)"},
		"json":          {"/usr/bin/python3", "-c", "import json, subprocess; print(end=json.loads(subprocess.check_output(['authsome', 'export', '--json']))['EXAMPLE_API_KEY'])"},
	}
	evaluated := map[string][]string{"json": programs["json"]}
	for _, shell := range []string{"sh", "bash", "dash", "zsh", "fish"} {
		programs[shell] = []string{shell, "-c", "export $(authsome export example); " + print}
		evaluated[shell] = []string{shell, "-c", `eval "$(authsome export --format shell)"; ` + print}
	}
	read := func(name string, args []string, want string) {
		t.Helper()
		cmd := w.command(nil)
		cmd.Path, cmd.Args = tool(t, args[0]), args
		cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(binary)+":/usr/local/bin:/usr/bin:/bin")
		out, err := cmd.Output()
		if err != nil || string(out) != want {
			t.Errorf("%s: got %q, %v; want %q", name, out, err, want)
		}
	}
	if err := os.WriteFile(file, []byte(w.must("export", "example").stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range programs {
		read(name, args, canary)
	}
	if r := w.run(w.command(nil, "login", "example", "--force", "--secret-file", "-"), canary+"\xff\n"); r.code != 4 || !strings.Contains(r.stderr, "it is no text in UTF-8") {
		t.Errorf("a key that JSON cannot carry: exit %d: %s", r.code, r.stderr)
	}
	if r := w.run(w.command(nil, "login", "example", "--force", "--secret-file", "-"), hostile+"\n"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	for name, args := range evaluated {
		read(name, args, hostile)
	}
}
