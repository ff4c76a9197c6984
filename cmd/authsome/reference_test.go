//go:build linux

package main_test

import (
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"authsome/ca"
	"authsome/vault/audit"
)

// sources is the text of everything that the program is made of, by path.
func sources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != "../.." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bench" || strings.HasSuffix(name, "test") && name != "test") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil || len(all) < 100 {
		t.Fatalf("%d source files, %v", len(all), err)
	}
	return all
}

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tabled are the names in code that the rows of a page's tables begin with.
func tabled(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || cells[0] != "" {
			continue
		}
		for _, m := range inCode.FindAllStringSubmatch(cells[1], -1) {
			names[m[1]] = true
		}
	}
	return names
}

// found lists what an expression's only group matches in the sources.
func found(t *testing.T, expression string) []string {
	t.Helper()
	seen := map[string]bool{}
	re := regexp.MustCompile(expression)
	for _, text := range sources(t) {
		for _, m := range re.FindAllStringSubmatch(text, -1) {
			seen[m[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// TestEnvironmentPage holds docs/environment.md to the variables that the
// sources name, and to those that a child gets.
func TestEnvironmentPage(t *testing.T) {
	text := page(t, "environment.md")
	names := tabled(text)
	read := found(t, `(?:[gG]etenv|Environ|LookupEnv|lookup|either)\("([A-Za-z][A-Za-z_]+)"\)`)
	read = append(read, found(t, `"(AUTHSOME_[A-Z_]+)"`)...)
	if len(read) < 15 {
		t.Errorf("only %q are read", read)
	}
	for _, name := range read {
		if name != "DEMO_API_KEY" && !names[name] { // the demo's child alone knows that one
			t.Errorf("%s is read and not on the page", name)
		}
	}
	_, set, ok := strings.Cut(text, "## Set for the child of `run`")
	if !ok {
		t.Fatal("the page does not say what is set")
	}
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(authority.RootPEM())
	trust, err := ca.WriteTrust(filepath.Join(t.TempDir(), "trust"), pem.EncodeToMemory(block),
		ca.TrustInput{Environ: func(string) string { return "" }, ProxyURL: "http://run:token@127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	listed := tabled(set)
	for name := range trust.Env() {
		if !listed[name] {
			t.Errorf("%s is set and not on the page", name)
		}
	}
	for name := range listed {
		if _, ok := trust.Env()[name]; !ok && name != "export.env" && name != "run" {
			t.Errorf("%s is on the page and not set", name)
		}
	}
}

// TestAuditPage holds docs/audit.md to the events and fields that are written.
func TestAuditPage(t *testing.T) {
	names := tabled(page(t, "audit.md"))
	events := found(t, `(?:\.Record\(|\.event\(|removeAll\(ctx, |Event\{Event:\s*)"([a-z]+(?:\.[a-z]+)*)"[,})]`)
	events = append(events, audit.RotateEvent, audit.CutEvent)
	if len(events) < 15 {
		t.Errorf("only %q are recorded", events)
	}
	for _, name := range events {
		if !names[name] {
			t.Errorf("event %s is not on the page", name)
		}
	}
	_, listed, _ := strings.Cut(page(t, "audit.md"), "## Events")
	listed, _, _ = strings.Cut(listed, "## Tampering")
	for name := range tabled(listed) {
		if !slices.Contains(events, name) && !slices.Contains([]string{"logout", "ca.install", "ca.uninstall"}, name) { // these are put together
			t.Errorf("event %s is on the page, and in no source", name)
		}
	}
	fields := regexp.MustCompile("json:\"([a-z_]+)").FindAllStringSubmatch(sources(t)["../../vault/audit/event.go"], -1)
	if len(fields) < 15 {
		t.Errorf("only %q are fields", fields)
	}
	for _, m := range fields {
		if !names[m[1]] && !strings.Contains(page(t, "audit.md"), "`"+m[1]+"`") {
			t.Errorf("field %s is not on the page", m[1])
		}
	}
}

// TestTroubleshootingPage holds docs/troubleshooting.md to the table of
// refusals.
func TestTroubleshootingPage(t *testing.T) {
	text := page(t, "troubleshooting.md")
	codes := regexp.MustCompile(`(Code\w+) +Code = "([a-z_]+)"`).FindAllStringSubmatch(sources(t)["../../proxy/refuse.go"], -1)
	if len(codes) < 10 {
		t.Errorf("only %q are codes", codes)
	}
	for _, m := range codes {
		if !strings.Contains(text, fmt.Sprintf("| `%s` | ", m[2])) {
			t.Errorf("code %s is not on the page", m[2])
		}
	}
	for name := range tabled(text[:strings.Index(text, "## The API says 401")]) {
		if !slices.ContainsFunc(codes, func(m []string) bool { return m[2] == name }) {
			t.Errorf("%s is on the page, and is no code", name)
		}
	}
}

// Every row of the threat model names tests that exist, and says what is not
// stopped.
func TestThreatModel(t *testing.T) {
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(b), -1) {
			tests[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text := page(t, "../SECURITY.md")
	rows := 0
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 3 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[1]) == "attacker" {
			continue
		}
		rows++
		if len(cells) != 7 || strings.TrimSpace(cells[5]) == "" {
			t.Errorf("a row does not say all five things: %s", line)
			continue
		}
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(cells[4], -1)
		if len(named) == 0 {
			t.Errorf("no test shows it: %s", line)
		}
		for _, m := range named {
			if !tests[m[1]] {
				t.Errorf("there is no %s: %s", m[1], line)
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows", rows)
	}
}
