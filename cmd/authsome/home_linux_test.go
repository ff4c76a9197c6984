package main_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// openHome is a home, made or to be made, that others could change.
type openHome struct {
	name  string
	owner int // 0 is whoever runs the test
	mode  fs.FileMode
	user  int // 0 is whoever runs the test
	group int // 0 is that of the owner
	code  int
	says  string // on stderr; "" is nothing
	left  fs.FileMode
}

// Whoever can write to the home can put a key or a definition of theirs in place
// of ours. Nothing is done in one that others can write to, or own.
func TestHomeThatOthersCanChange(t *testing.T) {
	t.Parallel()
	const alice, bob = 65532, 65533
	homes := []openHome{
		{name: "of its user alone", mode: 0o700, left: 0o700},
		{name: "that others can read", mode: 0o755, left: 0o755},
		{name: "that the group can write to", mode: 0o775, left: 0o755},
		{name: "that all can write to", mode: 0o777, code: 7, says: "other users can write to it (mode 0777) (look at what is in it, then run: chmod -R go= $HOME)", left: 0o777},
		{name: "sticky", mode: 0o777 | fs.ModeSticky, code: 7, says: "other users can write to it (mode 1777)", left: 0o777 | fs.ModeSticky},
	}
	if os.Getuid() == 0 {
		homes = append(homes,
			openHome{name: "of another", owner: bob, mode: 0o755, user: alice, code: 7, says: "it belongs to another user (uid 65533) (set AUTHSOME_HOME to a directory of your own)", left: 0o755},
			openHome{name: "of another, open to all", owner: bob, mode: 0o777, user: alice, code: 7, says: "it belongs to another user (uid 65533)", left: 0o777},
			openHome{name: "of a user that root looks at", owner: bob, mode: 0o700, left: 0o700},
			openHome{name: "of root, open to all, as volumes are", mode: 0o777 | fs.ModeSetgid, user: alice, code: 7,
				says: "other users can write to it (mode 2777) (set AUTHSOME_HOME to a directory in it, such as $HOME/home, which is made for you alone)", left: 0o777 | fs.ModeSetgid},
			openHome{name: "of root, open to a group", mode: 0o775, user: alice, group: alice, left: 0o775},
		)
	}
	w := newWorld(t)
	for _, h := range homes {
		for _, made := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, made %v", h.name, made), func(t *testing.T) {
				base := t.TempDir()
				for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
					if err := os.Chmod(dir, 0o755); err != nil {
						t.Fatal(err)
					}
				}
				home, program := filepath.Join(base, "home"), filepath.Join(base, "authsome")
				b, err := os.ReadFile(binary)
				if err == nil {
					err = os.WriteFile(program, b, 0o755)
				}
				if err == nil {
					err = os.Mkdir(home, 0o700)
				}
				if err != nil {
					t.Fatal(err)
				}
				if made {
					if r := w.run(w.command([]string{"AUTHSOME_HOME=" + home}, "init"), ""); r.code != 0 {
						t.Fatal(r.stderr)
					}
				}
				owner := h.owner
				if owner == 0 {
					owner = os.Getuid()
				}
				inside := owner
				if owner == 0 && h.user != 0 {
					inside = h.user // a volume's root belongs to root, what is on it to its user
				}
				if os.Getuid() == 0 {
					if out, err := exec.Command("chown", "-R", fmt.Sprint(inside), home).CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
					group := owner
					if h.group != 0 {
						group = h.group
					}
					if err := os.Chown(home, owner, group); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Chmod(home, h.mode); err != nil {
					t.Fatal(err)
				}
				for _, args := range [][]string{{"init"}, {"list"}, {"doctor", "--no-clients"}} {
					argv := append([]string{program}, args...)
					if h.user != 0 {
						user := fmt.Sprint(h.user)
						argv = append([]string{tool(t, "setpriv"), "--reuid", user, "--regid", user, "--clear-groups"}, argv...)
					}
					cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
					cmd.Env, cmd.Dir = w.env("AUTHSOME_HOME="+home), base
					var stdout, stderr bytes.Buffer
					cmd.Stdout, cmd.Stderr = &stdout, &stderr
					cmd.Run() // its code is looked at below
					code, says, said := h.code, strings.ReplaceAll(h.says, "$HOME", home), stderr.String()
					if args[0] == "doctor" {
						code, said = 1, stdout.String()+stderr.String()
						if h.mode.Perm() == 0o700 {
							code = 0
						} else if h.code == 0 {
							says = "others can reach " + home
						}
						says, _, _ = strings.Cut(says, " (look at") // it has a line of its own for what to do
						says, _, _ = strings.Cut(says, " (set ")
					}
					if got := cmd.ProcessState.ExitCode(); got != code {
						t.Errorf("%v: exit %d, want %d\n%s%s", args, got, code, &stdout, &stderr)
					}
					if !strings.Contains(said, says) || says == "" && strings.Contains(said, "warning") {
						t.Errorf("%v says %q, want %q", args, said, says)
					}
				}
				info, err := os.Stat(home)
				if err != nil {
					t.Fatal(err)
				}
				if got := info.Mode() &^ fs.ModeDir; got != h.left {
					t.Errorf("it was left with mode %v, want %v", got, h.left)
				}
				if entries, err := os.ReadDir(home); err != nil || h.code != 0 && !made && len(entries) > 0 {
					t.Errorf("%d files were put into it, %v", len(entries), err)
				}
			})
		}
	}
}

// What a user is told to do about a volume of root's that is open to all works: the
// directory below it is made for them alone, and nobody else's is taken for it.
func TestHomeBelowAVolume(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("run as root, to be two other users")
	}
	const alice, bob = 65532, 65533
	w := newWorld(t)
	home, program := filepath.Join(volume(t, 0, alice, fs.ModeSetgid|0o777), "home"), copyProgram(t, binary)
	list := func(user int) (string, error) {
		id := fmt.Sprint(user)
		cmd := exec.CommandContext(t.Context(), tool(t, "setpriv"), "--reuid", id, "--regid", id, "--clear-groups", program, "list")
		cmd.Env, cmd.Dir = w.env("AUTHSOME_HOME="+home), "/"
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := list(alice); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(home)
	if err != nil || info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != alice {
		t.Fatalf("got %v, %v: want a directory of alice's alone", info, err)
	}
	if out, err := list(alice); err != nil {
		t.Errorf("again: %v: %s", err, out)
	}
	if err := os.Rename(home, home+".away"); err != nil {
		t.Fatal(err)
	}
	if out, err := list(bob); err != nil {
		t.Fatalf("bob's: %v: %s", err, out)
	}
	if out, err := list(alice); err == nil || !strings.Contains(out, "it belongs to another user (uid 65533)") {
		t.Errorf("alice is in bob's: %v: %s", err, out)
	}
}
