package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"authsome"
	"authsome/flows/environ"
	"authsome/flows/imports"
	"authsome/provider"
	"authsome/vault/regular"

	"github.com/spf13/cobra"
)

func newScan(a *app) *cobra.Command {
	var skipIgnored bool
	cmd := &cobra.Command{
		Use:   "scan [DIR]",
		Short: "Find secrets of known providers that lie in env files",
		Long: `Find secrets of known providers that lie in env files (.env, .env.*, *.env,
.envrc) below a directory, by the names of variables and the shapes of keys. The
secrets themselves are never shown. The exit code is 1 when there are any.

Where there is a Git repository, the list says whether a file is tracked, which
is the worst, or ignored. .git and node_modules are not looked into, and links
are not followed.`,
		Example: "  authsome scan\n  authsome scan ~/src --skip-ignored\n  authsome scan --json",
		Args:    atMostArgs("DIR"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return a.scan(cmd.Context(), dir, skipIgnored)
		},
	}
	cmd.Flags().BoolVar(&skipIgnored, "skip-ignored", false, "leave out files that Git ignores")
	return cmd
}

// finding is an entry of scan --json.
type finding struct {
	File      string       `json:"file"`
	Line      int          `json:"line"`
	Variable  string       `json:"variable"`
	Provider  string       `json:"provider"`
	Kind      imports.Kind `json:"kind"`
	MatchedBy string       `json:"matched_by"`
	Git       string       `json:"git,omitempty"` // tracked, ignored or untracked
}

func (a *app) scan(ctx context.Context, dir string, skipIgnored bool) error {
	// No vault is needed to look at files, and none is made.
	home, err := authsome.DefaultHome(a.getenv)
	if err != nil {
		return err
	}
	registry, warnings := provider.Load(filepath.Join(home, "providers"))
	for _, w := range warnings {
		a.warn("%v", w)
	}
	files, err := a.envFiles(ctx, dir)
	if err != nil {
		return err
	}
	git := newGitStates(ctx)
	index := imports.NewIndex(registry.All())
	all := []finding{}
	for _, file := range files {
		found := a.scanFile(index, file)
		if len(found) == 0 {
			continue
		}
		state := git.of(file)
		if skipIgnored && state == gitIgnored {
			continue
		}
		for _, f := range found {
			f.Git = state
			all = append(all, f)
		}
	}
	return a.printScan(dir, len(files), all)
}

func (a *app) printScan(dir string, files int, all []finding) error {
	if a.json {
		if err := a.emit(map[string]any{"directory": dir, "files": files, "findings": all}); err != nil {
			return err
		}
	} else if len(all) > 0 {
		rows := [][]string{{"FILE", "LINE", "VARIABLE", "PROVIDER", "KIND", "GIT"}}
		for _, f := range all {
			rows = append(rows, []string{f.File, fmt.Sprint(f.Line), f.Variable, f.Provider, string(f.Kind), orElse(f.Git, "-")})
		}
		if err := a.table(rows, "KIND", "LINE"); err != nil {
			return err
		}
	}
	below := "below " + dir
	if dir == "." {
		below = "here and below"
	}
	if len(all) == 0 {
		a.say("No secret of a known provider in %s %s.", counted(files, "env file"), below)
		return nil
	}
	first, count := all[0].File, fmt.Sprintf("%d secrets lie", len(all))
	if len(all) == 1 {
		count = "a secret lies"
	}
	return &fault{code: "SecretsFound", exit: exitOther, msg: count + " in env files " + below,
		hint: "run: authsome import " + shellWord(first) + ", then remove them from the file; replace those that were ever committed"}
}

func shellWord(s string) string {
	if environ.Bare(s) {
		return s
	}
	return environ.Quote(printable(s))
}

// envFileBytes is more than any env file is.
const envFileBytes = 1 << 20

// envFiles lists the env files below a directory.
func (a *app) envFiles(ctx context.Context, dir string) ([]string, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, &fault{code: "Usage", exit: exitUsage, msg: fmt.Sprintf("scan %s: %v", dir, bareCause(err)), hint: "give a directory that can be read", err: err}
	}
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			a.warn("not looked into: %v", err)
			return nil
		case d.IsDir() && path != dir && (d.Name() == ".git" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.Type().IsRegular() && (isEnvFile(d.Name()) || path == dir):
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

func isEnvFile(name string) bool {
	return name == ".env" || name == ".envrc" || strings.HasPrefix(name, ".env.") || strings.HasSuffix(name, ".env")
}

func (a *app) scanFile(index *imports.Index, file string) []finding {
	b, err := readEnvFile(file)
	if err != nil {
		a.warn("not looked into: %s: %v", printable(file), bareCause(err))
		return nil
	}
	var found []finding
	for _, v := range imports.ParseEnv(b) {
		if m, ok := index.Match(v); ok {
			found = append(found, finding{File: file, Line: v.Line, Variable: v.Name, Provider: m.Provider, Kind: m.Kind, MatchedBy: m.By})
		}
	}
	return found
}

func readEnvFile(file string) ([]byte, error) {
	f, err := regular.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, envFileBytes+1))
	if err == nil && len(b) > envFileBytes {
		err = errors.New("it is larger than 1 MiB")
	}
	return b, err
}

// What Git has to do with a file.
const (
	gitTracked   = "tracked"
	gitIgnored   = "ignored"
	gitUntracked = "untracked"
)

// gitStates asks Git about files. Without Git, or outside a repository, it knows
// nothing.
type gitStates struct {
	ctx  context.Context
	path string
}

func newGitStates(ctx context.Context) *gitStates {
	path, err := exec.LookPath("git")
	if err != nil {
		return &gitStates{}
	}
	return &gitStates{ctx, path}
}

// gitPatience bounds one question.
const gitPatience = 10 * time.Second

func (g *gitStates) of(file string) string {
	if g.path == "" {
		return ""
	}
	switch {
	case g.ask(file, "ls-files", "--error-unmatch"):
		return gitTracked
	case g.ask(file, "check-ignore", "-q"):
		return gitIgnored
	case g.ask(file, "rev-parse", "--is-inside-work-tree"):
		return gitUntracked
	}
	return ""
}

// ask runs a command that answers with its exit code. The repository may be
// anybody's: it gets to run no program.
func (g *gitStates) ask(file string, command ...string) bool {
	ctx, cancel := context.WithTimeout(g.ctx, gitPatience)
	defer cancel()
	dir, name := filepath.Split(file)
	args := []string{"-C", orElse(dir, "."), "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"}
	args = append(args, command...)
	if command[0] != "rev-parse" {
		args = append(args, "--", name)
	}
	return exec.CommandContext(ctx, g.path, args...).Run() == nil
}
