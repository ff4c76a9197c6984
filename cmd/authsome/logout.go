package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"
)

func newLogout(a *app) *cobra.Command {
	var connection string
	cmd := &cobra.Command{
		Use:     "logout PROVIDER",
		Short:   "Remove a connection",
		Long:    "Remove a connection. Client credentials stay, so that the next login is short.",
		Example: "  authsome logout openai\n  authsome logout github --connection work",
		Args:    exactArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := a.lookup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			c, err := client.Broker.Logout(cmd.Context(), args[0], connection)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(map[string]any{"status": "success", "provider": c.Provider, "connection": c.Name})
			}
			a.say("Logged out of %s (connection %s). The key itself is still valid at the provider.", c.Provider, c.Name)
			return nil
		},
	}
	cmd.Flags().StringVar(&connection, "connection", "", "name of the connection (default: the provider's default one)")
	return cmd
}

func newRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove PROVIDER",
		Short: "Delete what is stored for a provider",
		Long: `Delete, on this machine only, every connection and client credential of a
provider, and its definition when it is your own. Nobody is told: what was
issued stays valid at the provider.`,
		Example: "  authsome remove acme",
		Args:    exactArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, entry, err := a.lookup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			removed, err := client.Broker.Remove(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			definition := entry.Source == "custom"
			if definition {
				if err := os.Remove(entry.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("remove definition: %w", err)
				}
			}
			if a.json {
				return a.emit(map[string]any{"status": "success", "provider": args[0], "connections_removed": removed, "definition_removed": definition})
			}
			a.say("Removed %d connection(s) of %s.", removed, args[0])
			return nil
		},
	}
}
