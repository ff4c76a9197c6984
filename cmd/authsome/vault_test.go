//go:build linux

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"authsome/vault"
)

// keyringBus starts a message bus with a real Secret Service on it and returns
// the variables that lead there.
func keyringBus(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	bus := exec.Command(tool(t, "dbus-daemon"), "--session", "--nofork", "--print-address", "--address=unix:dir="+dir)
	bus.Env = env
	out, err := bus.StdoutPipe()
	if err == nil {
		err = bus.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Process.Kill(); bus.Wait() })
	address := make([]byte, 1024)
	n, err := out.Read(address)
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "DBUS_SESSION_BUS_ADDRESS="+strings.TrimSpace(string(address[:n])))
	daemon := exec.Command(tool(t, "gnome-keyring-daemon"), "--foreground", "--unlock", "--components=secrets")
	daemon.Env, daemon.Stdin = env, strings.NewReader("a password")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { daemon.Process.Kill(); daemon.Wait() })
	return env[2:] // HOME and PATH are the world's
}

// fileWith writes a file that holds a secret of the vault.
func fileWith(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// vaultState is what authsome vault check --json says.
type vaultState struct {
	Profile string
	Mode    string `json:"encryption_mode"`
	Records int
	OK      bool
}

// checkVault holds that everything in a profile's vault opens, and in which mode
// it is.
func (w *world) checkVault(env []string, profile, mode string) {
	w.t.Helper()
	r := w.run(w.command(env, "vault", "check", "--json", "--profile", profile), "")
	var state vaultState
	if err := json.Unmarshal([]byte(r.stdout), &state); err != nil || r.code != 0 || !state.OK || state.Mode != mode || state.Records == 0 {
		w.t.Fatalf("vault check of %s: exit %d, %+v, want mode %q: %s%s", profile, r.code, state, mode, r.stdout, r.stderr)
	}
}

// holds holds that a profile has these credentials and no others.
func (w *world) holds(env []string, profile string, want map[string]string) {
	w.t.Helper()
	r := w.run(w.command(env, "export", "--json", "--profile", profile), "")
	var got map[string]string
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.code != 0 || !maps.Equal(got, want) {
		w.t.Fatalf("profile %s: exit %d: got %v, want %v: %s", profile, r.code, got, want, r.stderr)
	}
}

// TestVaultModes takes a vault through every change from one encryption mode to
// another, with a real keyring, in an order in which each comes once.
func TestVaultModes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	env := append(keyringBus(t), "AUTHSOME_PASSPHRASE_FILE="+fileWith(t, " corréct horse "), "AUTHSOME_MASTER_KEY_FILE="+fileWith(t, strings.Repeat("a1", 32)))
	w.login(exampleDefinition, "example")
	want := map[string]string{"EXAMPLE_API_KEY": canary}
	mode := "local_key"
	for i, to := range []string{"keyring", "passphrase", "env", "local_key", "passphrase", "keyring", "env", "passphrase", "local_key", "env", "keyring", "local_key"} {
		args := []string{"vault", "rekey", "--mode", to, "--json"}
		if i%4 == 3 {
			args = append(args, "--new-data-key")
		}
		r := w.run(w.command(env, args...), "")
		if r.code != 0 {
			t.Fatalf("from %s to %s: exit %d: %s%s", mode, to, r.code, r.stdout, r.stderr)
		}
		w.checkVault(env, "default", to)
		mode = to
	}
	if r := w.run(w.command(env, "vault", "rekey", "--new-data-key"), ""); r.code != 0 {
		t.Errorf("new data key: exit %d: %s", r.code, r.stderr)
	}
	w.checkVault(nil, "default", "local_key")
	w.holds(nil, "default", want)
	w.noSecret()
	w.private()
}

