//go:build linux

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProfilesAreApart keeps a connection in one profile and looks for it from
// another by every command that shows, hands out or uses any.
func TestProfilesAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	if r := w.run(w.command(nil, "login", "example", "--connection", "hidden-one", "--secret-file", "-"), canary); r.code != 0 {
		t.Fatal(r.stderr)
	}
	w.must("run", "--", "curl", "-sS", "https://api.example.test/of-the-first")
	w.must("profile", "create", "other", "--description", "of others")
	for _, choose := range []struct {
		env  []string
		args []string
	}{{nil, []string{"--profile", "other"}}, {[]string{"AUTHSOME_PROFILE=other"}, nil}} {
		in := func(args ...string) result { return w.run(w.command(choose.env, append(choose.args, args...)...), "") }
		for _, c := range []struct {
			code int
			args []string
		}{
			{0, []string{"list", "--connected"}}, {0, []string{"list", "--json"}}, {0, []string{"connection", "list"}},
			{0, []string{"whoami"}}, {0, []string{"inspect", "example"}}, {0, []string{"log", "-n", "0"}}, {0, []string{"log", "--json"}},
			{5, []string{"get", "example"}}, {5, []string{"get", "example", "--connection", "hidden-one"}},
			{5, []string{"export", "example"}}, {0, []string{"export"}}, {5, []string{"logout", "example"}}, {5, []string{"revoke", "example"}},
			{5, []string{"connection", "default", "example", "hidden-one"}}, {5, []string{"connection", "rename", "example", "hidden-one", "x"}},
			{5, []string{"run", "--provider", "example", "true"}}, {5, []string{"run", "--connection", "example=hidden-one", "true"}},
			{0, []string{"run", "--", "printenv", "HOME"}}, {0, []string{"vault", "check"}}, {0, []string{"doctor", "--no-clients"}},
			{0, []string{"__complete", "connection", "default", "example", ""}}, {0, []string{"__complete", "run", "--connection", ""}},
		} {
			r := in(c.args...)
			if r.code != c.code {
				t.Errorf("%v: exit %d, want %d: %s%s", c.args, r.code, c.code, r.stdout, r.stderr)
			}
			mentioned := slices.Contains(c.args, "hidden-one") && r.code != 0 // by the error, which repeats what was asked
			for _, foreign := range []string{"hidden-one", "example/default", "of-the-first", canary} {
				if strings.Contains(r.stdout, foreign) || strings.Contains(r.stderr, foreign) && !mentioned && c.code == 0 {
					t.Errorf("%v shows %s of another profile:\n%s%s", c.args, foreign, r.stdout, r.stderr)
				}
			}
		}
		if r := in("run", "--", "curl", "-sS", "--cacert", w.roots, "https://api.example.test/of-the-second"); strings.Contains(r.stdout, "welcome") {
			t.Errorf("a run used another profile's credential: %s", r.stdout)
		}
	}
	if got := w.must("log", "-n", "0").stdout; !strings.Contains(got, "of-the-first") || strings.Contains(got, "profile.create") {
		t.Errorf("the log of the default profile:\n%s", got)
	}
	if got := w.must("log", "-n", "0", "--all-profiles").stdout; !strings.Contains(got, "of-the-first") || !strings.Contains(got, "profile=other") {
		t.Errorf("the log of all profiles:\n%s", got)
	}
	w.deletesAlone("other")
	w.noSecret()
	w.private()
}

