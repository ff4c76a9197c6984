package oauth

import (
	"crypto/rand"
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/oauth2"

	"authsome/vault/secret"
)

// stateBytes is the entropy of a state, which nobody but the browser of this login may know.
const stateBytes = 32

// Authorization is a login that was begun in a browser and has not come back.
type Authorization struct {
	URL         string      // where to send the browser
	State       secret.Text // what the callback must bring back
	Verifier    secret.Text // PKCE (RFC 7636); zero when the provider knows none
	RedirectURI string
	Scopes      []string // asked for
	// Issuer is what the callback's iss must equal (RFC 9207); "" when it is not known.
	Issuer string
	// RequireIss makes a callback without iss an error.
	RequireIss bool
}

// reserved are the parameters that a definition's authorize_params may not set: they tie the callback
// to this login.
var reserved = []string{
	"client_id", "redirect_uri", "response_type", "response_mode", "state", "code_challenge",
	"code_challenge_method", "request", "request_uri",
}

// BeginAuthorization makes the URL that asks for the scopes, with a fresh state and, when the
// definition says pkce, a fresh S256 challenge. A query on the definition's authorization_url
// survives; where it names one of our own parameters, ours is what is sent.
func (c *Config) BeginAuthorization(redirectURI string, scopes ...string) (*Authorization, error) {
	const op = "begin authorization"
	if err := checkURL(op, c.OAuth.AuthorizationURL); err != nil {
		return nil, err
	}
	endpoint, _ := url.Parse(c.OAuth.AuthorizationURL) // checkURL parsed it
	query, err := url.ParseQuery(endpoint.RawQuery)
	if err != nil {
		return nil, unsupported(op, "the query of authorization_url is malformed")
	}
	auth := &Authorization{
		State: secret.New(randomText(stateBytes)), RedirectURI: redirectURI, Scopes: slices.Clone(scopes),
		Issuer: c.OAuth.Issuer,
	}
	if c.Metadata != nil {
		auth.Issuer, auth.RequireIss = c.Metadata.Issuer, c.Metadata.IssInCallback
	}
	options, err := c.authorizeOptions(op, auth)
	if err != nil {
		return nil, err
	}
	config := oauth2.Config{ClientID: c.Client.ID, RedirectURL: redirectURI}
	ours, err := url.Parse(config.AuthCodeURL(auth.State.Reveal(), options...))
	if err != nil {
		return nil, unsupported(op, "the authorization URL cannot be built")
	}
	maps.Copy(query, ours.Query())
	endpoint.RawQuery, endpoint.Fragment = query.Encode(), ""
	auth.URL = endpoint.String()
	return auth, nil
}

// authorizeOptions gathers the parameters beyond those of RFC 6749 section 4.1.1, and gives auth its
// verifier.
func (c *Config) authorizeOptions(op string, auth *Authorization) ([]oauth2.AuthCodeOption, error) {
	var options []oauth2.AuthCodeOption
	if c.OAuth.PKCE {
		verifier := oauth2.GenerateVerifier()
		auth.Verifier = secret.New(verifier)
		options = append(options, oauth2.S256ChallengeOption(verifier))
	}
	p := params{}
	for name, value := range c.OAuth.AuthorizeParams {
		if slices.Contains(reserved, name) {
			return nil, unsupported(op, "authorize_params may not set "+name)
		}
		p.set(name, value)
	}
	p.set("scope", c.joinScopes(auth.Scopes))
	c.target(p)
	for name, values := range p {
		options = append(options, oauth2.SetAuthURLParam(name, values[0]))
	}
	return options, nil
}

// joinScopes writes scopes as this provider separates them.
func (c *Config) joinScopes(scopes []string) string {
	separator := c.OAuth.ScopeSeparator
	if separator == "" {
		separator = " "
	}
	return strings.Join(scopes, separator)
}

// randomText gives n random bytes as URL-safe text.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}
