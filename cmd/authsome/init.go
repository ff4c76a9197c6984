package main

import "github.com/spf13/cobra"

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
			if client.Created {
				if err := client.Record("init", "", ""); err != nil {
					return err
				}
			}
			if a.json {
				return a.emit(map[string]any{"home": client.Home.Dir, "profile": client.Profile,
					"encryption_mode": client.Home.Config.Encryption.Mode, "created": client.Created})
			}
			if !client.Created {
				a.say("%s exists already; nothing was changed.", client.Home.Dir)
				return nil
			}
			a.say("Created %s. Next: authsome login PROVIDER (authsome list shows them).", client.Home.Dir)
			return nil
		},
	}
}
