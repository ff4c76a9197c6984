package main

import (
	"bytes"
	"encoding/json"

	"github.com/spf13/cobra"
)

func newInspect(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect PROVIDER",
		Short: "Print a provider's definition",
		Long: `Print a provider's definition as JSON, with its source and connections.

The output is a definition file: save it to override a bundled provider.`,
		Example: "  authsome inspect github\n  authsome inspect github > ~/.authsome/providers/github.json",
		Args:    exactArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, entry, err := a.lookup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			held, damaged := client.Broker.List(cmd.Context())
			if held == nil {
				return damaged
			}
			b, err := json.Marshal(entry.Definition)
			if err != nil {
				return err
			}
			extra, err := json.Marshal(map[string]any{"source": entry.Source, "connections": listed(entry, held[entry.Name]).Connections})
			if err != nil {
				return err
			}
			// The definition's own order of fields stays; ours come last.
			var out bytes.Buffer
			joined := append(append(bytes.TrimSuffix(bytes.TrimSpace(b), []byte("}")), ','), extra[1:]...)
			if err := json.Indent(&out, joined, "", "  "); err != nil {
				return err
			}
			a.printed = true
			return orError(a.print("%s", out.String()), damaged)
		},
	}
}
