package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

func newLog(a *app) *cobra.Command {
	var n int
	var since, name, event string
	cmd := &cobra.Command{
		Use:     "log",
		Short:   "Print the audit log",
		Example: "  authsome log -n 20\n  authsome log --since 1h --event inject --json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter := audit.Filter{Provider: name, Event: event}
			if since != "" {
				var err error
				if filter.Since, err = parseSince(since, time.Now()); err != nil {
					return usageError(cmd, err)
				}
			}
			client, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			events, err := readAudit(client.Home.AuditPath(), filter)
			if err != nil {
				return err
			}
			if n > 0 && len(events) > n {
				events = events[len(events)-n:]
			}
			if a.json {
				return a.emit(events)
			}
			for _, e := range events {
				if err := a.print("%s", auditLine(e)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 50, "print the last N entries, 0 for all")
	cmd.Flags().StringVar(&since, "since", "", "only entries after this: 90s, 2h, 7d, or an RFC 3339 time")
	cmd.Flags().StringVar(&name, "provider", "", "only entries of this provider")
	cmd.Flags().StringVar(&event, "event", "", "only entries of this event")
	return cmd
}

func readAudit(path string, filter audit.Filter) ([]audit.Event, error) {
	events := []audit.Event{}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return events, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for e, err := range audit.Read(f, filter) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		events = append(events, e)
	}
	return events, nil
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	var days int
	if _, err := fmt.Sscanf(s, "%dd", &days); err == nil && fmt.Sprintf("%dd", days) == s {
		return now.AddDate(0, 0, -days), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("--since %q: want a duration such as 90s, 2h or 7d, or an RFC 3339 time", s)
	}
	return now.Add(-d), nil
}

func auditLine(e audit.Event) string {
	line := fmt.Sprintf("%s  %-9s  %-6s", e.Time.Format(time.RFC3339), e.Event, e.Outcome)
	if e.Provider != "" {
		line += "  " + e.Provider
		if e.Connection != "" {
			line += "/" + e.Connection
		}
	}
	if e.Host != "" {
		line += fmt.Sprintf("  %s %s://%s%s → %d", e.Method, e.Scheme, e.Host, e.Path, e.Status)
	}
	if e.Code != "" {
		line += "  " + e.Code
	}
	return line
}
