package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"authsome/provider"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// counted is a number of things: "1 connection", "2 connections".
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

func usageError(cmd *cobra.Command, err error) error {
	return &fault{code: "Usage", exit: exitUsage, msg: err.Error(), hint: "run: " + cmd.CommandPath() + " --help", err: err}
}

// nameOf is what a command is called without the program: "profile create".
func nameOf(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// misspelled is a usage error whose hint offers what is spelled like a word.
func misspelled(cmd *cobra.Command, msg, word string, known []string) error {
	return offering(cmd, msg, provider.Suggest(word, known))
}

// offering is a usage error whose hint offers what may have been meant.
func offering(cmd *cobra.Command, msg string, meant []string) error {
	f := &fault{code: "Usage", exit: exitUsage, msg: msg, hint: "run: " + cmd.CommandPath() + " --help"}
	if len(meant) > 0 {
		f.hint = "did you mean " + strings.Join(meant, ", ") + "? " + f.hint
	}
	return f
}

// flagError words what is wrong with a flag.
func (a *app) flagError(cmd *cobra.Command, err error) error {
	// Flags are parsed up to the mistake, and --json may come after it.
	a.json = a.json || wantsJSON(cmd, a.args)
	// A command that does not exist comes first: its flags are unknown because
	// it is.
	if words := cmd.Flags().Args(); len(words) > 0 && (isGroup(cmd) || !cmd.HasParent()) {
		return unknownCommand(cmd, words[0])
	}
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() == "":
		name := "--" + unknown.GetSpecifiedName()
		shown := name
		if provider.MayBeSecret(name) {
			shown = provider.Repeat(name)
		}
		return misspelled(cmd, fmt.Sprintf("%s: unknown flag %s", nameOf(cmd), shown), name, flagNames(cmd))
	case errors.As(err, &unknown): // of several letters, the first that is none
		err = fmt.Errorf("%s: unknown flag -%s", nameOf(cmd), unknown.GetSpecifiedName())
	case errors.As(err, &invalid):
		err = fmt.Errorf("%s: --%s %s: want %s", nameOf(cmd), invalid.GetFlag().Name, provider.Repeat(invalid.GetValue()), wanted(invalid.GetFlag()))
	case errors.As(err, &missing):
		err = fmt.Errorf("%s: --%s needs a value", nameOf(cmd), missing.GetFlag().Name)
	default:
		err = fmt.Errorf("%s: %w", nameOf(cmd), err)
	}
	return usageError(cmd, err)
}

// wantsJSON looks for --json among our own arguments. Those of run end at the
// first word.
func wantsJSON(cmd *cobra.Command, args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	if cmd.Name() == "run" {
		end := slices.Index(args, "run") + 1
		for end < len(args) && strings.HasPrefix(args[end], "-") {
			end++
		}
		args = args[:end]
	}
	return slices.Contains(args, "--json")
}

// refuseEmptyNames refuses --connection and --profile with an empty name. It is
// what a script passes whose variable is not set, and to take it for the default
// would log out of, or revoke, what was not meant.
func refuseEmptyNames(cmd *cobra.Command) error {
	for _, name := range []string{"connection", "profile"} {
		flag := cmd.Flags().Lookup(name)
		if flag != nil && flag.Changed && flag.Value.Type() == "string" && flag.Value.String() == "" {
			return &fault{code: "InvalidName", exit: exitUsage, msg: fmt.Sprintf("%s: --%s is empty", nameOf(cmd), name), hint: "give a name, or leave the flag out for the default one"}
		}
	}
	return nil
}

// wanted says what a flag takes.
func wanted(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "uint16":
		return "a number from 0 to 65535"
	}
	return "a whole number"
}

func flagNames(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { // by now with those of the parents
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

func unknownCommand(cmd *cobra.Command, word string) error {
	called := word
	if cmd.HasParent() {
		called = nameOf(cmd) + " " + word
	}
	return offering(cmd, "unknown command "+provider.Repeat(called), meant(cmd, word))
}

func subcommands(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// exactArgs is cobra.ExactArgs with an error that names what is missing.
func exactArgs(names ...string) cobra.PositionalArgs { return numberOfArgs(len(names), names) }

// secretlessArgs is exactArgs for a command that somebody may hand a secret: one
// argument too many is not repeated.
func secretlessArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return &fault{code: "Usage", exit: exitUsage, msg: nameOf(cmd) + ": an argument too many; a secret is never one, since every user can read it there",
				hint: "give a secret with --secret-file, which takes - for stdin"}
		}
		return exactArgs(names...)(cmd, args)
	}
}

// atMostArgs is exactArgs with arguments that may be left away.
func atMostArgs(names ...string) cobra.PositionalArgs { return numberOfArgs(0, names) }

func numberOfArgs(least int, names []string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError(cmd, fmt.Errorf("%s: missing argument %s", nameOf(cmd), names[len(args)]))
		case len(args) > len(names) && len(names) == 0 && cmd.HasSubCommands():
			return unknownCommand(cmd, args[0])
		case len(args) > len(names):
			return usageError(cmd, fmt.Errorf("%s: unexpected argument %s", nameOf(cmd), provider.Repeat(args[len(names)])))
		}
		return nil
	}
}

// group makes cmd one that only holds others. Alone it prints its help; a word
// that is none of them is an error, which cobra would answer with the help and
// exit code 0.
func (a *app) group(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{groupAnnotation: "true"}
	cmd.Args = exactArgs()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.helpOrError(cmd) }
	cmd.SetUsageTemplate(strings.Replace(cmd.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	return cmd
}

const groupAnnotation = "group"

func isGroup(cmd *cobra.Command) bool { return cmd.Annotations[groupAnnotation] != "" }

// helpOrError answers a command that does nothing by itself: a person gets help,
// and a program that wants JSON an error.
func (a *app) helpOrError(cmd *cobra.Command) error {
	if a.json {
		return usageError(cmd, fmt.Errorf("%s: what command?", nameOf(cmd)))
	}
	return cmd.Help()
}

// setHelp has help be one JSON value too, and an unknown topic an error.
func (a *app) setHelp(root *cobra.Command) {
	print := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if !a.json {
			print(cmd, args)
			return
		}
		a.emit(map[string]string{"command": cmd.CommandPath(), "help": strings.TrimSpace(orElse(cmd.Long, cmd.Short) + "\n\n" + cmd.UsageString())})
	})
	root.SetHelpCommand(&cobra.Command{
		Use:     "help [COMMAND]...",
		Short:   "Explain a command",
		Example: "  authsome help run\n  authsome help profile create",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd := root
			for _, word := range args {
				next := child(cmd, word)
				if next == nil {
					return unknownCommand(cmd, word)
				}
				cmd = next
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			cmd := root
			for _, word := range args {
				if cmd = child(cmd, word); cmd == nil {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
			}
			var names []string
			for _, c := range cmd.Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name()+"\t"+c.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	})
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}
