package injector

import (
	"fmt"
	"net/url"
	"slices"

	"authsome/provider"
)

// Connection is what the route table needs to know of a stored connection. The
// hosts come from its record, where the login pinned them, and not from the
// definition, which may have changed since.
type Connection struct {
	Name     string
	BaseURL  string   // chosen at login; "" is the definition's
	HostURL  []string // pinned host_url entries, {base_url} substituted
	TokenURL string   // pinned token endpoint, "" when there is none
}

// Compile returns the routes of one connection: one for each pinned host, and
// one for each endpoint of the provider's own, which is never injected.
func Compile(def *provider.Definition, c Connection) ([]*Route, error) {
	resolved, err := def.Resolve(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", def.Name, err)
	}
	injects := resolved.Injects()
	var routes []*Route
	for _, host := range c.HostURL {
		pattern, err := provider.ParseHostURL(host)
		if err != nil {
			return nil, fmt.Errorf("connection %s/%s: host_url %q: %w", def.Name, c.Name, host, err)
		}
		routes = append(routes, &Route{Provider: def.Name, Connection: c.Name, Pattern: pattern,
			Injects: forHost(injects, host), Headers: resolved.Headers, Refreshable: def.AuthType == provider.AuthOAuth2})
	}
	for _, endpoint := range append(resolved.OwnEndpoints(), c.TokenURL) {
		r, err := never(def.Name, endpoint)
		if err != nil {
			return nil, fmt.Errorf("connection %s/%s: endpoint %q: %w", def.Name, c.Name, endpoint, err)
		}
		if r != nil {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

// forHost chooses the injects of one host: those that name it, or else those
// that name none.
func forHost(injects []provider.Inject, host string) []provider.Inject {
	var general, special []provider.Inject
	for _, in := range injects {
		switch {
		case len(in.HostURL) == 0:
			general = append(general, in)
		case slices.Contains(in.HostURL, host):
			special = append(special, in)
		}
	}
	if len(special) > 0 {
		return special
	}
	return general
}

// never returns the route of an endpoint that must not be given a credential,
// nil for one that could not get one anyway. An endpoint that no pattern can
// describe is an error: it would go unprotected.
func never(name, endpoint string) (*Route, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" {
		return nil, nil
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.User = "", false, "", nil
	pattern, err := provider.ParseHostURL(u.String())
	if err != nil {
		return nil, err
	}
	return &Route{Provider: name, Pattern: pattern, Never: true}, nil
}
