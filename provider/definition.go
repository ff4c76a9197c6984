package provider

import "encoding/json"

// SchemaVersion is the version of the definition format that this program
// reads and writes.
const SchemaVersion = 1

// AuthType says what kind of credential a provider takes.
type AuthType string

// The kinds of credential.
const (
	AuthOAuth2 AuthType = "oauth2"
	AuthAPIKey AuthType = "api_key"
)

// Flow says how one logs in.
type Flow string

// The login flows. FlowAPIKey belongs to [AuthAPIKey], all others to
// [AuthOAuth2].
const (
	FlowPKCE              Flow = "pkce"        // authorization code (RFC 6749 section 4.1)
	FlowDeviceCode        Flow = "device_code" // RFC 8628
	FlowDCRPKCE           Flow = "dcr_pkce"    // RFC 7591, then authorization code
	FlowClientCredentials Flow = "client_credentials"
	FlowAPIKey            Flow = "api_key"
)

// The manners of attaching a credential.
const (
	MannerHeader = "header"
	MannerBearer = "bearer"
	MannerBasic  = "basic"
	MannerQuery  = "query"
	MannerSigV4  = "sigv4" // AWS Signature Version 4, of an API key written "access key ID:secret access key"
)

// BaseURLTemplate stands for a connection's base URL in any URL of a
// definition, host_url included.
const BaseURLTemplate = "{base_url}"

// The templates of an inject's format, username and password. The halves are
// those of a credential written "first:second", split at the first colon.
const (
	CredentialTemplate = "{credential}"
	FirstTemplate      = "{credential.1}"
	SecondTemplate     = "{credential.2}"
)

// Definition is one provider: what a definition file says. Fields that this
// program does not know are kept, and written again by MarshalJSON.
//
// A Definition made by [Parse] is valid. It is shared once it is in a
// [Registry]: do not modify it.
type Definition struct {
	SchemaVersion int
	Name          string // see [ValidName]; also the file's name
	DisplayName   string
	AuthType      AuthType
	Flow          Flow
	HostURL       []string // where the credential may go; see [ParseHostURL]
	OAuth         *OAuth   // present when AuthType is AuthOAuth2
	APIKey        *APIKey  // present when AuthType is AuthAPIKey
	Inject        []Inject // as written; [Definition.Injects] has the defaults
	Headers       map[string]string
	Client        Client
	Export        Export
	Docs          string // page where one gets a credential
	Metadata      map[string]json.RawMessage

	extra extra
}

// OAuth says how to get tokens. Every URL may hold [BaseURLTemplate].
type OAuth struct {
	BaseURL                string // default of {base_url}
	Issuer                 string // endpoints are discovered here (RFC 8414, then OpenID)
	AuthorizationURL       string
	TokenURL               string
	RevocationURL          string
	DeviceAuthorizationURL string
	DeviceTokenRequest     string // "oauth2_form" (default) or "json"
	RegistrationEndpoint   string // RFC 7591
	Scopes                 []string
	ScopeSeparator         string // "" is a space
	PKCE                   bool   // RFC 7636, S256; true when a file does not say
	SupportsDeviceFlow     bool
	SupportsDCR            bool
	AuthorizeParams        map[string]string // added to the authorization URL
	TokenAuthMethod        string            // "client_secret_post" (default), "client_secret_basic" or "none"
	TokenRequest           string            // "form" (default) or "json"
	TokenHeaders           map[string]string // added to token requests
	TokenPath              string            // where the token sits in the answer, e.g. authed_user.access_token
	RevocationStyle        string            // "rfc7009" (default), "delete_path", "bearer_post" or "basic_delete"
	Audience               string            // sent with token requests
	Resource               string            // RFC 8707

	extra extra
}

// APIKey says what a key looks like and where it goes.
type APIKey struct {
	HeaderName     string  // "" is Authorization
	HeaderPrefix   *string // nil is Bearer, "" is none
	KeyPattern     string  // RE2, matched against the whole key; "" accepts any
	KeyPatternHint string  // says the pattern in words
	EnvVar         string  // variable that a login reads the key from
	BaseURL        string  // default of {base_url}, for providers with a host per tenant

	extra extra
}

// Inject is one thing that is done to a request to attach a credential. All
// injects that apply to a host are done, in order.
type Inject struct {
	Manner   string // one of the Manner constants
	Name     string // of the header or query parameter
	Format   string // template of the value; "" is {credential}
	Username string // template, manner basic
	Password string // template, manner basic
	// HostURL limits the inject to these entries of the definition's host_url,
	// spelled alike. An entry that some inject names gets only the injects that
	// name it. Empty: all entries that no inject names.
	HostURL []string

	extra extra
}

// Client names the variables that hold the user's OAuth application.
type Client struct {
	ClientIDEnv     string
	ClientSecretEnv string

	extra extra
}

// Export says under which variables a credential is exported. The keys of Env
// are "access_token" or "api_key", or [FirstOfKey] and [SecondOfKey].
type Export struct {
	Env map[string]string

	extra extra
}

// extra holds the fields of an object that this program does not know.
type extra map[string]json.RawMessage
