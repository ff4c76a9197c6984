package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"authsome/vault"
	"authsome/vault/audit"
)

func init() {
	children["keyring"] = func(args []string) error {
		ctx := context.Background()
		unlock := exec.Command("gnome-keyring-daemon", "--unlock", "--components=secrets")
		unlock.Stdin = strings.NewReader("a password")
		if out, err := unlock.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		store, err := vault.OpenBolt(filepath.Join(args[0], "store.db"), vault.BoltConfig{})
		if err != nil {
			return err
		}
		log, err := audit.Open(filepath.Join(args[0], "audit.log"), audit.Config{})
		if err != nil {
			return err
		}
		open := func(w vault.KeyWrapper) (*vault.Vault, error) {
			return vault.Open(ctx, vault.Config{Store: store, Wrapper: w, Audit: log})
		}
		v, err := open(vault.Keyring("home"))
		if err != nil {
			return err
		}
		if err := v.Apply(ctx, login, vault.Change{Key: "a", Record: record("h", "t")}); err != nil {
			return err
		}
		backup := filepath.Join(args[0], "backup.db")
		if err := errors.Join(store.Backup(ctx, backup), store.Backup(ctx, filepath.Join(args[0], "copy.db"))); err != nil {
			return err
		}
		// From the keyring to a file and back, each time opened anew.
		for _, to := range []vault.KeyWrapper{vault.LocalKey(filepath.Join(args[0], "master.key")), vault.Keyring("home"), vault.Keyring("home")} {
			if err := v.Rekey(ctx, rekeyed, to, vault.RekeyOptions{NewDataKey: true}); err != nil {
				return err
			}
			if v, err = open(to); err != nil {
				return err
			}
			report, err := v.Check(ctx)
			if err != nil {
				return err
			}
			fmt.Println(report.Mode, report.Records, report.Damaged)
		}
		// What was backed up before opens for as long as its key is kept.
		old, err := vault.OpenBolt(backup, vault.BoltConfig{})
		if err != nil {
			return err
		}
		opened, err := vault.Open(ctx, vault.Config{Store: old, Wrapper: vault.Keyring("home"), Audit: log})
		if err == nil {
			_, err = opened.Check(ctx)
		}
		fmt.Println("kept:", err)
		if err != nil {
			return nil
		}
		if err := opened.Rekey(ctx, rekeyed, vault.LocalKey(filepath.Join(args[0], "master.key")), vault.RekeyOptions{ForgetOldKey: true}); err != nil {
			return err
		}
		if old, err = vault.OpenBolt(filepath.Join(args[0], "copy.db"), vault.BoltConfig{}); err != nil {
			return err
		}
		_, err = vault.Open(ctx, vault.Config{Store: old, Wrapper: vault.Keyring("home"), Audit: log})
		fmt.Println("forgotten:", errors.Is(err, vault.ErrKeyMissing))
		return nil
	}
	children["headless"] = func(args []string) error {
		fmt.Println(oneLine(func() error { _, err := vault.Keyring("home").Wrap(context.Background(), make([]byte, 32)); return err }()))
		return nil
	}
}

// TestSecretService works with a real keyring daemon on a message bus of its own.
// It needs the Debian packages dbus and gnome-keyring.
func TestSecretService(t *testing.T) {
	for _, tool := range []string{"dbus-run-session", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install the packages dbus and gnome-keyring (make test does)", err)
		}
	}
	dir := t.TempDir()
	c := start(t, func(cmd *exec.Cmd) {
		cmd.Args = []string{"dbus-run-session", "--", cmd.Path, dir}
		cmd.Path, _ = exec.LookPath("dbus-run-session")
		cmd.Env = append(cmd.Env, "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	}, "keyring")
	want := []string{"local_key 1 []", "keyring 1 []", "keyring 1 []", "kept: <nil>", "forgotten: true"}
	if got := c.rest(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Without a message bus the error says what is the matter.
func TestHeadlessKeyring(t *testing.T) {
	dir := t.TempDir()
	c := start(t, func(cmd *exec.Cmd) {
		cmd.Env = []string{"VAULT_TEST_CHILD=headless", "HOME=" + dir, "PATH=" + dir,
			"DBUS_SESSION_BUS_ADDRESS=unix:path=" + filepath.Join(dir, "none")}
	}, "headless")
	if got := c.line(t); !strings.HasPrefix(got, vault.ErrKeyringUnavailable.Error()) || !strings.Contains(got, "authsome vault rekey") {
		t.Errorf("got %s", got)
	}
}
