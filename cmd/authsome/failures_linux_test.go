package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// damagedHome is a home with one connection, of which something is amiss.
type damagedHome struct {
	t    *testing.T
	w    *world
	home string
	dir  string // where the home is
}

func (d *damagedHome) path(name string) string { return filepath.Join(d.home, name) }

func (d *damagedHome) write(name, content string) {
	d.t.Helper()
	if err := os.WriteFile(d.path(name), []byte(content), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// replace removes a file and puts what make makes in its place.
func (d *damagedHome) replace(name string, make func(path string) error) {
	d.t.Helper()
	if err := os.RemoveAll(d.path(name)); err != nil {
		d.t.Fatal(err)
	}
	if err := make(d.path(name)); err != nil {
		d.t.Fatal(err)
	}
}

func linkToNowhere(path string) error { return os.Symlink(filepath.Dir(path)+"-not-mounted", path) }
func pipe(path string) error          { return syscall.Mkfifo(path, 0o600) }
func directory(path string) error     { return os.Mkdir(path, 0o700) }

const storeFile = "profiles/default/store.db"

// failure is something that is amiss with a home, and what every command says of
// it.
type failure struct {
	name  string
	wreck func(*damagedHome)
	code  int
	says  string // on stderr
}

// truncated is a store that was cut short.
func truncated(size int64) failure {
	return failure{fmt.Sprintf("store of %d bytes", size), func(d *damagedHome) {
		if err := os.Truncate(d.path(storeFile), size); err != nil {
			d.t.Fatal(err)
		}
	}, 7, `store\.db is damaged: .* \(nothing was changed; run: authsome vault restore FILE, from a backup, or move the file away and log in again\)`}
}

var failures = []failure{
	{"wrong key", func(d *damagedHome) { d.write("master.key", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n") },
		7, `master\.key holds key \w+, the vault needs \w+; put the right key file back`},
	{"missing key", func(d *damagedHome) { d.replace("master.key", func(string) error { return nil }) }, 7, `master\.key does not exist; put it back`},
	{"malformed key", func(d *damagedHome) { d.write("master.key", "not base64!\n") }, 7, `master\.key is malformed`},
	{"key is a pipe", func(d *damagedHome) { d.replace("master.key", pipe) }, 7, `master\.key: it is not a regular file but a pipe`},
	{"corrupt store", func(d *damagedHome) { d.write(storeFile, strings.Repeat("no store at all ", 2048)) }, 7, `store\.db is damaged: it is not a store`},
	{"store is a directory", func(d *damagedHome) { d.replace(storeFile, directory) }, 7, `store\.db: it is not a regular file`},
	{"store is not mounted", func(d *damagedHome) { d.replace(storeFile, linkToNowhere) }, 7, `store\.db: it is a link to .*, which does not exist`},
	truncated(0), truncated(1), truncated(100), truncated(4096), truncated(5000), truncated(16384), truncated(20479),
	{"config does not parse", func(d *damagedHome) { d.write("config.json", "{\n  \"spec_version\": 1,\n  oops\n}") }, 1, `config\.json:3: .*\(mend the JSON at that line`},
	{"config is of a later version", func(d *damagedHome) { d.write("config.json", `{"spec_version": 2}`) }, 1, `spec_version: 2, this program knows 1`},
	{"config is not mounted", func(d *damagedHome) { d.replace("config.json", linkToNowhere) }, 7, `config\.json: .*a link to .*\(bring back what it leads to`},
	{"config is a pipe", func(d *damagedHome) { d.replace("config.json", pipe) }, 7, `config\.json: .*not a regular file`},
	{"home of a later version", func(d *damagedHome) { d.write("version", "4\n") }, 1, `layout version "4", this program knows 3 \(use the authsome that made`},
	{"version is not mounted", func(d *damagedHome) { d.replace("version", linkToNowhere) }, 7, `version: .*a link to`},
	{"profile does not parse", func(d *damagedHome) { d.write("profiles/default/metadata.json", "{\"name\": 1}") }, 1, `metadata\.json:1: .*name cannot be a number`},
	{"profile is a file", func(d *damagedHome) {
		d.replace("profiles/default", func(path string) error { return os.WriteFile(path, nil, 0o600) })
	}, 7, `metadata\.json: .*not a directory`},
	{"audit log is a directory", func(d *damagedHome) { d.replace("audit.log", directory) }, 7, `audit log unavailable: open .*audit\.log: not a regular file`},
	{"audit log is a link", func(d *damagedHome) { d.replace("audit.log", linkToNowhere) }, 7, `audit log unavailable`},
	{"home is a file", func(d *damagedHome) {
		d.replace("", func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) })
	},
		7, `home directory: not a directory \(set AUTHSOME_HOME`},
	{"home is not mounted", func(d *damagedHome) { d.replace("", linkToNowhere) }, 7, `a link to .*, which does not exist \(bring back`},
	{"home is read-only", func(d *damagedHome) {
		mountFS(d.t, d.home, d.home, syscall.MS_BIND)
		if err := syscall.Mount("", d.home, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			d.t.Fatal(err)
		}
	}, 7, `audit\.log: read-only file system`},
}

// TestDamagedHome has something amiss with the home, and runs every command on
// it: each says what, and what to do, on one line, with the right code. None
// changes anything, and none hangs.
func TestDamagedHome(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	definition := file(t, t.TempDir(), "example.json", exampleDefinition)
	key := file(t, t.TempDir(), "key", canary)
	commands := [][]string{{"init"}, {"list"}, {"whoami"}, {"get", "example"}, {"inspect", "example"}, {"export"}, {"export", "example"},
		{"login", "example", "--force", "--secret-file", key}, {"logout", "example"}, {"register", definition, "--force"}, {"run", "--", "true"}}
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			d := damage(t, w, f)
			before := d.contents()
			for _, command := range commands {
				code := f.code
				if code == 1 && command[0] == "run" {
					code = 125
				}
				d.fails(command, code, f.says)
				if now := d.contents(); now != before {
					t.Fatalf("%v changed the home. Before:\n%s\nafter:\n%s", command, before, now)
				}
			}
		})
	}
}

