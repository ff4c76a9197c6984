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
	"authsome/vault"
	"authsome/vault/audit"
	"authsome/vault/secret"

	"github.com/spf13/cobra"
)

// encryptionModes are the ways in which a vault is locked.
var encryptionModes = []string{vault.ModeLocalKey, vault.ModeKeyring, vault.ModePassphrase, vault.ModeEnv}

func newVault(a *app) *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:     "vault",
		Short:   "Look after the vault",
		Example: "  authsome vault check\n  authsome vault backup authsome-backup.db\n  authsome vault rekey --mode passphrase",
	})
	var mode string
	var newKey bool
	rekey := &cobra.Command{Use: "rekey", Short: "Change how the vault is locked, or its data key", Args: exactArgs(),
		Long: `Change where the key-encryption key comes from (--mode local_key, keyring,
passphrase or env), replace the data key and encrypt everything anew
(--new-data-key), or both. Every profile is done, each in one commit: an
interruption leaves a profile as it was or as it should be, and running the
command again finishes the rest.`,
		Example: "  authsome vault rekey --mode keyring\n  authsome vault rekey --new-data-key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if mode == "" && !newKey {
				return usageError(cmd, errors.New("rekey: say --mode, --new-data-key, or both"))
			}
			if mode != "" && !slices.Contains(encryptionModes, mode) {
				return misspelled(cmd, fmt.Sprintf("--mode %q: want %s", mode, strings.Join(encryptionModes, ", ")), mode, encryptionModes)
			}
			return a.rekey(cmd.Context(), mode, newKey)
		}}
	rekey.Flags().StringVar(&mode, "mode", "", "local_key, keyring, passphrase or env")
	rekey.Flags().BoolVar(&newKey, "new-data-key", false, "encrypt everything with a new key")
	rekey.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions(encryptionModes, cobra.ShellCompDirectiveNoFileComp))
	var force bool
	restore := &cobra.Command{Use: "restore FILE", Short: "Replace the vault by a backup", Args: exactArgs("FILE"), Example: "  authsome vault restore authsome-backup.db",
		RunE: func(cmd *cobra.Command, args []string) error { return a.restoreVault(cmd.Context(), args[0], force) }}
	restore.Flags().BoolVarP(&force, "yes", "y", false, "do not ask")
	cmd.AddCommand(rekey,
		&cobra.Command{Use: "check", Short: "Read and decrypt everything", Args: exactArgs(), Example: "  authsome vault check --json",
			RunE: func(cmd *cobra.Command, _ []string) error { return a.checkVault(cmd.Context()) }},
		&cobra.Command{Use: "compact", Short: "Give unused space back", Args: exactArgs(), Example: "  authsome vault compact",
			RunE: func(cmd *cobra.Command, _ []string) error { return a.compactVault(cmd.Context()) }},
		&cobra.Command{Use: "backup FILE", Short: "Copy the vault while it is in use", Args: exactArgs("FILE"),
			Long:    "Copy the vault of the profile, as it is at one moment. The copy is encrypted:\nkeep the key (master.key, passphrase) somewhere else.",
			Example: "  authsome vault backup authsome-backup.db",
			RunE:    func(cmd *cobra.Command, args []string) error { return a.backupVault(cmd.Context(), args[0]) }},
		restore)
	return cmd
}

// bolt opens the profile's store without opening the vault in it: the way to a
// store that is damaged or whose key is not at hand.
func (a *app) bolt() (*authsome.Home, *vault.Bolt, string, error) {
	home, err := a.home()
	if err != nil {
		return nil, nil, "", err
	}
	profile := a.profileIn(home)
	if _, err := home.Profile(profile); err != nil {
		return nil, nil, "", err
	}
	store, err := vault.OpenBolt(home.StorePath(profile), vault.BoltConfig{Logger: a.logger()})
	return home, store, profile, err
}

func (a *app) checkVault(ctx context.Context) error {
	_, store, profile, err := a.bolt()
	if err != nil {
		return err
	}
	if err := store.Check(ctx); err != nil {
		return err
	}
	client, err := a.open(ctx)
	if err != nil {
		return err
	}
	report, err := client.Vault.Check(ctx)
	if err != nil {
		return err
	}
	damaged := []string{}
	for _, d := range report.Damaged {
		damaged = append(damaged, d.Error())
	}
	if a.json {
		if err := a.emit(map[string]any{"profile": profile, "encryption_mode": report.Mode, "records": report.Records, "damaged": damaged, "ok": len(damaged) == 0}); err != nil {
			return err
		}
	} else {
		for _, d := range damaged {
			a.warn("%s", d)
		}
		a.say("%d records, %d damaged (profile %s, encryption %s).", report.Records, len(damaged), profile, orElse(report.Mode, "none yet"))
	}
	if len(damaged) > 0 {
		return &fault{code: "StoreDamaged", exit: exitStore, msg: fmt.Sprintf("%d damaged records", len(damaged)), hint: "log in again with --force to replace them, or run: authsome vault restore FILE"}
	}
	return nil
}

