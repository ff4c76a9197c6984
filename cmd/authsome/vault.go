package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"authsome"
	"authsome/vault"
	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

func newVault(a *app) *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:     "vault",
		Short:   "Look after the vault",
		Example: "  authsome vault check\n  authsome vault backup authsome-backup.db\n  authsome vault rekey --mode passphrase",
	})
	var yes bool
	restore := &cobra.Command{Use: "restore FILE", Short: "Replace the vault by a backup", Args: exactArgs("FILE"), Example: "  authsome vault restore authsome-backup.db",
		RunE: func(cmd *cobra.Command, args []string) error { return a.restoreVault(cmd.Context(), args[0], yes) }}
	restore.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask; needed with --json, and where nobody can answer")
	cmd.AddCommand(newRekey(a),
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
		err = errors.Join(err, client.Audit.Write(audit.Event{Event: "vault.backup", Outcome: audit.Failed}))
		if missing := (*vault.StoreError)(nil); errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) {
			return &fault{code: "NothingStored", exit: exitOther, msg: "there is nothing to back up: profile " + client.Profile + " holds nothing yet", hint: "run: authsome login PROVIDER", err: err}
		}
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
	log, err := audit.Open(home.AuditPath(), audit.Config{Profile: profile, Actor: audit.Actor{PID: os.Getpid(), UID: os.Getuid()}})
	if err != nil {
		return err
	}
	defer log.Close()
	if err := a.opens(ctx, home, log, path); err != nil {
		return badBackup(path, err)
	}
	if !yes {
		if err := a.sure(fmt.Sprintf("Replace the vault of profile %s by %s?", profile, path), "not restored"); err != nil {
			return err
		}
	}
	if err := log.Write(audit.Event{Event: "vault.restore", Outcome: audit.OK}); err != nil {
		return err
	}
	if err := store.Restore(ctx, path); err != nil {
		return errors.Join(err, log.Write(audit.Event{Event: "vault.restore", Outcome: audit.Failed}))
	}
	if a.json {
		return a.emit(map[string]any{"status": "success", "profile": profile, "path": path})
	}
	a.say("Restored profile %s from %s.", profile, path)
	return nil
}

// badBackup says of a backup that is damaged that it is the backup: the advice for
// a damaged store is to restore one.
func badBackup(path string, err error) error {
	var corrupt *vault.CorruptError
	var record *vault.IntegrityError
	if !errors.As(err, &corrupt) && !errors.As(err, &record) {
		return err
	}
	return &fault{code: "BackupDamaged", exit: exitStore, msg: path + " is no intact backup: " + err.Error(), hint: "nothing was changed; give another file that authsome vault backup made", err: err}
}

// opens checks that the key of a backup is at hand before it replaces anything, and
// warns of what is damaged in it.
func (a *app) opens(ctx context.Context, home *authsome.Home, log *audit.Log, path string) error {
	copied, err := vault.OpenBolt(path, vault.BoltConfig{Logger: a.logger(), AsFound: true})
	if err != nil {
		return err
	}
	mode, err := vault.Mode(ctx, copied)
	if err != nil {
		return err
	}
	wrapper, err := home.Wrapper(ctx, orElse(mode, home.Config.Encryption.Mode), a.options(""))
	if err != nil {
		return err
	}
	v, err := vault.Open(ctx, vault.Config{Store: copied, Wrapper: wrapper, Audit: log})
	if err != nil {
		return err
	}
	report, err := v.Check(ctx)
	for _, damaged := range report.Damaged {
		a.warn("%s: %v", path, damaged)
	}
	return err
}