// damage copies the world's home and wrecks it.
func damage(t *testing.T, w *world, f failure) *damagedHome {
	t.Helper()
	d := &damagedHome{t: t, w: w, dir: t.TempDir()}
	d.home = filepath.Join(d.dir, "home")
	if out, err := exec.Command("cp", "-a", w.home, d.home).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.wreck(d)
	return d
}

// fails runs a command twice, the second time with --json.
func (d *damagedHome) fails(command []string, code int, says string) {
	d.t.Helper()
	for _, args := range [][]string{command, append([]string{"--json"}, command...)} {
		cmd := d.w.command([]string{"AUTHSOME_HOME=" + d.home}, args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run() // its code is looked at below
		if got := cmd.ProcessState.ExitCode(); got != code {
			d.t.Errorf("%v: exit %d, want %d\n%s%s", args, got, code, &stdout, &stderr)
		}
		said := stderr.String()
		if args[0] == "--json" {
			var fault struct{ Message, Hint string }
			if err := json.Unmarshal(stdout.Bytes(), &fault); err != nil {
				d.t.Errorf("%v: %v", args, err)
			}
			said = fault.Message + " (" + fault.Hint + ")"
		}
		if !regexp.MustCompile(says).MatchString(said) {
			d.t.Errorf("%v says %q, want %s", args, said, says)
		}
		for _, problem := range checkOutput(args, code, stdout.String(), stderr.String()) {
			d.t.Errorf("%v: %s", args, problem)
		}
	}
}

// contents describes everything that is where the home is.
func (d *damagedHome) contents() string {
	d.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", info.Mode(), path)
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(text))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return b.String()
}

