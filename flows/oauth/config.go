package oauth

import (
	"net/http"
	"time"

	"authsome/provider"
	"authsome/vault/secret"
)

// How a client authenticates at the token endpoint (RFC 7591 section 2).
const (
	AuthPost  = "client_secret_post"  // id and secret in the request's body
	AuthBasic = "client_secret_basic" // id and secret in the Authorization header
	AuthNone  = "none"                // public client: only the id, in the body
)

// Client is the application that the provider knows us as.
type Client struct {
	ID     string      // empty only where a provider knows no clients
	Secret secret.Text // zero for a public client
	// AuthMethod is one of the constants above. Empty: what the definition says, then AuthPost. A
	// registration (see [Register]) decides it per client.
	AuthMethod string
}

// Config is what every operation needs.
type Config struct {
	// OAuth is the definition's section with {base_url} substituted; required. The caller replaces
	// URLs by those that a connection pinned at login.
	OAuth *provider.OAuth
	// Metadata is what [Config.Discover] gave; nil when the server was not asked. [Metadata.Fill]
	// makes the OAuth section from it.
	Metadata *Metadata
	// Client is the application to act as.
	Client Client
	// HTTP carries the calls; nil means one with http.DefaultTransport. Its redirect policy, cookie
	// jar and timeout are not used: see [CallTimeout].
	HTTP *http.Client
	// Clock tells the time; nil means time.Now.
	Clock func() time.Time
	// CallTimeout bounds one call; zero means the constant [CallTimeout].
	CallTimeout time.Duration
}

func (c *Config) now() time.Time {
	if c.Clock == nil {
		return time.Now()
	}
	return c.Clock()
}

func (c *Config) callTimeout() time.Duration {
	if c.CallTimeout <= 0 {
		return CallTimeout
	}
	return c.CallTimeout
}

// authMethod is how this client authenticates. Without a secret there is nothing to authenticate
// with, whatever the definition prefers.
func (c *Config) authMethod() string {
	switch {
	case c.Client.Secret.IsZero():
		return AuthNone
	case c.Client.AuthMethod != "":
		return c.Client.AuthMethod
	case c.OAuth.TokenAuthMethod != "":
		return c.OAuth.TokenAuthMethod
	}
	return AuthPost
}
