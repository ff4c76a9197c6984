package authsome

import (
	"context"
	"sort"
	"time"

	"authsome/flows"
	"authsome/provider"
)

// The states of a provider in a profile.
const (
	Available  = "available"  // known
	Configured = "configured" // its OAuth client is stored
	Connected  = "connected"  // it has a connection, whatever its status
)

// ProviderInfo is a provider and what the profile has of it.
type ProviderInfo struct {
	Name        string
	DisplayName string
	AuthType    provider.AuthType
	Source      string // "bundled" or "custom"
	State       string // Available, Configured or Connected
	Connections []ConnectionInfo
}

// ConnectionInfo is a connection without its secrets.
type ConnectionInfo struct {
	Name      string
	Default   bool
	Status    flows.Status // now: a credential whose time has come is expired
	BaseURL   string
	Scopes    []string
	Account   flows.Account
	ExpiresAt time.Time // zero: it does not expire
}

// List returns all providers that the profile knows, sorted by name, with their
// connections. No secret is opened. When single records cannot be read, the
// error names them and the rest is returned with it.
func (c *Client) List(ctx context.Context) ([]ProviderInfo, error) {
	held, err := c.Broker.List(ctx)
	if held == nil {
		return nil, err
	}
	var all []ProviderInfo
	for _, e := range c.Registry.All() {
		all = append(all, c.info(e, held[e.Name]))
	}
	return all, err
}

func (c *Client) info(e *provider.Entry, held *flows.Listing) ProviderInfo {
	info := ProviderInfo{Name: e.Name, DisplayName: e.DisplayName, AuthType: e.AuthType, Source: e.Source, State: Available}
	if held == nil {
		return info
	}
	if held.Configured {
		info.State = Configured
	}
	for _, h := range held.Connections {
		info.State = Connected
		info.Connections = append(info.Connections, ConnectionInfo{Name: h.Name, Default: h.Name == held.Default,
			Status: h.EffectiveStatus(c.Broker.Now()), BaseURL: h.BaseURL, Scopes: h.Scopes, Account: h.Account, ExpiresAt: h.ExpiresAt})
	}
	sort.Slice(info.Connections, func(i, j int) bool { return info.Connections[i].Name < info.Connections[j].Name })
	return info
}
