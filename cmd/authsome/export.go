package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"authsome"
	"authsome/flows"

	"github.com/spf13/cobra"
)

func newExport(a *app) *cobra.Command {
	var connection, format, prefix string
	cmd := &cobra.Command{
		Use:   "export [PROVIDER]",
		Short: "Print credentials as environment variables",
		Long: `Print credentials as environment variables, for programs that cannot run
behind the proxy. Whoever reads the output holds the credential.

Formats: env prints KEY=value lines, shell prints export statements that are
safe to eval, json prints a flat map. A refresh token is never printed.`,
		Example: `  export $(authsome export github)
  eval "$(authsome export --format shell)"
  authsome export openai --format json`,
		Args: atMostArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			render, ok := exportFormats[format]
			if !ok {
				return usageError(cmd, fmt.Errorf("--format %q: want env, shell or json", format))
			}
			if a.insideRun() {
				return insideRunError("export")
			}
			vars, failed, err := a.exported(cmd.Context(), args, connection)
			if err != nil {
				return err
			}
			named := make(map[string]string, len(vars))
			for name, value := range vars {
				named[prefix+name] = value
			}
			if a.json {
				if failed != nil && len(named) == 0 {
					return failed
				}
				render = renderJSON
			}
			if err := render(a, named); err != nil {
				return err
			}
			return failed
		},
	}
	cmd.Flags().StringVar(&connection, "connection", "", "name of the connection (default: the provider's default one)")
	cmd.Flags().StringVar(&format, "format", "env", "env, shell or json")
	cmd.Flags().StringVar(&prefix, "prefix", "", "put this before every name")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"env", "shell", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// exported collects variables. failed joins what went wrong with single
// connections when all were asked for; the rest is exported all the same.
func (a *app) exported(ctx context.Context, args []string, connection string) (vars map[string]string, failed, err error) {
	var client *authsome.Client
	if len(args) == 1 {
		if client, _, err = a.lookup(ctx, args[0]); err != nil {
			return nil, nil, err
		}
		one, err := client.Broker.Export(ctx, args[0], connection)
		if err != nil {
			return nil, nil, err
		}
		return flows.MergeExports([]flows.Exported{one}), nil, client.Record("export", args[0], one.Connection)
	}
	if client, err = a.open(ctx); err != nil {
		return nil, nil, err
	}
	held, err := client.Broker.List(ctx)
	if held == nil {
		return nil, nil, err
	}
	var all []flows.Exported
	var errs []error
	if err != nil { // single records; the others are in held
		errs = append(errs, err)
	}
	for _, name := range sortedKeys(held) {
		for _, c := range held[name].Connections {
			if connection != "" && c.Name != connection {
				continue
			}
			one, err := client.Broker.Export(ctx, name, c.Name)
			if err == nil {
				err = client.Record("export", name, c.Name)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			all = append(all, one)
		}
	}
	if len(errs) > 0 {
		joined := errors.Join(errs...)
		failed = &fault{code: describe(errs[0]).code, exit: exitMissing, msg: joined.Error(), hint: describe(errs[0]).hint, err: joined}
	}
	return flows.MergeExports(all), failed, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

var exportFormats = map[string]func(*app, map[string]string) error{
	"env":   renderLines("", dotenvQuote),
	"shell": renderLines("export ", shellQuote),
	"json":  renderJSON,
}

func renderJSON(a *app, vars map[string]string) error { return a.emit(vars) }

func renderLines(before string, quote func(string) string) func(*app, map[string]string) error {
	return func(a *app, vars map[string]string) error {
		for _, name := range sortedKeys(vars) {
			if err := a.print("%s%s=%s", before, name, quote(vars[name])); err != nil {
				return err
			}
		}
		return nil
	}
}

// bare are the characters that mean themselves to every shell and dotenv
// reader, so that "export $(authsome export P)" works with them.
const bare = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:=+@,%"

func dotenvQuote(v string) string {
	if v != "" && strings.Trim(v, bare) == "" {
		return v
	}
	if !strings.ContainsAny(v, "'\n\r") {
		return "'" + v + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "$", `\$`, "`", "\\`").Replace(v) + `"`
}

// shellQuote quotes for POSIX shells: single quotes hold everything but
// themselves.
func shellQuote(v string) string {
	return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
}
