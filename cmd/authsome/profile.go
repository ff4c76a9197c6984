package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"authsome"
	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

func newProfile(a *app) *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use:   "profile",
		Short: "Keep separate sets of connections",
		Long: `A profile is a vault of its own: nothing of one profile is visible from
another. Choose one with --profile or AUTHSOME_PROFILE, or for good with use.`,
		Example: "  authsome profile create work\n  authsome --profile work login github\n  authsome profile use work",
	})
	var description string
	create := &cobra.Command{Use: "create NAME", Short: "Create a profile", Args: exactArgs("NAME"), Example: "  authsome profile create work --description 'the day job'",
		RunE: func(_ *cobra.Command, args []string) error { return a.createProfile(args[0], description) }}
	create.Flags().StringVar(&description, "description", "", "what the profile is for")
	var yes bool
	remove := &cobra.Command{Use: "delete NAME", Short: "Delete a profile and all its connections", Args: exactArgs("NAME"), Example: "  authsome profile delete old --yes",
		Long: "Delete a profile and all its connections, after asking. Nobody is told: what was\nissued stays valid at the providers.",
		RunE: func(_ *cobra.Command, args []string) error { return a.deleteProfile(args[0], yes) }}
	remove.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask; needed with --json, and where nobody can answer")
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List profiles", Args: exactArgs(), Example: "  authsome profile list",
			RunE: func(*cobra.Command, []string) error { return a.listProfiles() }},
		create,
		&cobra.Command{Use: "use NAME", Short: "Make a profile the default one", Args: exactArgs("NAME"), Example: "  authsome profile use work",
			RunE: func(_ *cobra.Command, args []string) error { return a.useProfile(args[0]) }},
		remove)
	return cmd
}

// home opens the home without its vault.
func (a *app) home() (*authsome.Home, error) {
	dir, err := authsome.DefaultHome(a.getenv)
	if err != nil {
		return nil, err
	}
	home, _, err := authsome.OpenHome(dir)
	return home, err
}

// profileIn is the name of the profile in use.
func (a *app) profileIn(home *authsome.Home) string {
	return orElse(a.profile, orElse(a.getenv("AUTHSOME_PROFILE"), home.Config.DefaultProfile))
}

func (a *app) listProfiles() error {
	home, err := a.home()
	if err != nil {
		return err
	}
	names, err := home.Profiles()
	if err != nil {
		return err
	}
	active := a.profileIn(home)
	type listed struct {
		authsome.ProfileInfo
		Active bool `json:"active"`
	}
	all := []listed{}
	rows := [][]string{{"PROFILE", "ACTIVE", "DESCRIPTION"}}
	for _, name := range names {
		info, err := home.Profile(name)
		if err != nil {
			return err
		}
		all = append(all, listed{info, name == active})
		mark := ""
		if name == active {
			mark = "*"
		}
		rows = append(rows, []string{name, mark, info.Description})
	}
	if !slices.Contains(names, active) {
		a.warn("profile %s, which is chosen, does not exist (run: authsome profile create %s)", active, active)
	}
	if a.json {
		return a.emit(map[string]any{"active": active, "profiles": all})
	}
	return a.table(rows)
}

func (a *app) createProfile(name, description string) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	if err := home.CreateProfile(name, description); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &fault{code: "ProfileExists", exit: exitOther, msg: "profile " + name + " exists already", hint: "run: authsome profile use " + name, err: err}
		}
		return err
	}
	if err := record(home, audit.Event{Event: "profile.create", Profile: name}); err != nil {
		return errors.Join(err, home.DeleteProfile(name))
	}
	return a.profileDone("success", name, "Created profile %s. Next: authsome --profile "+name+" login PROVIDER")
}

func (a *app) useProfile(name string) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	if _, err := home.Profile(name); err != nil {
		return err
	}
	home.Config.DefaultProfile = name
	if err := home.SaveConfig(); err != nil {
		return err
	}
	return a.profileDone("success", name, "Profile %s is the default now.")
}

func (a *app) deleteProfile(name string, yes bool) error {
	home, err := a.home()
	if err != nil {
		return err
	}
	if _, err := home.Profile(name); err != nil {
		return err
	}
	if name == home.Config.DefaultProfile {
		return &fault{code: "ProfileInUse", exit: exitOther, msg: "profile " + name + " is the default one", hint: "run: authsome profile use OTHER"}
	}
	if !yes {
		if err := a.sure(fmt.Sprintf("Delete profile %s and all its connections?", name), "not deleted"); err != nil {
			return err
		}
	}
	if err := record(home, audit.Event{Event: "profile.delete", Profile: name}); err != nil {
		return err
	}
	if err := home.DeleteProfile(name); err != nil {
		return err
	}
	return a.profileDone("success", name, "Deleted profile %s.")
}

// record writes one event of a home whose vault is not open.
func record(home *authsome.Home, e audit.Event) error {
	log, err := audit.Open(home.AuditPath(), audit.Config{})
	if err != nil {
		return err
	}
	return errors.Join(log.Write(e), log.Close())
}

func (a *app) profileDone(status, name, format string) error {
	if a.json {
		return a.emit(map[string]any{"status": status, "profile": name})
	}
	a.say(format, name)
	return nil
}
