package main

import (
	"errors"
	"io/fs"

	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

func newInit(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "init",
		Short:   "Create the authsome home",
		Long:    "Create the home directory, its key and its default profile. Running it again changes nothing.",
		Example: "  authsome init\n  AUTHSOME_HOME=/srv/authsome authsome init",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			if err := client.Vault.Init(cmd.Context()); err != nil {
				return err
			}
			created := client.Created
			if !created {
				recorded, err := anythingOnRecord(client.Home.AuditPath())
				if err != nil {
					return err
				}
				created = !recorded
			}
			if created {
				if err := client.Record("init", "", ""); err != nil {
					return err
				}
			}
			if a.json {
				return a.emit(map[string]any{"home": client.Home.Dir, "profile": client.Profile,
					"encryption_mode": client.Home.Config.Encryption.Mode, "created": created})
			}
			if !created {
				a.say("%s exists already; nothing was changed.", client.Home.Dir)
				return nil
			}
			a.say("Created %s. Next: authsome login PROVIDER (authsome list shows them).", client.Home.Dir)
			return nil
		},
	}
}

// anythingOnRecord reports whether the audit log holds an event. A home whose log
// holds none was made by an init that ended early, for want of space perhaps, or
// in passing by a command that has nothing to record.
func anythingOnRecord(path string) (bool, error) {
	r, err := audit.OpenAll(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	for _, err := range audit.Read(r, audit.Filter{}) {
		var half *audit.LineError // is no event
		if err == nil || !errors.As(err, &half) {
			return err == nil, err
		}
	}
	return false, nil
}
