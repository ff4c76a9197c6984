package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"authsome"
	"authsome/provider"
	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/spf13/cobra"
)

// encryptionModes are the ways in which a vault is locked.
var encryptionModes = []string{vault.ModeLocalKey, vault.ModeKeyring, vault.ModePassphrase, vault.ModeEnv}

// rekeyFlags say what is to become of the vault's keys.
type rekeyFlags struct {
	mode       string
	newDataKey bool
	secretFile string
	forget     bool
}

func newRekey(a *app) *cobra.Command {
	var f rekeyFlags
	cmd := &cobra.Command{Use: "rekey", Short: "Change how the vault is locked, or its data key", Args: secretlessArgs(),
		Long: `Change where the key-encryption key comes from (--mode local_key, keyring,
passphrase or env), replace the data key and encrypt everything anew
(--new-data-key), or both. With --mode passphrase or env the new secret comes from
--secret-file, else from where it always comes from: with that flag a passphrase
or a master key is changed for another one of its kind. With --mode local_key or
keyring the key is always a new one.

Every profile is done, each in one commit: an interruption leaves a profile as it
was or as it should be, and running the command again finishes the rest. A backup
that was made before opens with the key of then. A key file or keyring keeps that
key unless --forget-old-key is given: make a new backup first.`,
		Example: "  authsome vault rekey --mode keyring\n  authsome vault rekey --new-data-key\n  authsome vault rekey --mode passphrase --secret-file new-passphrase",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.mode == "" && !f.newDataKey {
				return usageError(cmd, errors.New("rekey: say --mode, --new-data-key, or both"))
			}
			if f.mode != "" && !slices.Contains(encryptionModes, f.mode) {
				return misspelled(cmd, "--mode "+provider.Repeat(f.mode)+": want "+strings.Join(encryptionModes, ", "), f.mode, encryptionModes)
			}
			if _, takes := secretOf[f.mode]; f.secretFile != "" && !takes {
				return usageError(cmd, errors.New("rekey: --secret-file goes with --mode passphrase or --mode env"))
			}
			return a.rekey(cmd.Context(), f)
		}}
	cmd.Flags().StringVar(&f.mode, "mode", "", "local_key, keyring, passphrase or env")
	cmd.Flags().BoolVar(&f.newDataKey, "new-data-key", false, "encrypt everything with a new key")
	cmd.Flags().StringVar(&f.secretFile, "secret-file", "", `read the new passphrase or master key from this file, "-" for stdin`)
	cmd.Flags().BoolVar(&f.forget, "forget-old-key", false, "remove the key of before from its file or keyring; earlier backups do not open any more")
	cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(encryptionModes, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// secretOf are the modes whose secret the user chooses, and its variable.
var secretOf = map[string]string{vault.ModePassphrase: "AUTHSOME_PASSPHRASE", vault.ModeEnv: "AUTHSOME_MASTER_KEY"}

// rekey changes every profile, and then what new ones are made with.
func (a *app) rekey(ctx context.Context, f rekeyFlags) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	names, err := home.Profiles()
	if err != nil {
		return err
	}
	was := home.Config.Encryption.Mode
	target := orElse(f.mode, was)
	before := a.options("")
	before.Passphrase = onceAsked(before.Passphrase)
	after, err := a.afterRekey(ctx, before, f)
	if err != nil {
		return err
	}
	to, err := home.Wrapper(ctx, target, after)
	if err != nil {
		return err
	}
	if f.mode == vault.ModeLocalKey {
		if err := newFileKey(ctx, home); err != nil {
			return err
		}
	}
	for _, name := range names {
		before.Profile, after.Profile = name, name
		if err := rekeyProfile(ctx, before, after, to, f); err != nil {
			return fmt.Errorf("profile %s: %w", name, err)
		}
	}
	home.Config.Encryption.Mode = target
	if err := home.SaveConfig(); err != nil {
		return err
	}
	if f.forget {
		if err := forgetFileKeys(ctx, home, target); err != nil {
			return err
		}
	}
	if a.json {
		return a.emit(map[string]any{"status": "success", "encryption_mode": target, "profiles": names, "new_data_key": f.newDataKey})
	}
	a.say("Rekeyed %d profile(s); the encryption mode is %s.", len(names), target)
	if !f.forget {
		a.sayKept(home, was, target)
	}
	return nil
}

