package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newConnection(a *app) *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:     "connection",
		Short:   "Name connections and choose the default one",
		Long:    "A provider may have several connections, one for each account. A run uses the default one unless --connection says otherwise.",
		Example: "  authsome connection list github\n  authsome connection default github work\n  authsome connection rename github default personal",
	})
	list := &cobra.Command{Use: "list [PROVIDER]", Short: "List connections", Args: atMostArgs("PROVIDER"), Example: "  authsome connection list",
		RunE: func(cmd *cobra.Command, args []string) error { return a.listConnections(cmd.Context(), args) }}
	choose := &cobra.Command{Use: "default PROVIDER NAME", Short: "Make a connection the provider's default one", Args: exactArgs("PROVIDER", "NAME"),
		Example: "  authsome connection default github work",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := a.lookup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := client.Broker.SetDefault(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			return a.connectionDone(args[0], args[1], "%s/%s is the default now.")
		}}
	rename := &cobra.Command{Use: "rename PROVIDER OLD NEW", Short: "Rename a connection", Args: exactArgs("PROVIDER", "OLD", "NEW"),
		Example: "  authsome connection rename github default personal",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := a.lookup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if err := client.Broker.Rename(cmd.Context(), args[0], args[1], args[2]); err != nil {
				return err
			}
			return a.connectionDone(args[0], args[2], "The connection is %s/%s now.")
		}}
	cmd.AddCommand(list, choose, rename)
	return cmd
}

func (a *app) connectionDone(provider, name, format string) error {
	if a.json {
		return a.emit(map[string]any{"status": "success", "provider": provider, "connection": name})
	}
	a.say(format, provider, name)
	return nil
}

// listedNamed is an entry of connection list --json.
type listedNamed struct {
	Provider string `json:"provider"`
	listedConnection
	Default bool `json:"default"`
}

func (a *app) listConnections(ctx context.Context, args []string) error {
	client, err := a.open(ctx)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		if _, err := client.Registry.Lookup(args[0]); err != nil {
			return err
		}
	}
	held, err := client.Broker.List(ctx)
	if err != nil {
		return err
	}
	all := []listedNamed{}
	rows := [][]string{{"PROVIDER", "CONNECTION", "DEFAULT", "STATUS", "EXPIRES"}}
	for _, name := range sortedKeys(held) {
		entry, err := client.Registry.Lookup(name)
		if err != nil || len(args) == 1 && name != args[0] {
			continue
		}
		for _, c := range listed(entry, held[name]).Connections {
			isDefault := c.Name == held[name].Default
			all = append(all, listedNamed{name, c, isDefault})
			mark := ""
			if isDefault {
				mark = "*"
			}
			rows = append(rows, []string{name, c.Name, mark, string(c.Status), expiry(c.ExpiresAt, a.now())})
		}
	}
	if a.json {
		return a.emit(map[string]any{"profile": client.Profile, "connections": all})
	}
	if len(all) == 0 {
		a.say("There is no connection. Next: authsome login PROVIDER")
	}
	return a.table(rows)
}