// deletesAlone deletes a profile: it is gone, and on record, and the default one
// is as it was.
func (w *world) deletesAlone(profile string) {
	w.t.Helper()
	for _, args := range [][]string{{}, {"--json"}} { // a script, which says nothing
		if r := w.authsome(append([]string{"profile", "delete", profile}, args...)...); r.code != 2 || !strings.Contains(r.stderr+r.stdout, "--yes") {
			w.t.Errorf("delete %v: exit %d, want 2 and a hint\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := w.run(w.command(nil, "profile", "delete", profile), "no\n"); r.code != 8 {
		w.t.Errorf("not wanted: exit %d: %s", r.code, r.stderr)
	}
	w.must("profile", "delete", profile, "--yes")
	if _, err := os.Stat(filepath.Join(w.home, "profiles", profile)); err == nil {
		w.t.Error("the profile's directory is there")
	}
	if r := w.authsome("list", "--profile", profile); r.code != 1 {
		w.t.Errorf("a profile that is gone: exit %d", r.code)
	}
	if got := w.must("log", "--all-profiles", "-n", "1").stdout; !strings.Contains(got, "profile.delete") || !strings.Contains(got, profile) {
		w.t.Errorf("the deletion is not on record: %s", got)
	}
	w.must("get", "example")
}

// TestProfilesHaveTheirOwnLocks holds the lock of one profile's store. Another
// profile does not notice, and this one says after its patience what is wrong.
func TestProfilesHaveTheirOwnLocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	w.must("profile", "create", "free")
	if r := w.run(w.command(nil, "login", "example", "--profile", "free", "--secret-file", "-"), canary); r.code != 0 {
		t.Fatal(r.stderr)
	}
	lock, err := os.OpenFile(filepath.Join(w.home, "profiles", "default", "store.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	waiting := w.begin(w.command(nil, "get", "example"))
	eventually(t, "the command waits for the lock", func() bool { return opened(waiting.cmd, "store.db") }, func() string { return "" })
	for _, args := range [][]string{{"get", "example"}, {"export", "example"}, {"connection", "list"}, {"run", "--", "curl", "-sS", "https://api.example.test/"},
		{"login", "example", "--force", "--secret-file", "-"}} {
		began := time.Now()
		if r := w.run(w.command([]string{"AUTHSOME_PROFILE=free"}, args...), canary); r.code != 0 {
			t.Errorf("%v in the free profile, after %v: exit %d: %s", args, time.Since(began), r.code, r.stderr)
		}
	}
	if r := waiting.end(); r.code != 7 || !strings.Contains(r.stderr, "another process holds the store") {
		t.Errorf("in the locked profile: exit %d: %s", r.code, r.stderr)
	}
}

// TestConnectionsOfOneRun grants two of three connections to a run, whose
// requests choose between them by a header that the API never sees.
func TestConnectionsOfOneRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(exampleDefinition)
	for _, name := range []string{"one", "two", "three"} {
		if r := w.run(w.command(nil, "login", "example", "--connection", name, "--secret-file", "-"), "key-of-"+name+"-0123456789"); r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	grant := []string{"run", "--connection", "example=one", "--connection", "example=two", "--"}
	for _, c := range []struct{ asks, gets string }{{"one", "one"}, {"two", "two"}, {"three", ""}, {"nobody", ""}, {"", ""}} {
		for _, version := range []string{"--http1.1", "--http2"} {
			path := fmt.Sprintf("/%s/%s", orWord(c.asks, "none"), strings.Trim(version, "-"))
			args := append(slices.Clone(grant), "curl", "-sS", version)
			if c.asks != "" {
				args = append(args, "-H", "Authsome-Connection: "+c.asks)
			}
			r := w.authsome(append(args, "https://api.example.test"+path)...)
			h := w.header(path)
			want := ""
			if c.gets != "" {
				want = "Bearer key-of-" + c.gets + "-0123456789"
			}
			if got := h.Get("Authorization"); got != want {
				t.Errorf("%s: the API got %q, want %q: %s%s", path, got, want, r.stdout, r.stderr)
			}
			if refused := c.asks != "" && c.gets == ""; refused != (h == nil) || refused != strings.Contains(r.stdout, `"code":"credential_missing"`) {
				t.Errorf("%s: refused is not %t: %s", path, refused, r.stdout)
			}
			if h["Authsome-Connection"] != nil {
				t.Errorf("%s: the API got the header that chooses", path)
			}
			if c.gets != "" && !strings.Contains(w.must("log", "-n", "0", "--event", "inject").stdout, "example/"+c.gets+"  GET https://api.example.test"+path) {
				t.Errorf("%s: what was used is not on record", path)
			}
		}
	}
	// Without a grant it is the default one, which can be chosen for good.
	w.must("connection", "default", "example", "two")
	w.must("run", "--", "curl", "-sS", "https://api.example.test/default")
	if got := w.header("/default").Get("Authorization"); got != "Bearer key-of-two-0123456789" {
		t.Errorf("the default one: the API got %q", got)
	}
	// A new name takes the history and the default along, and the old one is gone.
	w.must("connection", "rename", "example", "two", "four")
	w.must("run", "--", "curl", "-sS", "https://api.example.test/renamed")
	if got := w.header("/renamed").Get("Authorization"); got != "Bearer key-of-two-0123456789" {
		t.Errorf("renamed: the API got %q", got)
	}
	if r := w.authsome("get", "example", "--connection", "two"); r.code != 5 || !strings.Contains(r.stderr, "there are: four, one, three") {
		t.Errorf("the old name: exit %d: %s", r.code, r.stderr)
	}
	for _, args := range [][]string{{"get", "example", "--field", "connection_name"}, {"export", "example"}, {"logout", "example"}} {
		if r := w.must(append(args, "--connection", "three")...); r.stdout != "" && !strings.Contains(r.stdout, "three") {
			t.Errorf("%v --connection three: %s", args, r.stdout)
		}
	}
	list := w.must("connection", "list").stdout
	if strings.Contains(list, "three") || !strings.Contains(list, "four        *") {
		t.Errorf("in the end there are\n%s", list)
	}
	w.leavesNothing()
}

// A profile that is made under a passphrase takes it from where the others do, with
// nobody there to ask.
func TestNewProfileUnderAPassphrase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(exampleDefinition)
	key := fileWith(t, canary)
	given := []string{"AUTHSOME_PASSPHRASE_FILE=" + fileWith(t, "correct horse")}
	for _, args := range [][]string{{"vault", "rekey", "--mode", "passphrase"}, {"profile", "create", "two"},
		{"login", "example", "--secret-file", key, "--profile", "two"}} {
		if r := w.run(w.command(given, args...), ""); r.code != 0 {
			t.Fatalf("%v: exit %d: %s", args, r.code, r.stderr)
		}
	}
	w.holds(given, "two", map[string]string{"EXAMPLE_API_KEY": canary})
}

func orWord(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
