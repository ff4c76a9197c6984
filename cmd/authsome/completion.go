package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"authsome"
	"authsome/provider"

	"github.com/spf13/cobra"
)

// shells are those that a completion script can be made for.
var shells = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash":       func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
	"zsh":        (*cobra.Command).GenZshCompletion,
	"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
}

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a shell's completion script",
		Long:  "Print a script that teaches a shell to complete authsome's commands, flags and the names of providers.",
		Example: `  source <(authsome completion bash)
  authsome completion zsh > "${fpath[1]}/_authsome"
  authsome completion fish | source`,
		Args:      exactArgs("SHELL"),
		ValidArgs: sortedKeys(shells),
		RunE: func(cmd *cobra.Command, args []string) error {
			generate, ok := shells[args[0]]
			if !ok {
				return usageError(cmd, fmt.Errorf("shell %q: want %s", args[0], strings.Join(sortedKeys(shells), ", ")))
			}
			var script bytes.Buffer
			if err := generate(cmd.Root(), &script); err != nil {
				return err
			}
			if a.json {
				return a.emit(map[string]string{"shell": args[0], "script": script.String()})
			}
			_, err := a.stdout.Write(script.Bytes())
			return err
		},
	}
}

// completion completes the names of providers for commands that take one.
func completion(a *app, cmd *cobra.Command) cobra.CompletionFunc {
	takesProvider := strings.Contains(cmd.Use, "PROVIDER")
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		switch {
		case cmd.Name() == "register":
			return []string{"json"}, cobra.ShellCompDirectiveFilterFileExt
		case cmd.Name() == "run":
			return nil, cobra.ShellCompDirectiveDefault // programs and their files
		case !takesProvider || len(args) > 0:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.providerNames(), cobra.ShellCompDirectiveNoFileComp
	}
}

// providerNames are for a completion, which makes no home and asks for no key.
func (a *app) providerNames() []string {
	home, err := authsome.DefaultHome(a.getenv)
	if err != nil {
		return nil
	}
	registry, _ := provider.Load(filepath.Join(home, "providers")) // what cannot be loaded cannot be completed
	var names []string
	for _, e := range registry.All() {
		names = append(names, e.Name+"\t"+e.DisplayName)
	}
	return names
}
