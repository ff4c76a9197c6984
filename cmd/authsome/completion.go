package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

// completion completes the names of providers for commands that take one.
func completion(a *app, cmd *cobra.Command) cobra.CompletionFunc {
	takesProvider := strings.Contains(cmd.Use, "PROVIDER")
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if cmd.Name() == "register" {
			return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
		}
		if !takesProvider || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.providerNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) providerNames(ctx context.Context) []string {
	client, err := a.open(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range client.Registry.All() {
		names = append(names, e.Name+"\t"+e.DisplayName)
	}
	return names
}
