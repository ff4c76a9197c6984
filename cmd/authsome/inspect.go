package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"

	"authsome/provider"

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
			client, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			entry, err := client.Registry.Lookup(args[0])
			if a.goesInto(err) {
				entry, err = provider.Bundled().Lookup(args[0])
			}
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

// goesInto reports whether an error is about the very file that stdout goes into:
// "authsome inspect P > providers/P.json" has emptied it before it is read.
func (a *app) goesInto(err error) bool {
	var bad *provider.Error
	out, ok := a.stdout.(*os.File)
	if !ok || !errors.As(err, &bad) || bad.File == "" {
		return false
	}
	here, err := out.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(bad.File)
	return err == nil && os.SameFile(here, there)
}
