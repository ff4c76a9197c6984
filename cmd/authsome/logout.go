package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"authsome"
	"authsome/flows"
	"authsome/provider"

	"github.com/spf13/cobra"
)

func newLogout(a *app) *cobra.Command {
	var connection string
	cmd := &cobra.Command{
		Use:   "logout PROVIDER",
		Short: "Remove a connection",
		Long: `Remove a connection, after asking the provider to take its tokens back, where
it can be asked. Client credentials stay, so that the next login is short.`,
		Example: "  authsome logout openai\n  authsome logout github --connection work",
		Args:    exactArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := a.lookupHeld(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			c, r, err := client.Broker.Logout(cmd.Context(), args[0], connection)
			if err != nil {
				return err
			}
			a.tellRemote(c.Provider, r)
			if a.json {
				return a.emit(map[string]any{"status": "success", "provider": c.Provider, "connection": c.Name, "remote_revoked": r.Remote})
			}
			a.say("Logged out of %s (connection %s).", c.Provider, c.Name)
			return nil
		},
	}
	cmd.Flags().StringVar(&connection, "connection", "", "name of the connection (default: the provider's default one)")
	return cmd
}

// lookupHeld finds a provider that something is to be deleted of. Its definition
// may be gone or damaged meanwhile: what is stored for it can be deleted all the
// same. path is the user's definition file, "" when there is none.
func (a *app) lookupHeld(ctx context.Context, name string) (client *authsome.Client, path string, err error) {
	if client, err = a.open(ctx); err != nil {
		return nil, "", err
	}
	entry, err := client.Registry.Lookup(name)
	switch {
	case err == nil && entry.Source == "custom":
		return client, entry.Path, nil
	case err == nil || provider.ValidName(name) != nil:
		return client, "", err
	}
	path = filepath.Join(client.Home.ProvidersDir(), name+".json")
	if _, statErr := os.Stat(path); statErr == nil {
		return client, path, nil
	}
	held, listErr := client.Broker.List(ctx)
	if listErr != nil {
		return nil, "", listErr
	}
	if held[name] == nil {
		return nil, "", err
	}
	return client, "", nil
}

// tellRemote says what is still valid at the provider.
func (a *app) tellRemote(name string, r flows.Revocation) {
	switch {
	case r.Err != nil:
		a.warn("%s/%s was removed here, but the provider did not take its tokens back: %v", name, r.Connection, r.Err)
	case !r.Remote:
		a.say("The credential of %s/%s itself is still valid at the provider: it can only be revoked there.", name, r.Connection)
	}
}

func newRevoke(a *app) *cobra.Command {
	var connection string
	cmd := &cobra.Command{
		Use:   "revoke PROVIDER",
		Short: "Revoke tokens at the provider and forget everything",
		Long: `Ask the provider to take the tokens of every connection back, and then delete
the connections, the client credentials and the state. With --connection, that
connection alone. What is local is deleted though the provider cannot be
reached: the exit code and the output then say so.`,
		Example: "  authsome revoke github\n  authsome revoke github --connection work",
		Args:    exactArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := a.lookupHeld(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			done, err := client.Broker.Revoke(cmd.Context(), args[0], connection)
			if err != nil {
				return err
			}
			return a.revoked(args[0], done)
		},
	}
	cmd.Flags().StringVar(&connection, "connection", "", "revoke this connection alone")
	return cmd
}

// revokedConnection is an entry of revoke --json.
type revokedConnection struct {
	Connection string `json:"connection"`
	Remote     bool   `json:"remote_revoked"`
	Error      string `json:"error,omitempty"`
}

func (a *app) revoked(name string, done []flows.Revocation) error {
	var failed error
	list := []revokedConnection{}
	for _, r := range done {
		a.tellRemote(name, r)
		item := revokedConnection{Connection: r.Connection, Remote: r.Remote}
		if r.Err != nil {
			item.Error = r.Err.Error()
			failed = &fault{code: "RevocationFailed", exit: exitAuth, msg: fmt.Sprintf("%s/%s: the provider did not take its tokens back", name, r.Connection), hint: "revoke the tokens on the provider's own pages", err: r.Err}
		}
		list = append(list, item)
	}
	if a.json {
		status := "success"
		if failed != nil {
			status = "removed_locally"
		}
		if err := a.emit(map[string]any{"status": status, "provider": name, "connections": list}); err != nil {
			return err
		}
	} else {
		a.say("Removed %s of %s.", counted(len(done), "connection"), name)
	}
	return failed
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
			client, path, err := a.lookupHeld(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			removed, err := client.Broker.Remove(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			definition := path != ""
			if definition {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("remove definition: %w", err)
				}
			}
			if a.json {
				return a.emit(map[string]any{"status": "success", "provider": args[0], "connections_removed": removed, "definition_removed": definition})
			}
			what := counted(removed, "connection") + " of " + args[0]
			if definition {
				what += ", and its definition"
			}
			a.say("Removed %s.", what)
			return nil
		},
	}
}