func (a *app) compactVault(ctx context.Context) error {
	client, err := a.open(ctx)
	if err != nil {
		return err
	}
	before, after, err := client.Store.Compact(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.emit(map[string]any{"profile": client.Profile, "bytes_before": before, "bytes_after": after})
	}
	a.say("The store was %d bytes and is %d bytes now.", before, after)
	return nil
}

func (a *app) backupVault(ctx context.Context, path string) error {
	client, err := a.open(ctx)
	if err != nil {
		return err
	}
	if err := client.Audit.Write(audit.Event{Event: "vault.backup", Outcome: audit.OK}); err != nil {
		return err
	}
	if err := client.Store.Backup(ctx, path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &fault{code: "FileExists", exit: exitOther, msg: path + " exists already", hint: "choose another name: a backup replaces nothing", err: err}
		}
		return err
	}
	if a.json {
		return a.emit(map[string]any{"status": "success", "profile": client.Profile, "path": path})
	}
	a.say("Backed up profile %s to %s. Its key is not in it.", client.Profile, path)
	return nil
}

func (a *app) restoreVault(ctx context.Context, path string, yes bool) error {
	home, store, profile, err := a.bolt()
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return &fault{code: "NoBackup", exit: exitUsage, msg: err.Error(), hint: "give the path of a file that authsome vault backup made", err: err}
	}
	if err := a.opens(ctx, home, profile, path); err != nil {
		return err
	}
	if !yes && !a.json && !a.confirm(fmt.Sprintf("Replace the vault of profile %s by %s?", profile, path)) {
		return &fault{code: "Cancelled", exit: exitCancelled, msg: "not restored", hint: "add --yes to restore without being asked"}
	}
	if err := store.Restore(ctx, path); err != nil {
		return err
	}
	if a.json {
		return a.emit(map[string]any{"status": "success", "profile": profile, "path": path})
	}
	a.say("Restored profile %s from %s.", profile, path)
	return nil
}

// opens checks that the key of a backup is at hand before it replaces anything.
func (a *app) opens(ctx context.Context, home *authsome.Home, profile, path string) error {
	copied, err := vault.OpenBolt(path, vault.BoltConfig{Logger: a.logger()})
	if err != nil {
		return err
	}
	mode, err := vault.Mode(ctx, copied)
	if err != nil {
		return err
	}
	wrapper, err := home.Wrapper(orElse(mode, home.Config.Encryption.Mode), a.options(""))
	if err != nil {
		return err
	}
	log, err := audit.Open(home.AuditPath(), audit.Config{Profile: profile})
	if err != nil {
		return err
	}
	defer log.Close()
	if err := log.Write(audit.Event{Event: "vault.restore", Outcome: audit.OK}); err != nil {
		return err
	}
	v, err := vault.Open(ctx, vault.Config{Store: copied, Wrapper: wrapper, Audit: log})
	if err != nil {
		return err
	}
	_, err = v.Check(ctx)
	return err
}

// rekey changes every profile, and then what new ones are made with.
func (a *app) rekey(ctx context.Context, mode string, newKey bool) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	names, err := home.Profiles()
	if err != nil {
		return err
	}
	target := orElse(mode, home.Config.Encryption.Mode)
	options := a.options("")
	options.Passphrase = onceAsked(options.Passphrase)
	to, err := home.Wrapper(target, options)
	if err != nil {
		return err
	}
	for _, name := range names {
		options.Profile = name
		client, err := authsome.Open(ctx, options)
		if err != nil {
			return fmt.Errorf("profile %s: %w", name, err)
		}
		err = client.Vault.Rekey(ctx, audit.Event{Event: "rekey", Outcome: audit.OK, Detail: target}, to, newKey)
		client.Close()
		if err != nil {
			return fmt.Errorf("profile %s: %w", name, err)
		}
	}
	home.Config.Encryption.Mode = target
	if err := home.SaveConfig(); err != nil {
		return err
	}
	if a.json {
		return a.emit(map[string]any{"status": "success", "encryption_mode": target, "profiles": names, "new_data_key": newKey})
	}
	a.say("Rekeyed %d profile(s); the encryption mode is %s.", len(names), target)
	return nil
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
	text, err := a.readMasked(ctx, in, "Passphrase of the authsome vault: ")
	if err != nil || !confirm {
		return text, err
	}
	again, err := a.readMasked(ctx, in, "Once more: ")
	if err == nil && again.Reveal() != text.Reveal() {
		err = &fault{code: "PassphraseMismatch", exit: exitUsage, msg: "the two were not the same", hint: "run the command again"}
	}
	return text, err
}
