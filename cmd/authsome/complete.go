package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"authsome"
	"authsome/flows"
	"authsome/provider"
	"authsome/vault"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A completion answers a press of a key: it makes no home, asks for no key, and
// has nothing to say when it cannot answer.

// nothing is a completion that offers nothing, and no files either.
const nothing = cobra.ShellCompDirectiveNoFileComp

// completeAll gives every argument and every flag that has no completion yet the
// one that goes with its name.
func (a *app) completeAll(cmd *cobra.Command) {
	if cmd.ValidArgs == nil && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = a.completeArgs
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, has := cmd.GetFlagCompletionFunc(f.Name); !has {
			a.completeFlag(cmd, f)
		}
	})
	for _, c := range cmd.Commands() {
		a.completeAll(c)
	}
}

// completeArgs completes what the usage line calls PROVIDER, NAME and so on.
func (a *app) completeArgs(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names := strings.FieldsFunc(cmd.Use, func(r rune) bool { return strings.ContainsRune(" []", r) })[1:]
	switch {
	case cmd.Name() == "run":
		return nil, cobra.ShellCompDirectiveDefault // programs and their files
	case len(args) >= len(names):
		return nil, nothing
	}
	parent := ""
	if cmd.HasParent() {
		parent = cmd.Parent().Name()
	}
	switch names[len(args)] {
	case "PROVIDER":
		return a.providerNames(), nothing
	case "NAME", "OLD":
		if parent == "connection" {
			return a.connectionNames(cmd.Context(), args[0]), nothing
		}
		if parent == "profile" && cmd.Name() != "create" {
			return a.profileNames(), nothing
		}
	case "PATH":
		return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
	case "FILE":
		return nil, cobra.ShellCompDirectiveDefault
	}
	return nil, nothing
}

// completeFlag registers a flag's completion: names, files, or nothing.
func (a *app) completeFlag(cmd *cobra.Command, f *pflag.Flag) {
	complete := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return nil, nothing }
	switch {
	case f.Value.Type() == "bool":
		return
	case strings.HasSuffix(f.Name, "-file"), strings.HasSuffix(f.Name, "-out"), f.Name == "config":
		return // files are what the shell completes by itself
	case strings.HasSuffix(f.Name, "-dir"):
		complete = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	case f.Name == "profile":
		complete = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return a.profileNames(), nothing
		}
	case f.Name == "provider":
		complete = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return a.providerNames(), nothing
		}
	case f.Name == "connection" && f.Value.Type() == "stringArray":
		complete = func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.pairs(cmd.Context()), nothing
		}
	case f.Name == "connection":
		complete = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.connectionNames(cmd.Context(), strings.Join(args, "")), nothing
		}
	}
	cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails for a flag that has one, which this has not
}

// providerNames are those of all definitions, with what they are called.
func (a *app) providerNames() []string {
	dir, err := authsome.DefaultHome(a.getenv)
	if err != nil {
		return nil
	}
	registry, _ := provider.Load(filepath.Join(dir, "providers")) // what cannot be loaded cannot be completed
	var names []string
	for _, e := range registry.All() {
		names = append(names, e.Name+"\t"+e.DisplayName)
	}
	return names
}

func (a *app) profileNames() []string {
	home := a.existingHome()
	if home == nil {
		return nil
	}
	names, _ := home.Profiles()
	return names
}

// existingHome opens the home if there is one.
func (a *app) existingHome() *authsome.Home {
	dir, err := authsome.DefaultHome(a.getenv)
	if err != nil || !authsome.IsHome(dir) {
		return nil
	}
	home, _, err := authsome.OpenHome(dir)
	if err != nil {
		return nil
	}
	return home
}

// completionTime is how long a completion waits for a store that others hold.
const completionTime = 500 * time.Millisecond

// connections are the names of a profile's connections, by provider. They are
// not sealed, so that the vault stays locked.
func (a *app) connections(ctx context.Context) map[string][]string {
	home := a.existingHome()
	if home == nil {
		return nil
	}
	profile := a.profileIn(home)
	if _, err := home.Profile(profile); err != nil {
		return nil
	}
	store, err := vault.OpenBolt(home.StorePath(profile), vault.BoltConfig{Timeout: completionTime})
	if err != nil {
		return nil
	}
	names, _ := flows.ConnectionNames(ctx, store, profile)
	return names
}

// connectionNames are those of one provider, or of all for "".
func (a *app) connectionNames(ctx context.Context, provider string) (names []string) {
	for name, connections := range a.connections(ctx) {
		if provider == "" || provider == name {
			names = append(names, connections...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pairs are all connections as PROVIDER=NAME.
func (a *app) pairs(ctx context.Context) (pairs []string) {
	for name, connections := range a.connections(ctx) {
		for _, connection := range connections {
			pairs = append(pairs, name+"="+connection)
		}
	}
	slices.Sort(pairs)
	return pairs
}
