package provider_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"authsome/provider"

	"github.com/google/go-cmp/cmp"
)

func writeDefinition(t *testing.T, dir, file, text string) string {
	t.Helper()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadWithoutFiles(t *testing.T) {
	for _, dir := range []string{"", t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		r, errs := provider.Load(dir)
		if len(errs) > 0 {
			t.Errorf("Load(%q): %v", dir, errs)
		}
		e, err := r.Lookup("github")
		if err != nil || e.Source != provider.SourceBundled || e.Path != "" || e.Overrides {
			t.Errorf("Lookup(github) = %+v, %v", e, err)
		}
		if !slices.IsSorted(r.Names()) || len(r.All()) != len(r.Names()) {
			t.Errorf("names %q", r.Names())
		}
	}
}

func TestUserFilesWin(t *testing.T) {
	dir := t.TempDir()
	writeDefinition(t, dir, "acme.json", apiKeyBase)
	path := writeDefinition(t, dir, "github.json", with(t, apiKeyBase, map[string]any{"name": "github"}))
	writeDefinition(t, dir, "README.md", "not a definition")
	writeDefinition(t, dir, ".acme.json.123.tmp", "{")
	writeDefinition(t, dir, ".hidden.json", "{")
	r, errs := provider.Load(dir)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	e, err := r.Lookup("github")
	if err != nil || e.Source != provider.SourceCustom || e.Path != path || !e.Overrides || e.AuthType != provider.AuthAPIKey {
		t.Errorf("Lookup(github) = %+v, %v", e, err)
	}
	e, err = r.Lookup("acme")
	if err != nil || e.Source != provider.SourceCustom || e.Overrides {
		t.Errorf("Lookup(acme) = %+v, %v", e, err)
	}
	if got, want := len(r.All()), len(provider.Bundled().All())+1; got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
}

func TestBadUserFiles(t *testing.T) {
	dir := t.TempDir()
	writeDefinition(t, dir, "github.json", "{\n  \"name\": oops\n}")
	writeDefinition(t, dir, "gitlab.json", with(t, apiKeyBase, map[string]any{"name": "gitlab", "host_url": "http://x.com"}))
	writeDefinition(t, dir, "renamed.json", apiKeyBase)
	writeDefinition(t, dir, "huge.json", strings.Repeat(" ", 2<<20))
	if err := os.Mkdir(filepath.Join(dir, "folder.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling.json")); err != nil {
		t.Fatal(err)
	}
	r, errs := provider.Load(dir)
	if len(errs) != 7 {
		t.Errorf("%d errors, want 7: %v", len(errs), errs)
	}
	for name, want := range map[string][]string{
		"github":   {"github.json:2:11: ", "is not JSON"},
		"gitlab":   {"gitlab.json:1:", "host_url", "write https://x.com"},
		"renamed":  {"renamed.json:1:", `name: is "acme", and the file is called renamed.json; rename the file to acme.json`},
		"huge":     {"huge.json", "larger"},
		"folder":   {"folder.json", "not a regular file"},
		"pipe":     {"pipe.json", "not a regular file"},
		"dangling": {"dangling.json", "no such file"},
	} {
		_, err := r.Lookup(name)
		if err == nil || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("Lookup(%s): %v, want the file's error", name, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("Lookup(%s): %v, want %q", name, err, w)
			}
		}
		if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == err.Error() }) {
			t.Errorf("Load does not report %v", err)
		}
	}
	if slices.Contains(r.Names(), "github") {
		t.Error("the bundled github stands in for a bad file")
	}
	for _, e := range r.All() {
		if e.Name == "github" {
			t.Error("All has the bundled github")
		}
	}
}

func TestUnreadableDirectory(t *testing.T) {
	file := writeDefinition(t, t.TempDir(), "file", "")
	r, errs := provider.Load(file)
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), file) {
		t.Errorf("Load of a file: %v", errs)
	}
	if _, err := r.Lookup("github"); err != nil {
		t.Errorf("Lookup: %v", err)
	}
}

func TestLookupUnknown(t *testing.T) {
	r := provider.Bundled()
	for name, want := range map[string][]string{
		"githb":                  {"github"},
		"gihtub":                 {"github"},
		"GitHub":                 {"github"},
		"opnai":                  {"openai"},
		"klavio":                 {"klaviyo"},
		"hugging":                {"huggingface"},
		"zzzzzz":                 nil,
		"":                       nil,
		"../../etc/passwd":       nil,
		"definitions/github":     nil,
		strings.Repeat("a", 999): nil,
	} {
		_, err := r.Lookup(name)
		var missing *provider.NotFoundError
		if !errors.Is(err, provider.ErrNotFound) || !errors.As(err, &missing) || missing.Name != name {
			t.Errorf("Lookup(%q): %v, want ErrNotFound", name, err)
			continue
		}
		got := missing.Suggestions
		if len(want) == 0 && len(got) > 0 || len(want) > 0 && (len(got) == 0 || got[0] != want[0]) || len(got) > 3 {
			t.Errorf("Lookup(%q) suggests %q, want %q first", name, got, want)
		}
		for _, s := range got {
			if !strings.Contains(missing.Hint(), s) {
				t.Errorf("hint %q lacks %s", missing.Hint(), s)
			}
		}
	}
}

func TestLookupConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, _ := provider.Load("")
			for _, e := range r.All() {
				if _, err := r.Lookup(e.Name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestPermittedDNS(t *testing.T) {
	dir := t.TempDir()
	writeDefinition(t, dir, "acme.json", with(t, apiKeyBase, map[string]any{"host_url": []string{
		"127.0.0.1", "https://[::1]:8443", "::ffff:127.0.0.1", `regex:.*\.api\.acme\.com`, "*.wild.acme.com", "localhost", "{base_url}/x"}}))
	r, errs := provider.Load(dir)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	dns, ips := r.PermittedDNS()
	for _, want := range []string{"api.acme.com", "wild.acme.com", "localhost", "api.github.com", "github.com", "googleapis.com", "slack.com", "api.datadoghq.com"} {
		if !slices.Contains(dns, want) {
			t.Errorf("permitted DNS lacks %s", want)
		}
	}
	for _, d := range dns {
		if c, err := provider.CanonicalHost(d); err != nil || c != d {
			t.Errorf("permitted DNS %q is not canonical", d)
		}
	}
	if !slices.IsSorted(dns) || len(slices.Compact(slices.Clone(dns))) != len(dns) {
		t.Errorf("permitted DNS is not sorted and unique: %q", dns)
	}
	if diff := cmp.Diff([]string{"::1", "127.0.0.1"}, strs(ips)); diff != "" {
		t.Errorf("permitted addresses (-want +got):\n%s", diff)
	}
}

func strs(ips []net.IP) []string {
	var out []string
	for _, ip := range ips {
		out = append(out, ip.String())
	}
	return out
}
