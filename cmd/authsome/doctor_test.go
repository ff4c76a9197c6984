//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// finding is a check of doctor --json.
type finding struct {
	OK          bool
	Detail, Fix string
}

// doctor runs doctor and holds what it always promises: exit 1 when a check
// failed, and a way out of each one.
func (w *world) doctor(env []string, args ...string) map[string]finding {
	w.t.Helper()
	r := w.run(w.command(env, append([]string{"doctor", "--json"}, args...)...), "")
	var report struct {
		OK     bool
		Checks []struct {
			Name string
			finding
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		w.t.Fatalf("doctor: exit %d: %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	all, failed := map[string]finding{}, 0
	for _, c := range report.Checks {
		all[c.Name] = c.finding
		if !c.OK {
			failed++
		}
		if !c.OK && c.Fix == "" || c.Detail == "" {
			w.t.Errorf("%s: %+v says not how to mend it", c.Name, c.finding)
		}
	}
	want := 0
	if failed > 0 {
		want = 1
	}
	if r.code != want || report.OK != (failed == 0) {
		w.t.Errorf("%d checks failed: exit %d, ok %v", failed, r.code, report.OK)
	}
	if text := w.run(w.command(env, append([]string{"doctor"}, args...)...), ""); text.code != want || strings.Count(text.stdout, "FAIL  ") != failed || strings.Count(text.stdout, "→") < failed {
		w.t.Errorf("in text: exit %d, %d failed:\n%s", text.code, failed, text.stdout)
	}
	return all
}

// TestDoctorTriesClients has every client make its request, and tells the one
// that goes around the proxy and the one that does not trust it.
func TestDoctorTriesClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bin := t.TempDir()
	script := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	clients := []string{"curl", "wget", "git", "python3", "node", "ruby", "php", "java"}
	for _, name := range clients {
		at := ""
		if name == "node" {
			at = node24(t)
		} else {
			at = tool(t, name)
		}
		if name == "python3" {
			at = "/usr/bin/python3" // one that looks for its home beside itself is not to be linked
		}
		if err := os.Symlink(at, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + bin}
	all := w.doctor(env)
	for _, name := range clients {
		if c, ok := all["client "+name]; !ok || !c.OK || !strings.Contains(c.Detail, filepath.Join(bin, name)) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	os.Remove(filepath.Join(bin, "curl"))
	os.Remove(filepath.Join(bin, "wget"))
	script("curl", "exec "+tool(t, "curl")+` --noproxy '*' "$@"`)
	script("wget", "exec env -u WGETRC "+tool(t, "wget")+` --ca-certificate=/dev/null "$@"`)
	for _, name := range clients[2:] {
		os.Remove(filepath.Join(bin, name))
	}
	all = w.doctor([]string{"PATH=" + bin + ":/usr/bin"}, "--quiet")
	for _, name := range clients[:2] {
		if c := all["client "+name]; c.OK || !strings.Contains(c.Detail, "did not get through: ") || !strings.Contains(c.Fix, "docs/troubleshooting.md") {
			t.Errorf("%s: %+v", name, c)
		}
	}
	w.leavesNothing()
}

// TestDoctorFindings breaks a home in every way that doctor looks for.
func TestDoctorFindings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for name, c := range w.doctor(nil, "--no-clients") {
		if !c.OK {
			t.Errorf("in an intact home: %s: %+v", name, c)
		}
	}
	second := strings.ReplaceAll(exampleDefinition, `"example"`, `"second"`)
	w.login(second, "second")
	w.login(fmt.Sprintf(strings.ReplaceAll(exampleDefinition, `"example"`, `%q`), "gone"), "gone")
	for path, text := range map[string]string{"providers/bad.json": "{", "providers/gone.json": ""} {
		path = filepath.Join(w.home, path)
		os.Remove(path)
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(filepath.Join(w.home, "profiles"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := w.doctor(nil, "--no-clients")
	for name, want := range map[string]string{"permissions": "chmod -R go=", "providers": "authsome remove NAME", "gone": "authsome register FILE",
		"route api.example.test": "--provider"} {
		if c := all[name]; c.OK || !strings.Contains(c.Fix, want) {
			t.Errorf("%s: %+v, want %q in how to mend it", name, c, want)
		}
	}
	if c := all["example/default"]; !c.OK {
		t.Errorf("a connection that is fine: %+v", c)
	}
	store := filepath.Join(w.home, "profiles", "default", "store.db")
	b, err := os.ReadFile(store)
	if err == nil {
		err = os.WriteFile(store, b[:5000], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	broken := false
	all = w.doctor(nil, "--no-clients")
	for _, c := range all {
		broken = broken || !c.OK && strings.Contains(c.Detail, store)
	}
	if !broken {
		t.Errorf("a store that was cut is not found: %+v", all)
	}
}