// newFileKey puts a new key into the key file, in front of those that profiles and
// backups are locked with. A home without one gets its first when it is needed.
func newFileKey(ctx context.Context, home *authsome.Home) error {
	if _, err := os.Stat(home.KeyPath()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return vault.RotateLocalKey(ctx, home.KeyPath())
}

// forgetFileKeys removes from the key file what no profile needs, all of it when
// the mode is another.
func forgetFileKeys(ctx context.Context, home *authsome.Home, mode string) error {
	if mode == vault.ModeLocalKey {
		return vault.PruneLocalKey(ctx, home.KeyPath(), home.StorePath("*"))
	}
	names, err := home.Profiles() // one may have been made meanwhile
	if err != nil {
		return err
	}
	for _, name := range names {
		store, err := vault.OpenBolt(home.StorePath(name), vault.BoltConfig{})
		if err != nil {
			return err
		}
		if held, err := vault.Mode(ctx, store); err != nil || held == vault.ModeLocalKey {
			return errors.Join(err, fmt.Errorf("remove key file: profile %s needs it", name))
		}
	}
	if err := os.Remove(home.KeyPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove key file: %w", err)
	}
	return nil
}

// sayKept tells where the key of before is.
func (a *app) sayKept(home *authsome.Home, was, mode string) {
	_, err := os.Stat(home.KeyPath())
	switch {
	case was == vault.ModeKeyring:
		a.say("The keyring keeps the key of before, in an item of authsome: it opens only backups that were made before.")
	case err == nil && mode == vault.ModeLocalKey && was == mode:
		a.say("%s keeps the keys of before, below the new one: they open only backups that were made before.", home.KeyPath())
	case err == nil && mode != vault.ModeLocalKey:
		a.say("%s opens only backups that were made before: move it to where they are, or delete it.", home.KeyPath())
	}
}

// afterRekey are the options with which profiles open that are done: with
// another passphrase where a mode is asked for, and the same where it is not.
func (a *app) afterRekey(ctx context.Context, before authsome.Options, f rekeyFlags) (authsome.Options, error) {
	after := before
	after.Passphrase = func(ctx context.Context, _ bool) (secret.Text, error) { return before.Passphrase(ctx, f.mode != "") }
	if f.secretFile == "" {
		return after, nil
	}
	text, err := a.readSecretFile(ctx, f.secretFile)
	if err != nil {
		return after, err
	}
	variable := secretOf[f.mode]
	after.Getenv = func(name string) string {
		switch name {
		case variable:
			return text.Reveal()
		case variable + "_FILE":
			return ""
		}
		return before.Getenv(name)
	}
	return after, nil
}

// rekeyProfile changes one profile, unless an earlier run that was cut short did
// so: then the key of before does not open it, and the one of after does.
func rekeyProfile(ctx context.Context, before, after authsome.Options, to vault.KeyWrapper, f rekeyFlags) error {
	client, err := authsome.Open(ctx, before)
	if errors.Is(err, vault.ErrWrongKey) {
		done, other := authsome.Open(ctx, after)
		if other == nil {
			return done.Close()
		}
	}
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Vault.Rekey(ctx, audit.Event{Event: "rekey", Outcome: audit.OK, Detail: to.Mode()}, to, vault.RekeyOptions{NewDataKey: f.newDataKey, ForgetOldKey: f.forget})
}

// onceAsked remembers the answers, so that several profiles are one question.
func onceAsked(ask vault.AskPassphrase) vault.AskPassphrase {
	answers := map[bool]secret.Text{}
	return func(ctx context.Context, confirm bool) (secret.Text, error) {
		if have, ok := answers[confirm]; ok {
			return have, nil
		}
		text, err := ask(ctx, confirm)
		if err == nil {
			answers[confirm] = text
		}
		return text, err
	}
}

// askPassphrase asks on the terminal, twice for a new one.
func (a *app) askPassphrase(ctx context.Context, confirm bool) (secret.Text, error) {
	in, ok := a.terminal()
	if !ok {
		return secret.Text{}, &fault{code: "PassphraseMissing", exit: exitStore, msg: "the vault is locked with a passphrase and there is no terminal to ask on",
			hint: "set AUTHSOME_PASSPHRASE_FILE"}
	}
	prompt := "Passphrase of the authsome vault: "
	if confirm {
		prompt = "New passphrase for the authsome vault: "
	}
	text, err := a.readMasked(ctx, in, prompt)
	if err != nil || !confirm {
		return text, err
	}
	again, err := a.readMasked(ctx, in, "Once more: ")
	if err == nil && again.Reveal() != text.Reveal() {
		err = &fault{code: "PassphraseMismatch", exit: exitUsage, msg: "the two were not the same", hint: "run the command again"}
	}
	return text, err
}