// TestVaultNewFileKey locks a vault with a new key file, once so that an earlier
// backup opens and once so that it does not, and with another mode instead.
func TestVaultNewFileKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	w.must("profile", "create", "other")
	key := filepath.Join(w.home, "master.key")
	keys := func() []string { return strings.Fields(readFile(t, key)) }
	first, backup := keys()[0], filepath.Join(t.TempDir(), "backup.db")
	w.must("vault", "backup", backup)
	restored := func(code int) {
		t.Helper()
		if r := w.authsome("vault", "restore", backup, "--yes"); r.code != code {
			t.Fatalf("restore: exit %d, want %d: %s", r.code, code, r.stderr)
		}
		w.holds(nil, "default", map[string]string{"EXAMPLE_API_KEY": canary})
	}
	if r := w.must("vault", "rekey", "--mode", "local_key", "--new-data-key"); !strings.Contains(r.stderr, "keeps the keys of before") {
		t.Errorf("said %s", r.stderr)
	}
	if got := keys(); len(got) != 2 || got[0] == first || got[1] != first {
		t.Errorf("%d keys, or not a new one before the old", len(got))
	}
	restored(0)
	w.must("vault", "rekey", "--mode", "local_key", "--forget-old-key")
	if got := keys(); len(got) != 1 || got[0] == first {
		t.Errorf("%d keys, or the old one", len(got))
	}
	restored(7)
	passphrase := []string{"AUTHSOME_PASSPHRASE_FILE=" + fileWith(t, "correct horse")}
	if r := w.run(w.command(passphrase, "vault", "rekey", "--mode", "passphrase", "--forget-old-key"), ""); r.code != 0 {
		t.Fatal(r.stderr)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("the key file is still there")
	}
	w.holds(passphrase, "default", map[string]string{"EXAMPLE_API_KEY": canary})
	w.noSecret()
	w.private()
}

// TestVaultNewSecret changes a master key and a passphrase for another one, and
// back out of a change that was cut short between two profiles.
func TestVaultNewSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	w.must("profile", "create", "other")
	if r := w.run(w.command(nil, "login", "example", "--secret-file", "-", "--profile", "other"), canary+"\n"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	want := map[string]string{"EXAMPLE_API_KEY": canary}
	for _, mode := range []string{"env", "passphrase"} {
		variable, profiles := "AUTHSOME_MASTER_KEY", []string{"default", "other"}
		if mode == "passphrase" { // which is slow on purpose
			w.must("profile", "delete", "other", "--yes")
			variable, profiles = "AUTHSOME_PASSPHRASE", profiles[:1]
		}
		last := profiles[len(profiles)-1]
		old, fresh := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
		oldEnv, freshEnv := []string{variable + "=" + old}, []string{variable + "_FILE=" + fileWith(t, fresh)}
		if r := w.run(w.command(oldEnv, "vault", "rekey", "--mode", mode), ""); r.code != 0 || !strings.Contains(r.stderr, "master.key opens only backups") {
			t.Fatalf("to %s: exit %d: %s", mode, r.code, r.stderr)
		}
		before, err := os.ReadFile(filepath.Join(w.home, "profiles", last, "store.db"))
		if err != nil {
			t.Fatal(err)
		}
		rekey := func() result {
			return w.run(w.command(oldEnv, "vault", "rekey", "--mode", mode, "--secret-file", "-", "--new-data-key"), fresh+"\n")
		}
		if r := rekey(); r.code != 0 {
			t.Fatalf("new secret for %s: exit %d: %s", mode, r.code, r.stderr)
		}
		// As if it had ended before the last profile.
		if err := os.WriteFile(filepath.Join(w.home, "profiles", last, "store.db"), before, 0o600); err != nil {
			t.Fatal(err)
		}
		w.holds(oldEnv, last, want)
		if r := rekey(); r.code != 0 {
			t.Fatalf("again: exit %d: %s", r.code, r.stderr)
		}
		for _, profile := range profiles {
			w.holds(freshEnv, profile, want)
			if r := w.run(w.command(oldEnv, "vault", "check", "--profile", profile), ""); r.code != 7 {
				t.Errorf("the old secret still opens %s: exit %d", profile, r.code)
			}
		}
		if r := w.run(w.command(freshEnv, "vault", "rekey", "--mode", "local_key"), ""); r.code != 0 {
			t.Fatal(r.stderr)
		}
	}
	for _, args := range [][]string{{"--secret-file", "-", "--new-data-key"}, {"--mode", "local_key", "--secret-file", "-"}, {}} {
		if r := w.run(w.command(nil, append([]string{"vault", "rekey"}, args...)...), "x\n"); r.code != 2 {
			t.Errorf("rekey %v: exit %d, want 2", args, r.code)
		}
	}
}

