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
			all, damaged := listProviders(cmd.Context(), client)
			if all == nil {
				return damaged
			}
			connected := []string{}
			for _, p := range keep(all, func(p listedProvider) bool { return p.State == "connected" }) {
				connected = append(connected, p.Name)
			}
			if a.json {
				return orError(a.emit(map[string]any{"home_directory": client.Home.Dir, "active_profile": client.Profile,
					"authsome_version": buildVersion(), "encryption_mode": client.Home.Config.Encryption.Mode,
					"connected_providers_count": len(connected), "connected_providers": connected}), damaged)
			}
			names := "none"
			if len(connected) > 0 {
				names = strings.Join(connected, ", ")
			}
			return orError(a.print("home: %s\nprofile: %s\nversion: %s\nencryption: %s\nconnected: %s", client.Home.Dir, client.Profile,
				buildVersion(), client.Home.Config.Encryption.Mode, names), damaged)
		},
	}
}
