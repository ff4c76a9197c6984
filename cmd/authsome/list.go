package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"authsome"
	"authsome/flows"
	"authsome/provider"

	"github.com/spf13/cobra"
)

// listedProvider is an entry of list --json.
type listedProvider struct {
	Name        string             `json:"name"`
	DisplayName string             `json:"display_name"`
	AuthType    provider.AuthType  `json:"auth_type"`
	Source      string             `json:"source"`
	State       string             `json:"state"`
	Connections []listedConnection `json:"connections"`
}

type listedConnection struct {
	Name      string            `json:"connection_name"`
	AuthType  provider.AuthType `json:"auth_type"`
	Status    flows.Status      `json:"status"`
	Scopes    []string          `json:"scopes,omitempty"`
	ExpiresAt *time.Time        `json:"expires_at,omitempty"`

	// Of the refreshes since the last login. Hint says what to do, when there
	// is anything to do.
	LastRefresh *time.Time `json:"last_refresh,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	Hint        string     `json:"hint,omitempty"`
}

func newList(a *app) *cobra.Command {
	var connected, available bool
	var search string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List providers and connections",
		Example: "  authsome list\n  authsome list --connected --json\n  authsome list --available --search mail",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if connected && available {
				return usageError(cmd, errors.New("--connected and --available: choose one"))
			}
			client, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			all, damaged := listProviders(cmd.Context(), client)
			if all == nil {
				return damaged
			}
			if connected {
				all = keep(all, func(p listedProvider) bool { return p.State == "connected" })
			}
			if available {
				all = keep(all, func(p listedProvider) bool { return p.State != "connected" })
			}
			all = keep(all, matching(client, search))
			if a.json {
				err = a.emit(map[string]any{"profile": client.Profile,
					"bundled": keep(all, func(p listedProvider) bool { return p.Source == "bundled" }),
					"custom":  keep(all, func(p listedProvider) bool { return p.Source == "custom" })})
			} else {
				err = a.printProviders(all, time.Now())
				switch {
				case len(all) > 0:
				case search != "":
					a.say("No provider has %q in a name, a host or a variable. Next: authsome list, or authsome register FILE to add one", search)
				case connected:
					a.say("Nothing is connected. Next: authsome login PROVIDER")
				}
			}
			return orError(err, damaged)
		},
	}
	cmd.Flags().BoolVar(&connected, "connected", false, "only providers with a connection")
	cmd.Flags().BoolVar(&available, "available", false, "only providers without a connection")
	cmd.Flags().StringVar(&search, "search", "", "only providers with all these words in a name, a host or a variable")
	return cmd
}

// matching looks for words in what a person may know of a provider.
func matching(client *authsome.Client, search string) func(listedProvider) bool {
	words := strings.Fields(strings.ToLower(search))
	return func(p listedProvider) bool {
		e, err := client.Registry.Lookup(p.Name)
		if err != nil {
			return false
		}
		known := []string{e.Name, e.DisplayName, e.Client.ClientIDEnv}
		for _, h := range e.HostURL {
			if u, err := url.Parse(h); err == nil && u.Host != "" { // a path says little of whose it is
				h = u.Host
			}
			known = append(known, h)
		}
		if e.APIKey != nil {
			known = append(known, e.APIKey.EnvVar)
		}
		for _, variable := range e.Export.Env {
			known = append(known, variable)
		}
		text := strings.ToLower(strings.Join(known, "\n"))
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
	}
}

func keep(in []listedProvider, want func(listedProvider) bool) []listedProvider {
	out := []listedProvider{}
	for _, p := range in {
		if want(p) {
			out = append(out, p)
		}
	}
	return out
}

// listProviders returns what can be listed. damaged names the records that
// cannot be read; without any list it says why there is none.
func listProviders(ctx context.Context, client *authsome.Client) (all []listedProvider, damaged error) {
	held, damaged := client.Broker.List(ctx)
	if held == nil {
		return nil, damaged
	}
	for _, e := range client.Registry.All() {
		all = append(all, listed(e, held[e.Name]))
	}
	return all, damaged
}

// orError is err, or else what is to be said at the end though the command did
// its work.
func orError(err, afterwards error) error {
	if err != nil {
		return err
	}
	return afterwards
}

func listed(e *provider.Entry, held *flows.Listing) listedProvider {
	p := listedProvider{Name: e.Name, DisplayName: e.DisplayName, AuthType: e.AuthType, Source: e.Source,
		State: "available", Connections: []listedConnection{}}
	if held == nil {
		return p
	}
	if held.Configured {
		p.State = "configured"
	}
	for _, c := range held.Connections {
		p.State = "connected"
		p.Connections = append(p.Connections, listedOf(held, c, time.Now()))
	}
	sort.Slice(p.Connections, func(i, j int) bool { return p.Connections[i].Name < p.Connections[j].Name })
	return p
}

func listedOf(held *flows.Listing, c *flows.Connection, now time.Time) listedConnection {
	st := held.States[c.Name]
	stamp := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return listedConnection{Name: c.Name, AuthType: c.AuthType, Status: c.EffectiveStatus(now), Scopes: c.Scopes,
		ExpiresAt: stamp(c.ExpiresAt), LastRefresh: stamp(st.LastRefresh), LastError: st.LastError, LastErrorAt: stamp(st.LastErrorAt),
		Hint: held.Advice(c, now)}
}

// notes tells, below the table, what went wrong with connections and what to do.
func notes(all []listedProvider, now time.Time) (lines []string) {
	for _, p := range all {
		for _, c := range p.Connections {
			what := ""
			switch {
			case c.LastError != "":
				what = "last refresh failed " + brief(now.Sub(*c.LastErrorAt)) + " ago: " + c.LastError
			case c.Hint != "":
				what = string(c.Status)
			default:
				continue
			}
			lines = append(lines, fmt.Sprintf("%s/%s: %s", p.Name, c.Name, what))
			if c.Hint != "" {
				lines = append(lines, "  "+c.Hint)
			}
		}
	}
	return lines
}

func (a *app) printProviders(all []listedProvider, now time.Time) error {
	connected := len(keep(all, func(p listedProvider) bool { return p.State == "connected" }))
	rows := [][]string{{"PROVIDER", "SOURCE", "AUTH", "CONNECTION", "STATUS", "EXPIRES"}}
	// What one has comes before what one could have.
	sort.SliceStable(all, func(i, j int) bool { return len(all[i].Connections) > 0 && len(all[j].Connections) == 0 })
	for _, p := range all {
		name := fmt.Sprintf("%s [%s]", p.DisplayName, p.Name)
		if len(p.Connections) == 0 {
			rows = append(rows, []string{name, p.Source, string(p.AuthType), "-", p.State, "-"})
		}
		for _, c := range p.Connections {
			rows = append(rows, []string{name, p.Source, string(p.AuthType), c.Name, string(c.Status), age(c.ExpiresAt, c.LastRefresh, now)})
		}
	}
	if len(all) == 0 {
		return a.print("Providers: 0 total, 0 connected")
	}
	if err := a.print("Providers: %d total, %d connected\n", len(all), connected); err != nil {
		return err
	}
	if err := a.table(rows, "SOURCE", "AUTH"); err != nil {
		return err
	}
	for i, line := range notes(all, now) {
		if i == 0 {
			line = "\n" + line
		}
		if err := a.print("%s", line); err != nil {
			return err
		}
	}
	return nil
}

// age words when a credential ends and when it was last refreshed; nil is never.
func age(expires, refreshed *time.Time, now time.Time) string {
	text := expiry(expires, now)
	switch {
	case refreshed == nil:
		return text
	case expires == nil:
		text = "never"
	}
	return text + ", refreshed " + brief(max(now.Sub(*refreshed), 0)) + " ago"
}

// expiry words a time as "expires in 24h" or "expired 50s ago".
func expiry(at *time.Time, now time.Time) string {
	if at == nil {
		return "-"
	}
	if d := at.Sub(now); d > 0 {
		return "expires in " + brief(d)
	}
	return "expired " + brief(now.Sub(*at)) + " ago"
}

// brief words a duration by its largest unit.
func brief(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