// TestVaultPassphraseOnATerminal types passphrases, which are not shown.
func TestVaultPassphraseOnATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	const current, fresh, again = "Passphrase of the authsome vault: ", "New passphrase for the authsome vault: ", "Once more: "
	for _, tc := range []struct {
		args string
		code int
		says [][2]string // a prompt, and what is typed
	}{
		{"vault rekey --mode passphrase", 2, [][2]string{{fresh, "first phrase"}, {again, "another"}}},
		{"vault rekey --mode passphrase", 0, [][2]string{{fresh, "first phrase"}, {again, "first phrase"}}},
		{"vault rekey --mode passphrase", 0, [][2]string{{current, "first phrase"}, {fresh, "second phrase"}, {again, "second phrase"}}},
		{"vault check", 7, [][2]string{{current, "first phrase"}}},
		{"vault rekey --new-data-key", 0, [][2]string{{current, "second phrase"}}},
		{"vault check", 0, [][2]string{{current, "second phrase"}}},
	} {
		term := onTerminal(t, w.command(nil, strings.Fields(tc.args)...))
		for _, say := range tc.says {
			term.expect(say[0])
			eventually(t, "what is typed is not shown", func() bool { return !term.echoes() }, term.output)
			term.typed(say[1] + "\r")
		}
		if code := term.wait(); code != tc.code || strings.Contains(term.output(), " phrase") {
			t.Errorf("%s: exit %d, want %d:\n%s", tc.args, code, tc.code, term.output())
		}
	}
	if r := w.authsome("vault", "check"); r.code != 7 || !strings.Contains(r.stderr, "AUTHSOME_PASSPHRASE_FILE") {
		t.Errorf("without a terminal: exit %d: %s", r.code, r.stderr)
	}
}

