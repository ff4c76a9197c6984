package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"authsome"
	"authsome/provider"
	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

func newRegister(a *app) *cobra.Command {
	var force, yes bool
	cmd := &cobra.Command{
		Use:   "register PATH",
		Short: "Add a provider definition of your own",
		Long: `Validate a provider definition and add it. The endpoints that it names are
shown first, because they will be given credentials. "-" reads stdin.`,
		Example: "  authsome register acme.json\n  authsome inspect github | authsome register - --force",
		Args:    exactArgs("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			b, err := a.readDefinition(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			def, err := provider.Parse(b)
			if err != nil {
				return &fault{code: "InvalidProvider", exit: exitUsage, msg: fmt.Sprintf("%s: %v", inputName(args[0]), err), hint: "mend the file and register it again", err: err}
			}
			if !yes && !force && !a.json {
				a.showEndpoints(def)
				if args[0] == "-" { // stdin was read already and cannot answer
					return a.unasked("not registered")
				}
				if err := a.sure("Register "+def.Name+"?", "not registered"); err != nil {
					return err
				}
			}
			entry, err := a.registerRecorded(client, def, b, force)
			if err != nil {
				return err
			}
			if a.json {
				return a.emit(map[string]any{"status": "success", "provider": def.Name, "path": entry.Path})
			}
			a.say("Registered %s. Next: authsome login %s", def.Name, def.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a definition of the same name, without asking")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// registerRecorded adds a definition once that is on record: it decides where
// credentials go.
func (a *app) registerRecorded(client *authsome.Client, def *provider.Definition, text []byte, force bool) (*provider.Entry, error) {
	if held, err := client.Registry.Lookup(def.Name); err == nil && held.Source == provider.SourceCustom && !force {
		return nil, fmt.Errorf("register provider %s: %w in %s", def.Name, provider.ErrExists, held.Path)
	}
	if err := client.Record("register", def.Name, ""); err != nil {
		return nil, err
	}
	entry, err := provider.Register(client.Home.ProvidersDir(), text, force)
	if errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)) {
		err = fmt.Errorf("%w: %w", authsome.ErrHome, err)
	}
	if err != nil {
		err = errors.Join(err, client.Audit.Write(audit.Event{Event: "register", Provider: def.Name, Outcome: audit.Failed}))
	}
	return entry, err
}

// definitionBytes is more than any definition; provider.Parse says so of what
// is longer still.
const definitionBytes = 1 << 20

func (a *app) readDefinition(ctx context.Context, path string) ([]byte, error) {
	b, err := a.readInput(ctx, path, definitionBytes+1)
	if err != nil {
		return nil, &fault{code: "InvalidProvider", exit: exitUsage, msg: fmt.Sprintf("read %s: %v", inputName(path), bareCause(err)), hint: "give the path of a definition file, or - for stdin", err: err}
	}
	return b, nil
}

// inputName is how messages call what was read.
func inputName(path string) string {
	if path == "-" {
		return "stdin"
	}
	return path
}

func (a *app) showEndpoints(def *provider.Definition) {
	fmt.Fprintf(a.stderr, "%s [%s], %s\n", def.DisplayName, def.Name, def.AuthType)
	fmt.Fprintf(a.stderr, "  its credential will be sent to: %s\n", strings.Join(def.HostURL, ", "))
	for _, u := range def.OwnEndpoints() {
		fmt.Fprintf(a.stderr, "  it logs in at: %s\n", u)
	}
}
