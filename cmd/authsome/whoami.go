package main

import (
	"strings"

	"github.com/spf13/cobra"
)

func newWhoami(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Show the home, the profile and what is connected",
		Example: "  authsome whoami --json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			all, err := listProviders(cmd.Context(), client)
			if err != nil {
				return err
			}
			connected := []string{}
			for _, p := range keep(all, func(p listedProvider) bool { return p.State == "connected" }) {
				connected = append(connected, p.Name)
			}
			if a.json {
				return a.emit(map[string]any{"home_directory": client.Home.Dir, "active_profile": client.Profile,
					"authsome_version": buildVersion(), "encryption_mode": client.Home.Config.Encryption.Mode,
					"connected_providers_count": len(connected), "connected_providers": connected})
			}
			return a.print("home: %s\nprofile: %s\nversion: %s\nencryption: %s\nconnected: %d (%s)", client.Home.Dir, client.Profile,
				buildVersion(), client.Home.Config.Encryption.Mode, len(connected), strings.Join(connected, ", "))
		},
	}
}