// TestVaultRekeyKilled kills the program at any moment of a rekey of two
// profiles. Nothing is lost, whichever half was done, and running it again
// finishes the rest.
func TestVaultRekeyKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	want := map[string]string{}
	w.must("profile", "create", "other")
	var keys strings.Builder
	for i := range 20 {
		name := fmt.Sprintf("P%d_KEY", i)
		want[name] = fmt.Sprintf("%s-%d", canary, i)
		w.register(fmt.Sprintf(`{"schema_version": 1, "name": "p%d", "display_name": "P", "auth_type": "api_key", "flow": "api_key", "host_url": "p%d.example.test",
			"api_key": {"env_var": %q}, "export": {"env": {"api_key": %q}}}`, i, i, name, name))
		fmt.Fprintf(&keys, "%s=%s\n", name, want[name])
	}
	if r := w.run(w.command(nil, "import", "-", "--yes", "--profile", "other"), keys.String()); r.code != 0 {
		t.Fatal(r.stderr)
	}
	env := []string{"AUTHSOME_MASTER_KEY=" + strings.Repeat("a1", 32)}
	steps := [][]string{{"--mode", "env"}, {"--new-data-key"}, {"--mode", "local_key", "--new-data-key"}, {"--new-data-key"}}
	begin := time.Now()
	if r := w.run(w.command(env, "vault", "rekey", "--new-data-key"), ""); r.code != 0 {
		t.Fatal(r.stderr)
	}
	took := time.Since(begin)
	killed := 0
	for i := range 40 {
		cmd := w.command(env, append([]string{"vault", "rekey"}, steps[i%len(steps)]...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.Int64N(int64(took))))
		cmd.Process.Kill()
		if cmd.Wait(); cmd.ProcessState.ExitCode() == -1 {
			killed++
		}
		w.holds(env, "other", want)
		w.holds(env, "default", map[string]string{"EXAMPLE_API_KEY": canary})
	}
	t.Logf("%d of 40 ended before they were done", killed)
	if killed == 0 {
		t.Error("none was killed in time")
	}
	if r := w.run(w.command(env, "vault", "rekey", "--mode", "local_key", "--new-data-key"), ""); r.code != 0 {
		t.Fatal(r.stderr)
	}
	for _, profile := range []string{"default", "other"} {
		w.checkVault(nil, profile, "local_key")
	}
	if left, _ := filepath.Glob(filepath.Join(w.home, "profiles", "*", "*.db?*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	w.noSecret()
}

// sealed returns what a profile's store has for the connections of a provider.
func (w *world) sealed(provider string) [][]byte {
	w.t.Helper()
	store, err := vault.OpenBolt(filepath.Join(w.home, "profiles", "default", "store.db"), vault.BoltConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	values, err := store.Load(context.Background(), "profile:default:"+provider+":connection:")
	if err != nil {
		w.t.Fatal(err)
	}
	var all [][]byte
	for _, value := range values {
		all = append(all, value)
	}
	return all
}

// TestVaultBackupCompactRestore copies the vault while a proxy uses it, takes
// what is deleted out of the file, and puts the copy back under the proxy.
func TestVaultBackupCompactRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	s := w.serve()
	client := s.client()
	ask := func() string { _, body := get(client, apiURL); return body }
	if got := ask(); !strings.Contains(got, "welcome") {
		t.Fatalf("the proxy does not work: %s", got)
	}
	backup := filepath.Join(t.TempDir(), "backup.db")
	w.must("vault", "backup", backup)
	if r := w.authsome("vault", "backup", backup, "--json"); r.code != 1 || !strings.Contains(r.stdout, `"FileExists"`) {
		t.Errorf("over a backup: exit %d: %s", r.code, r.stdout)
	}
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info.Mode(), err)
	}

	gone := w.sealed("example")
	if len(gone) != 1 || len(gone[0]) < 100 {
		t.Fatalf("the connection is %d records", len(gone))
	}
	w.must("logout", "example")
	w.must("vault", "compact")
	content, err := os.ReadFile(filepath.Join(w.home, "profiles", "default", "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	if sealed := ciphertext(t, gone[0]); bytes.Contains(content, sealed) {
		t.Error("the ciphertext of what was deleted is in the file")
	}
	s.eventually("the proxy knows of the logout", func() bool { return !strings.Contains(ask(), "welcome") })

	// Nothing replaces a vault unless its key is at hand.
	for _, args := range [][]string{{}, {"--json"}} { // a script, which says nothing
		if r := w.authsome(append([]string{"vault", "restore", backup}, args...)...); r.code != 2 || !strings.Contains(r.stderr+r.stdout, "--yes") {
			t.Errorf("restore %v: exit %d, want 2 and a hint\n%s%s", args, r.code, r.stdout, r.stderr)
		}
	}
	if r := w.run(w.command(nil, "vault", "restore", backup), "n\n"); r.code != 8 {
		t.Errorf("not confirmed: exit %d: %s", r.code, r.stderr)
	}
	key := filepath.Join(w.home, "master.key")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte(strings.Repeat("b2", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.authsome("vault", "restore", backup, "--yes"); r.code != 7 {
		t.Errorf("with another key: exit %d: %s", r.code, r.stderr)
	}
	if err := os.WriteFile(key, right, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.authsome("vault", "restore", key, "--yes"); r.code != 7 || !strings.Contains(r.stderr, "is no intact backup") || strings.Contains(r.stderr, "vault restore") {
		t.Errorf("of a file that is no backup: exit %d: %s", r.code, r.stderr)
	}
	copied, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	scratched := file(t, t.TempDir(), "scratched.db", string(bytes.Replace(copied, ciphertext(t, gone[0])[:8], []byte("AAAAAAAA"), 1)))
	if r := w.run(w.command(nil, "vault", "restore", scratched), "n\n"); r.code != 8 || !strings.Contains(r.stderr, "warning: "+scratched+": ") {
		t.Errorf("of a backup with a damaged record: exit %d: %s", r.code, r.stderr)
	}
	if r := w.authsome("vault", "restore", backup+".none", "--yes"); r.code != 2 {
		t.Errorf("of nothing: exit %d: %s", r.code, r.stderr)
	}
	w.must("vault", "restore", backup, "--yes")
	w.checkVault(nil, "default", "local_key")
	w.holds(nil, "default", map[string]string{"EXAMPLE_API_KEY": canary})
	s.eventually("the proxy uses what was restored", func() bool { return strings.Contains(ask(), "welcome") })
	for event, times := range map[string]int{"vault.backup": 3, "vault.restore": 1} { // of one backup that it failed
		if r := w.must("log", "--event", event, "-n", "0"); strings.Count(r.stdout, event+" ") != times {
			t.Errorf("%s is not %d times in the log:\n%s", event, times, r.stdout)
		}
	}
	w.noSecret()
	w.private()
}

// ciphertext is the sealed key of a record.
func ciphertext(t *testing.T, record []byte) []byte {
	t.Helper()
	var r struct {
		Key struct{ Ciphertext string } `json:"api_key"`
	}
	if err := json.Unmarshal(record, &r); err != nil || len(r.Key.Ciphertext) < 20 {
		t.Fatalf("%v: %s", err, record)
	}
	return []byte(r.Key.Ciphertext)
}
