package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// shells are those that a completion script can be made for.
var shells = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash": func(root *cobra.Command, w io.Writer) error {
		if err := root.GenBashCompletionV2(w, true); err != nil {
			return err
		}
		_, err := io.WriteString(w, bashWithoutPackage)
		return err
	},
	"zsh":        (*cobra.Command).GenZshCompletion,
	"fish":       func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	"powershell": (*cobra.Command).GenPowerShellCompletionWithDesc,
}

// bashWithoutPackage has the script work where the package bash-completion is not
// installed, as on macOS. It puts the words together again that bash takes apart
// at = and :, as in PROVIDER=NAME.
const bashWithoutPackage = `
__authsome_init_completion()
{
    COMPREPLY=()
    words=("${COMP_WORDS[0]}") cword=0
    local i last=
    for ((i = 1; i < ${#COMP_WORDS[@]}; i++)); do
        if [[ $i -gt 1 && ( ${COMP_WORDS[i]} == [=:]* || $last == *[=:] ) ]]; then
            words[${#words[@]}-1]+=${COMP_WORDS[i]}
        else
            words+=("${COMP_WORDS[i]}")
        fi
        last=${COMP_WORDS[i]}
        if [[ $i -eq $COMP_CWORD ]]; then cword=$((${#words[@]} - 1)); fi
    done
    cur=${words[cword]} prev=${words[cword-1]}
}
`

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a shell's completion script",
		Long:  "Print a script that teaches a shell to complete authsome's commands and flags, and\nthe names of providers, connections and profiles.",
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
			// Those of zsh and fish take the flag of --connection=P=NAME to end at
			// its last =.
			text := strings.ReplaceAll(script.String(), "'-.*='", "'^-[^=]*='")
			if a.json {
				return a.emit(map[string]string{"shell": args[0], "script": text})
			}
			_, err := io.WriteString(a.stdout, text)
			return err
		},
	}
}
