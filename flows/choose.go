package flows

import (
	"fmt"
	"slices"
	"strings"

	"authsome/provider"
)

// chooseFlow checks that a provider knows the flow that was asked for.
func chooseFlow(def *provider.Definition, want provider.Flow) (provider.Flow, error) {
	if def.AuthType != provider.AuthOAuth2 {
		return "", fmt.Errorf("%w: it takes an API key, not OAuth", ErrBadInput)
	}
	known := knownFlows(def)
	switch {
	case want == "":
		return def.Flow, nil
	case slices.Contains(known, string(want)):
		return want, nil
	}
	return "", fmt.Errorf("%w: --flow %s: its definition knows %s", ErrBadInput, want, strings.Join(known, ", "))
}

// knownFlows are the flows that a definition has the endpoints for, its own first.
func knownFlows(def *provider.Definition) []string {
	o := def.OAuth
	known := []string{string(def.Flow)}
	for _, other := range []struct {
		flow provider.Flow
		ok   bool
	}{
		{provider.FlowPKCE, o.AuthorizationURL != "" || o.Issuer != ""},
		{provider.FlowDeviceCode, o.SupportsDeviceFlow},
		{provider.FlowDCRPKCE, o.SupportsDCR},
		{provider.FlowClientCredentials, o.TokenURL != "" || o.Issuer != ""},
	} {
		if other.ok && other.flow != def.Flow {
			known = append(known, string(other.flow))
		}
	}
	return known
}
