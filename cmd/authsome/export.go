package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"unicode/utf8"

	"authsome"
	"authsome/flows"
	"authsome/flows/environ"

	"github.com/spf13/cobra"
)

func newExport(a *app) *cobra.Command {
	var connection, format, prefix string
	cmd := &cobra.Command{
		Use:   "export [PROVIDER]",
		Short: "Print credentials as environment variables",
		Long: `Print credentials as environment variables, for programs that cannot run
behind the proxy. Whoever reads the output holds the credential.

Formats: env prints KEY=value lines for env files, bare while no character needs
quoting; shell prints export statements that are safe to eval in POSIX shells,
zsh and fish; json prints a flat map. A value that a format cannot carry is
reported, and the rest is printed: fish takes no value of several lines. A
refresh token is never printed.`,
		Example: `  export $(authsome export github)
  eval "$(authsome export --format shell)"
  authsome export openai --format json`,
		Args: atMostArgs("PROVIDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			render, ok := exportFormats[format]
			if !ok {
				return usageError(cmd, fmt.Errorf("--format %q: want env, shell or json", format))
			}
			if !variablePrefix.MatchString(prefix) {
				return usageError(cmd, fmt.Errorf("--prefix %q: want letters, digits and _, not a digit first", prefix))
			}
			if a.insideRun() {
				return insideRunError("export")
			}
			vars, failed, err := a.exported(cmd.Context(), args, connection)
			if err != nil {
				return err
			}
			if len(vars) == 0 && failed == nil && !a.json {
				a.say("There is nothing to export. Next: authsome list --connected")
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
			unfit, err := render(a, named)
			if err != nil || unfit == nil {
				return errors.Join(failed, err)
			}
			return unfitError(errors.Join(failed, unfit), len(args) == 0, a.json || format == "json")
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
		vars, err := flows.MergeExports([]flows.Exported{one})
		return vars, nil, errors.Join(err, client.Record("export", args[0], one.Connection))
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
			if errors.Is(err, flows.ErrNoVariable) { // nobody misses what has no name
				a.warn("%v", err)
				continue
			}
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
	vars, err = flows.MergeExports(all)
	if err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		joined := errors.Join(errs...)
		failed = &fault{code: describe(errs[0]).code, exit: exitMissing, msg: joined.Error(), hint: describe(errs[0]).hint, err: joined}
	}
	return vars, failed, nil
}

// unfitError is returned when a format could not carry everything. Where all
// connections were asked for it is as for one that cannot be used.
func unfitError(err error, all, asJSON bool) error {
	f := &fault{code: "ExportUnfit", exit: exitOther, msg: err.Error(), hint: "run: authsome export --format json", err: err}
	if all {
		f.exit = exitMissing
	}
	if asJSON {
		f.hint = "run: authsome export --format shell"
	}
	return f
}

// variablePrefix is what the name of a variable may begin with.
var variablePrefix = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_]*)?$`)

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// A renderExport prints variables and returns what the format cannot carry.
type renderExport func(a *app, vars map[string]string) (unfit, err error)

var exportFormats = map[string]renderExport{
	"env":   renderLines(environ.Dotenv),
	"shell": renderLines(environ.Shell),
	"json":  renderJSON,
}

func renderJSON(a *app, vars map[string]string) (unfit, err error) {
	var all []error
	for _, name := range sortedKeys(vars) {
		if !utf8.ValidString(vars[name]) {
			all = append(all, fmt.Errorf("%s: JSON %w", name, environ.ErrUnfit))
			delete(vars, name)
		}
	}
	unfit = errors.Join(all...)
	if unfit != nil && len(vars) == 0 {
		return unfit, nil
	}
	return unfit, a.emit(vars)
}

func renderLines(format environ.Format) renderExport {
	return func(a *app, vars map[string]string) (unfit, err error) {
		text, unfit := format.Render(vars)
		_, err = a.stdout.Write(text)
		return unfit, err
	}
}
