package oauth

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"authsome/provider"
)

// Metadata is what an authorization server publishes about itself (RFC 8414 section 2), as far as a
// login needs it.
type Metadata struct {
	Issuer                 string
	AuthorizationURL       string
	TokenURL               string
	RegistrationEndpoint   string
	RevocationURL          string
	DeviceAuthorizationURL string
	AuthMethods            []string // token_endpoint_auth_methods_supported; nil when not said
	Scopes                 []string // scopes_supported; nil when not said
	GrantTypes             []string // grant_types_supported; nil when not said
	// IssInCallback says that every callback carries iss (RFC 9207 section 3), so that one without is
	// refused.
	IssInCallback bool
}

// Discover fetches the metadata of the definition's issuer: by RFC 8414, then by OpenID Connect
// Discovery, each with the issuer's path where the standard puts it and where servers put it anyway.
// Metadata that names another issuer is not used (RFC 8414 section 3.3), nor are endpoints that are
// not https.
func (c *Config) Discover(ctx context.Context) (*Metadata, error) {
	const op = "discover"
	if c.OAuth.Issuer == "" {
		return nil, unsupported(op, "the definition has no issuer")
	}
	if err := checkURL(op, c.OAuth.Issuer); err != nil {
		return nil, err
	}
	var failed error
	for _, location := range wellKnown(c.OAuth.Issuer) {
		m, decisive, err := c.fetchMetadata(ctx, op, location)
		if err == nil {
			return m, nil
		}
		if failed == nil || decisive {
			failed = err
		}
		if decisive {
			break
		}
	}
	return nil, failed
}

// wellKnown lists where an issuer's metadata may be. RFC 8414 section 3.1 inserts the well-known part
// before the issuer's path, OpenID appends it after; each is found the other way round as well.
func wellKnown(issuer string) []string {
	u, _ := url.Parse(issuer) // checkURL parsed it
	path := strings.TrimRight(u.EscapedPath(), "/")
	origin := u.Scheme + "://" + u.Host
	const as, oidc = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	locations := []string{origin + as + path, origin + path + oidc, origin + oidc + path, origin + path + as}
	if path == "" {
		return locations[:2]
	}
	return locations
}

// fetchMetadata reads one location. A decisive error is one that the other locations cannot mend.
func (c *Config) fetchMetadata(ctx context.Context, op, location string) (m *Metadata, decisive bool, err error) {
	header := http.Header{"Accept": {jsonType}, "User-Agent": {userAgent}}
	r, err := c.send(ctx, outgoing{op: op, method: http.MethodGet, url: location, header: header})
	if err != nil {
		return nil, ctx.Err() != nil, err
	}
	if r.status != http.StatusOK {
		kind := kindOf("", r.status)
		return nil, false, &Error{
			Op: op, Code: statusCode(r.status), Description: "no metadata at " + location, Status: r.status,
			Retryable: kind == ErrUnavailable, RetryAfter: r.retryAfter, kind: kind,
		}
	}
	f, err := decode(r.contentType, r.body)
	if err != nil {
		return nil, false, undecodable(op, r, err)
	}
	if got := f.text("issuer"); got != c.OAuth.Issuer {
		return nil, false, badResponse(op, r.status, "the metadata at "+location+" is of issuer "+
			secrets(nil).clean(got, maxDescription/3)+", not of "+c.OAuth.Issuer)
	}
	m, err = metadata(op, f)
	return m, err != nil, err
}

func metadata(op string, f fields) (*Metadata, error) {
	m := &Metadata{
		Issuer:                 f.text("issuer"),
		AuthorizationURL:       f.text("authorization_endpoint"),
		TokenURL:               f.text("token_endpoint"),
		RegistrationEndpoint:   f.text("registration_endpoint"),
		RevocationURL:          f.text("revocation_endpoint"),
		DeviceAuthorizationURL: f.text("device_authorization_endpoint"),
		AuthMethods:            f.list("token_endpoint_auth_methods_supported"),
		Scopes:                 f.list("scopes_supported"),
		GrantTypes:             f.list("grant_types_supported"),
		IssInCallback:          f.flag("authorization_response_iss_parameter_supported"),
	}
	for _, endpoint := range []string{m.AuthorizationURL, m.TokenURL, m.RegistrationEndpoint, m.RevocationURL, m.DeviceAuthorizationURL} {
		if endpoint == "" {
			continue
		}
		if err := checkURL(op, endpoint); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Fill gives a copy of a definition's section in which the metadata fills what the definition leaves
// open. What the definition says wins.
func (m *Metadata) Fill(section *provider.OAuth) *provider.OAuth {
	filled := *section
	for _, field := range []struct {
		to   *string
		from string
	}{
		{&filled.AuthorizationURL, m.AuthorizationURL}, {&filled.TokenURL, m.TokenURL},
		{&filled.RegistrationEndpoint, m.RegistrationEndpoint}, {&filled.RevocationURL, m.RevocationURL},
		{&filled.DeviceAuthorizationURL, m.DeviceAuthorizationURL}, {&filled.Issuer, m.Issuer},
	} {
		if *field.to == "" {
			*field.to = field.from
		}
	}
	return &filled
}
