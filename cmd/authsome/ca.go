package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"authsome/ca"
	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

func newCA(a *app) *cobra.Command {
	var dir string
	cmd := a.group(&cobra.Command{
		Use:   "ca",
		Short: "Look after a kept certificate authority",
		Long: `authsome run makes an authority in memory that dies with it. A proxy that is
started with --ca-dir keeps its own, and these commands are for that one. It may
only speak for the hosts of known providers.`,
		Example: "  authsome ca export --ca-dir /srv/authsome-ca > root.pem\n  authsome ca bundle > bundle.pem",
	})
	cmd.PersistentFlags().StringVar(&dir, "ca-dir", "", "directory of the authority (default: ca in the authsome home)")
	var show bool
	system := func(use, short string, steps func(ctx context.Context) ([]ca.Step, error)) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Args: exactArgs(), Example: "  sudo authsome ca " + use + "\n  authsome ca " + use + " --dry-run",
			RunE: func(cmd *cobra.Command, _ []string) error {
				todo, err := steps(cmd.Context())
				if err != nil {
					return err
				}
				return a.applySteps(cmd.Context(), use, todo, show)
			}}
		c.Flags().BoolVar(&show, "dry-run", false, "print what would be done")
		return c
	}
	cmd.AddCommand(
		&cobra.Command{Use: "export", Short: "Print the root certificate", Args: exactArgs(), Example: "  authsome ca export > root.pem",
			RunE: func(cmd *cobra.Command, _ []string) error {
				authority, err := a.keptAuthority(cmd.Context(), dir)
				if err != nil {
					return err
				}
				return a.printPEM("root", authority.RootPEM())
			}},
		&cobra.Command{Use: "bundle", Short: "Print the root with the system's roots", Args: exactArgs(), Example: "  authsome ca bundle > bundle.pem",
			RunE: func(cmd *cobra.Command, _ []string) error {
				authority, err := a.keptAuthority(cmd.Context(), dir)
				if err != nil {
					return err
				}
				bundle, warnings, err := ca.Bundle(authority.RootPEM(), a.getenv)
				if err != nil {
					return err
				}
				for _, w := range warnings {
					a.warn("%s", w)
				}
				return a.printPEM("bundle", bundle)
			}},
		system("install", "Have this system trust the root", func(ctx context.Context) ([]ca.Step, error) {
			authority, err := a.keptAuthority(ctx, dir)
			if err != nil {
				return nil, err
			}
			return ca.InstallSteps(authority.RootPEM(), a.caDir(dir))
		}),
		system("uninstall", "Have this system forget the root", func(ctx context.Context) ([]ca.Step, error) {
			if _, err := a.open(ctx); err != nil { // the directory may be the home's
				return nil, err
			}
			return ca.UninstallSteps(a.caDir(dir))
		}),
		newCARotate(a, &dir))
	return cmd
}

func newCARotate(a *app, dir *string) *cobra.Command {
	var distrust bool
	cmd := &cobra.Command{Use: "rotate", Short: "Replace the root", Args: exactArgs(), Example: "  authsome ca rotate",
		Long: "Replace the root by a new one. The old one stays in the bundle until it ends, unless\n--distrust says that its key may be known to somebody.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			authority, err := a.keptAuthority(cmd.Context(), *dir)
			if err != nil {
				return err
			}
			if err := a.client.Audit.Write(audit.Event{Event: "ca.rotate", Outcome: audit.OK}); err != nil {
				return err
			}
			if err := authority.Rotate(cmd.Context(), distrust); err != nil {
				return err
			}
			if a.json {
				return a.emit(map[string]any{"status": "success", "not_after": authority.NotAfter()})
			}
			a.say("There is a new root. Hand out the bundle again: authsome ca bundle")
			// A store that cannot be looked at has nothing of ours that we could name.
			if installed, _ := ca.UninstallSteps(a.caDir(*dir)); len(installed) > 0 && distrust {
				a.say("This system trusts the old root still: sudo authsome ca uninstall, then sudo authsome ca install")
			} else if len(installed) > 0 {
				a.say("This system does not trust the new root yet: sudo authsome ca install")
			}
			return nil
		}}
	cmd.Flags().BoolVar(&distrust, "distrust", false, "take the old root out of the bundle at once")
	return cmd
}

func (a *app) caDir(dir string) string {
	if dir != "" || a.client == nil {
		return dir
	}
	return filepath.Join(a.client.Home.Dir, "ca")
}

// keptAuthority opens the authority of a directory, making it if need be. It says
// so then: whoever mistyped the directory of a proxy has the root of none.
func (a *app) keptAuthority(ctx context.Context, dir string) (*ca.Authority, error) {
	client, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	path := a.caDir(dir)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	before, _ := os.ReadDir(path) // what cannot be listed fails to load
	dns, ips := client.Registry.PermittedDNS()
	authority, err := ca.Load(ctx, path, ca.Config{PermittedDNS: dns, PermittedIPs: ips, Logger: a.logger()})
	if err == nil && len(before) == 0 {
		a.say("There was no authority in %s: made a new one.", path)
	}
	return authority, err
}

func (a *app) printPEM(name string, pem []byte) error {
	if a.json {
		return a.emit(map[string]string{name: string(pem)})
	}
	_, err := a.stdout.Write(pem)
	return err
}

func (a *app) applySteps(ctx context.Context, what string, steps []ca.Step, show bool) error {
	lines := []string{}
	for _, s := range steps {
		lines = append(lines, s.String())
	}
	if !show {
		client, err := a.open(ctx)
		if err != nil {
			return err
		}
		if err := client.Audit.Write(audit.Event{Event: "ca." + what, Outcome: audit.OK}); err != nil {
			return err
		}
		if err := ca.Apply(ctx, steps); err != nil {
			err = errors.Join(err, client.Audit.Write(audit.Event{Event: "ca." + what, Outcome: audit.Failed}))
			return &fault{code: "TrustStore", exit: exitOther, msg: err.Error(), hint: "most systems want an administrator: sudo authsome ca " + what, err: err}
		}
	}
	if a.json {
		return a.emit(map[string]any{"status": "success", "steps": lines, "dry_run": show})
	}
	for _, l := range lines {
		if err := a.print("%s", l); err != nil {
			return err
		}
	}
	return nil
}
