package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"authsome"
	"authsome/provider"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// version is set by the linker for releases.
var version = "dev"

// app is what every command shares: the process's streams and the global flags.
type app struct {
	args           []string // the command line
	getenv         func(string) string
	stdin          io.Reader // an *input
	stdout, stderr io.Writer

	json, quiet, noColor, verbose bool
	profile, logFile              string
	server                        bool // the command runs until it is told to stop

	client  *authsome.Client
	log     *slog.Logger
	logSink io.Closer
	printed bool // a JSON value is on stdout
	ended   bool // the line of a question that was called off
	code    int  // exit code of a command that ended without an error of ours
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "authsome",
		Short: "API access for agents and scripts, without giving them the credentials",
		Long: `authsome is a local HTTPS proxy that attaches credentials on the way out.

Log in once, then run anything behind the proxy. The program you run holds
placeholders; the vault holds the secrets; only the proxy sees both.`,
		Example: `  authsome login openai
  authsome run -- python agent.py`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          exactArgs(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return a.bare(cmd) },

		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return refuseEmptyNames(cmd) },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(a.flagError)
	a.setHelp(root)
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print one JSON value on stdout")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "print no progress or hints; data is still printed")
	flags.BoolVar(&a.noColor, "no-color", false, "print no colours (also: NO_COLOR)")
	flags.BoolVar(&a.verbose, "verbose", false, "log what happens to stderr and to logs/authsome.log")
	flags.StringVar(&a.profile, "profile", "", "profile to use (also: AUTHSOME_PROFILE)")
	flags.StringVar(&a.logFile, "log-file", "", "log to this file")
	root.Flags().BoolP("version", "v", false, "print the version")
	root.AddCommand(newInit(a), newList(a), newInspect(a), newLogin(a), newLogout(a), newRevoke(a), newRemove(a), newGet(a),
		newExport(a), newRun(a), newProxy(a), newRedirect(a), newRegister(a), newWhoami(a), newDemo(a), newDemoFetch(a), newIsolateInside(a), newLog(a), newProfile(a), newConnection(a), newVault(a), newCA(a), newDoctor(a), newImport(a), newScan(a), newCompletion(a))
	a.completeAll(root)
	return root
}

// bare is the root command without a subcommand: the version, or help.
func (a *app) bare(cmd *cobra.Command) error {
	wanted, err := cmd.Flags().GetBool("version")
	if err != nil {
		return err
	}
	if !wanted {
		return a.helpOrError(cmd)
	}
	if a.json {
		return a.emit(map[string]any{"authsome_version": buildVersion()})
	}
	return a.print("authsome %s", buildVersion())
}

func buildVersion() string {
	if version != "dev" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return version
}

// open opens the home and its vault, once.
func (a *app) open(ctx context.Context) (*authsome.Client, error) {
	return a.openRun(ctx, "")
}

func (a *app) openRun(ctx context.Context, runID string) (*authsome.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	return a.openWith(ctx, a.options(runID))
}

func (a *app) openWith(ctx context.Context, o authsome.Options) (*authsome.Client, error) {
	client, err := authsome.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	a.client = client
	// The key is in the vault's hands now; no child shall inherit it.
	for _, name := range secretVariables {
		os.Unsetenv(name)
	}
	for _, w := range client.Warnings {
		if !a.goesInto(w) {
			a.warn("%v", w)
		}
	}
	return client, nil
}

// options say how the home is opened.
func (a *app) options(runID string) authsome.Options {
	return authsome.Options{Profile: a.profile, Getenv: a.getenv, Run: runID, Logger: a.logger(), Passphrase: a.askPassphrase, HTTP: a.providerClient()}
}

// now is the time that the person at the terminal reads.
func (a *app) now() time.Time { return time.Now() }

// secretVariables never reach a child.
var secretVariables = []string{"AUTHSOME_MASTER_KEY", "AUTHSOME_MASTER_KEY_FILE", "AUTHSOME_PASSPHRASE", "AUTHSOME_PASSPHRASE_FILE"}

func (a *app) close() {
	if a.client != nil {
		a.client.Close()
	}
	if a.logSink != nil {
		a.logSink.Close()
	}
}

// logger writes warnings to stderr and, with --verbose or --log-file, more. A
// server's have time and level.
func (a *app) logger() *slog.Logger {
	if a.log != nil {
		return a.log
	}
	handlers := []slog.Handler{warnings{a: a}}
	switch {
	case a.verbose:
		handlers[0] = slog.NewTextHandler(a.stderr, logOptions(slog.LevelDebug))
	case a.server:
		handlers[0] = slog.NewTextHandler(a.stderr, logOptions(slog.LevelWarn))
	}
	if path := a.logPath(); path != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			a.warn("log file: %v", err)
		} else if f, err := openLog(path); err != nil {
			a.warn("log file: %v", err)
		} else {
			a.logSink = f
			handlers = append(handlers, slog.NewJSONHandler(f, logOptions(slog.LevelDebug)))
		}
	}
	a.log = slog.New(slog.NewMultiHandler(handlers...))
	adoptLogger(a.log)
	return a.log
}

func (a *app) logPath() string {
	if a.logFile != "" {
		return a.logFile
	}
	if !a.verbose {
		return ""
	}
	home, err := authsome.DefaultHome(a.getenv)
	if err != nil {
		return ""
	}
	return filepath.Join(home, "logs", "authsome.log")
}

// say prints chatter: to stderr, and not at all with --quiet.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// warn prints a warning, on one line. --quiet does not hide it.
func (a *app) warn(format string, args ...any) {
	a.plain(a.style(yellow, "warning:") + " " + oneLine(fmt.Sprintf(format, args...)))
}

// emit prints the one JSON value of a command that was asked for JSON.
func (a *app) emit(v any) error {
	a.printed = true
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// print writes data lines to stdout.
func (a *app) print(format string, args ...any) error {
	_, err := fmt.Fprintf(a.stdout, format+"\n", args...)
	return err
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
	dim    = "2"
)

// style colours text for stderr, when that is a terminal that wants colours.
func (a *app) style(code, text string) string { return a.paint(a.stderr, code, text) }

func (a *app) paint(w io.Writer, code, text string) string {
	f, ok := w.(*os.File)
	if !ok || a.noColor || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// lookup finds a provider by name.
func (a *app) lookup(ctx context.Context, name string) (*authsome.Client, *provider.Entry, error) {
	client, err := a.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	entry, err := client.Registry.Lookup(name)
	if err != nil {
		return nil, nil, err
	}
	return client, entry, nil
}
