package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"authsome"
	"authsome/provider"
	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

// logFlags are the flags of log.
type logFlags struct {
	lines                 int
	since, provider, name string
	follow, allProfiles   bool
}

func newLog(a *app) *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Print the audit log",
		Long: `Print the audit log: what was attached, where, by which run, and what was
refused, in the profile. With --follow, go on until interrupted; with --json as
well, print one JSON value on each line.`,
		Example: "  authsome log -n 20\n  authsome log --since 1h --event inject --json\n  authsome log --follow --provider github",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter()
			if err != nil {
				return usageError(cmd, err)
			}
			if f.name != "" && !slices.Contains(auditEvents, f.name) {
				return misspelled(cmd, "--event "+provider.Repeat(f.name)+": there is no such event", f.name, auditEvents)
			}
			// Without the vault: what happened can be read though it does not open.
			home, err := a.home()
			if err != nil {
				return err
			}
			if !f.allProfiles {
				filter.Profile = a.profileIn(home)
				if _, err := home.Profile(filter.Profile); err != nil {
					return err
				}
			}
			events, err := a.readAudit(home.AuditPath(), filter, f.lines)
			if err != nil {
				return err
			}
			if f.follow {
				return a.followAudit(cmd.Context(), home.AuditPath(), filter, events, f.allProfiles)
			}
			if a.json {
				return a.emit(events)
			}
			if len(events) == 0 {
				a.noEntries(home, filter)
			}
			return a.printEvents(events, f.allProfiles)
		},
	}
	cmd.Flags().IntVarP(&f.lines, "lines", "n", 50, "print the last N entries, 0 for all")
	cmd.Flags().StringVar(&f.since, "since", "", "only entries after this: 90s, 2h, 7d, or an RFC 3339 time")
	cmd.Flags().StringVar(&f.provider, "provider", "", "only entries of this provider")
	cmd.Flags().StringVar(&f.name, "event", "", "only entries of this event")
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "print new entries as they come")
	cmd.Flags().BoolVar(&f.allProfiles, "all-profiles", false, "entries of every profile")
	cmd.RegisterFlagCompletionFunc("event", cobra.FixedCompletions(auditEvents, cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(newLogVerify(a))
	return cmd
}

func (f logFlags) filter() (audit.Filter, error) {
	filter := audit.Filter{Provider: f.provider, Event: f.name}
	if f.lines < 0 {
		return filter, fmt.Errorf("--lines %d: want a number of entries, or 0 for all", f.lines)
	}
	if f.since == "" {
		return filter, nil
	}
	var err error
	filter.Since, err = parseSince(f.since, time.Now())
	return filter, err
}

// readAudit returns the last n events, all of them if n is 0. A line that
// cannot be read is told and left out.
func (a *app) readAudit(path string, filter audit.Filter, n int) ([]audit.Event, error) {
	events := []audit.Event{}
	r, err := audit.OpenAll(path)
	if errors.Is(err, fs.ErrNotExist) {
		return events, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for e, err := range audit.Read(r, filter) {
		var line *audit.LineError
		if errors.As(err, &line) {
			a.warn("%s: %v", path, line)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if events = append(events, e); n > 0 && len(events) >= 2*n+1024 {
			events = append(events[:0], events[len(events)-n:]...)
		}
	}
	if n > 0 && len(events) > n {
		events = events[len(events)-n:]
	}
	return events, nil
}

// followAudit prints the events there are and those that come, until it is
// interrupted, which is how it is meant to end.
func (a *app) followAudit(ctx context.Context, path string, filter audit.Filter, events []audit.Event, all bool) error {
	print := func(e audit.Event) error { return a.print("%s", a.auditLine(e, eventCells, all)) }
	if a.json {
		a.printed = true
		enc := json.NewEncoder(a.stdout)
		enc.SetEscapeHTML(false)
		print = func(e audit.Event) error { return enc.Encode(e) }
	}
	for _, e := range events {
		if err := print(e); err != nil {
			return err
		}
	}
	for e, err := range audit.Follow(ctx, path, filter) {
		if err != nil {
			a.warn("%s: %v", path, err)
		} else if err := print(e); err != nil {
			return err
		}
	}
	return nil
}

// eventCells has room for the events of a run. Longer ones are rare.
const eventCells = 9

func (a *app) printEvents(events []audit.Event, all bool) error {
	width := eventCells
	for _, e := range events {
		width = max(width, len(e.Event))
	}
	for _, e := range events {
		if err := a.print("%s", a.auditLine(e, width, all)); err != nil {
			return err
		}
	}
	return nil
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	var days int
	if _, err := fmt.Sscanf(s, "%dd", &days); err == nil && days >= 0 && fmt.Sprintf("%dd", days) == s {
		return now.AddDate(0, 0, -days), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("--since %q: want a duration such as 90s, 2h or 7d, or an RFC 3339 time", s)
	}
	return now.Add(-d), nil
}

// auditLine words an event on one line. On a terminal it is cut to its width,
// the path first. The event takes so many cells.
func (a *app) auditLine(e audit.Event, eventCells int, profile bool) string {
	head := fmt.Sprintf("%s  %-*s  ", e.Time.Format(time.RFC3339), eventCells, printable(e.Event))
	rest := auditRest(e, profile)
	if columns := columnsOf(a.stdout); columns > 0 {
		room := max(1, columns-cells(head+e.Outcome))
		if over := cells(rest) - room; over > 0 {
			e.Path = cut(e.Path, max(1, cells(e.Path)-over))
			rest = cut(auditRest(e, profile), room)
		}
	}
	outcome := printable(e.Outcome)
	if outcome != audit.OK {
		outcome = a.paint(a.stdout, red, outcome)
	}
	return head + outcome + rest
}

// auditRest is what comes after time, event and outcome. What is in it may have
// been chosen by a client of the proxy.
func auditRest(e audit.Event, profile bool) string {
	var b strings.Builder
	if e.Provider != "" {
		b.WriteString(gap + e.Provider)
		if e.Connection != "" {
			b.WriteString("/" + e.Connection)
		}
	}
	if e.Host != "" {
		fmt.Fprintf(&b, "  %s %s://%s%s → %d", e.Method, e.Scheme, e.Host, e.Path, e.Status)
	}
	if e.Code != "" {
		b.WriteString(gap + e.Code)
	}
	if e.Detail != "" {
		b.WriteString(gap + e.Detail)
	}
	if e.ExitCode != nil {
		fmt.Fprintf(&b, "  exit %d", *e.ExitCode)
	}
	if e.Actor.Run != "" {
		b.WriteString("  run=" + e.Actor.Run)
	}
	if profile && e.Profile != "" {
		b.WriteString("  profile=" + e.Profile)
	}
	return printable(b.String())
}

// noEntries says that nothing was found, and why that may be.
func (a *app) noEntries(home *authsome.Home, filter audit.Filter) {
	var unknown *provider.NotFoundError
	registry, _ := provider.Load(home.ProvidersDir()) // doctor says which definitions are bad
	if _, err := registry.Lookup(filter.Provider); filter.Provider != "" && errors.As(err, &unknown) {
		a.say("No entries, and %v (%s).", err, unknown.Hint())
		return
	}
	a.say("No entries of this kind in profile %s.", orElse(filter.Profile, "any"))
}

// auditEvents are all that are recorded; docs/audit.md says what they mean.
var auditEvents = []string{"init", "login", "login.client", "logout", "revoke", "remove", "connection.default", "connection.rename",
	"get", "export", "register", "run.start", "run.end", "inject", "refuse", "refresh.start", "refresh", "rekey",
	"vault.backup", "vault.restore", "profile.create", "profile.delete", "ca.install", "ca.uninstall", "ca.rotate", "ca.renew", "doctor", "log.cut", "log.resume", "log.rotate"}