// mountFS mounts something until the test ends.
func mountFS(t *testing.T, source, target string, flags uintptr) {
	t.Helper()
	kind, data := "", ""
	if flags == 0 {
		kind, data = "tmpfs", "size=1m,mode=700"
	}
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s: %v (this test mounts file systems: run it as root)", target, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestLockedStore has another program hold the store.
func TestLockedStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	d := damage(t, w, failure{wreck: func(*damagedHome) {}})
	store, err := os.Open(d.path(storeFile))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := syscall.Flock(int(store.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	before := d.contents()
	t.Run("while", func(t *testing.T) {
		for _, command := range [][]string{{"get", "example"}, {"login", "example", "--force"}, {"logout", "example"}, {"run", "--", "true"}} {
			t.Run(command[0], func(t *testing.T) {
				t.Parallel()
				own := *d
				own.t = t
				own.fails(command, 7, `store\.db: .*locked by another process; wait for the other authsome command to end`)
			})
		}
	})
	if now := d.contents(); now != before {
		t.Errorf("the home was changed. Before:\n%s\nafter:\n%s", before, now)
	}
	store.Close()
	if r := w.run(w.command([]string{"AUTHSOME_HOME=" + d.home}, "get", "example"), ""); r.code != 0 {
		t.Errorf("afterwards: exit %d: %s", r.code, r.stderr)
	}
}

// TestForeignHome runs as a user who may not write the home, or not read it.
func TestForeignHome(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("this test changes users: run it as root")
	}
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	program := copyProgram(t, binary)
	for _, c := range []struct {
		home string
		mode fs.FileMode
	}{{w.home, 0o700}, {w.home, 0o755}, {filepath.Join(filepath.Dir(w.home), "new"), 0}} {
		// Down to the home anybody may go.
		for dir := filepath.Dir(c.home); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if c.mode != 0 {
			if err := os.Chmod(c.home, c.mode); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{{"init"}, {"list"}, {"run", "--", "true"}, {"--json", "get", "example"}} {
			cmd := exec.Command(tool(t, "setpriv"), append([]string{"--reuid", "65532", "--regid", "65532", "--clear-groups", program}, args...)...)
			cmd.Env = w.env("AUTHSOME_HOME=" + c.home)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			cmd.Run() // its code is looked at below
			if code := cmd.ProcessState.ExitCode(); code != 7 {
				t.Errorf("%v on %s: exit %d, want 7\n%s%s", args, c.home, code, &stdout, &stderr)
			}
			if text := stdout.String() + stderr.String(); !strings.Contains(text, "permission denied") {
				t.Errorf("%v on %s says %q", args, c.home, text)
			}
			for _, problem := range checkOutput(args, 7, stdout.String(), stderr.String()) {
				t.Errorf("%v: %s", args, problem)
			}
		}
	}
}

// TestNoHome runs without HOME, and with no terminal and no user database to
// ask.
func TestNoHome(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"init"}, {"list"}, {"--json", "whoami"}, {"run", "--", "true"}} {
		cmd := exec.Command(binary, args...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run() // its code is looked at below
		if code := cmd.ProcessState.ExitCode(); code != 7 {
			t.Errorf("%v: exit %d, want 7\n%s%s", args, code, &stdout, &stderr)
		}
		if text := stdout.String() + stderr.String(); !strings.Contains(text, "set AUTHSOME_HOME to a directory") {
			t.Errorf("%v says %q", args, text)
		}
		for _, problem := range checkOutput(args, 7, stdout.String(), stderr.String()) {
			t.Errorf("%v: %s", args, problem)
		}
	}
}

// TestHomesOfAllKinds has the home, and the directory for temporary files, where
// names need care, with a umask that takes nothing away.
func TestHomesOfAllKinds(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a home", "日本 ünï", "quote's", "semi;colon:$HOME*", "-dash"} {
		w := newWorld(t)
		w.home = filepath.Join(t.TempDir(), name)
		w.tmp = filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(w.tmp, 0o700); err != nil {
			t.Fatal(err)
		}
		w.login(exampleDefinition, "example")
		script := `umask 000; exec "$A" --verbose run -- sh -c 'set -e
curl -sS ` + apiURL + `; wget -qO- ` + apiURL + `; python3 -c "import urllib.request as u; print(u.urlopen(\"` + apiURL + `\").read().decode())"'`
		cmd := w.command([]string{"A=" + binary})
		cmd.Path, cmd.Args = tool(t, "sh"), []string{"sh", "-c", script}
		if r := w.run(cmd, ""); r.code != 0 || strings.Count(r.stdout, "welcome GET 0") != 3 {
			t.Errorf("%s: exit %d\n%s%s", name, r.code, r.stdout, r.stderr)
		}
		w.private()
		w.leavesNothing()
	}
}

// TestWideKey narrows the permissions of what others could read.
func TestWideKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, name := range []string{"master.key", storeFile, "audit.log"} {
		if err := os.Chmod(filepath.Join(w.home, name), 0o664); err != nil {
			t.Fatal(err)
		}
	}
	w.must("get", "example")
	w.private()
}

// TestLinkedConfig rewrites a config.json that is a link: the link stays, and
// fields that this version does not know do too.
func TestLinkedConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("init")
	path, target := filepath.Join(w.home, "config.json"), filepath.Join(t.TempDir(), "dotfiles.json")
	config := `{"spec_version":1,"default_profile":"default","encryption":{"mode":"local_key","x_later":[1]},"x_mine":{"kept":true}}`
	if err := os.WriteFile(target, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	w.must("profile", "create", "work")
	w.must("profile", "use", "work")
	if got, err := os.Readlink(path); err != nil || got != target {
		t.Errorf("the link: %q, %v", got, err)
	}
	var got map[string]json.RawMessage
	b, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	squeeze := func(raw json.RawMessage) string { return strings.Join(strings.Fields(string(raw)), "") }
	if squeeze(got["default_profile"]) != `"work"` || squeeze(got["x_mine"]) != `{"kept":true}` || !slices.Contains([]string{
		`{"mode":"local_key","x_later":[1]}`, `{"x_later":[1],"mode":"local_key"}`}, squeeze(got["encryption"])) {
		t.Errorf("config.json is\n%s", b)
	}
}
