package provider

// A field ties a JSON key to the place where its value is kept. One table per
// object serves reading and writing, so that the two cannot differ.
type field struct {
	key string
	// at points to a string, *string, int, bool, []string, oneOrMany,
	// map[string]string or map[string]json.RawMessage, or is an object.
	at any
	// always is set for a key that is written even when its value is zero.
	always bool
}

// oneOrMany is a list that may be written as its only element.
type oneOrMany []string

// object is a JSON object with known fields and a place for the others.
type object interface {
	fields() []field
	unknown() *extra
}

func (d *Definition) unknown() *extra { return &d.extra }

func (d *Definition) fields() []field {
	return []field{
		{"schema_version", &d.SchemaVersion, true},
		{"name", &d.Name, true},
		{"display_name", &d.DisplayName, true},
		{"auth_type", (*string)(&d.AuthType), true},
		{"flow", (*string)(&d.Flow), true},
		{"host_url", (*oneOrMany)(&d.HostURL), false},
		{"oauth", &d.OAuth, false},
		{"api_key", &d.APIKey, false},
		{"inject", &d.Inject, false},
		{"headers", &d.Headers, false},
		{"client", &d.Client, false},
		{"export", &d.Export, false},
		{"docs", &d.Docs, false},
		{"metadata", &d.Metadata, false},
	}
}

func (o *OAuth) unknown() *extra { return &o.extra }

func (o *OAuth) fields() []field {
	return []field{
		{"base_url", &o.BaseURL, false},
		{"issuer", &o.Issuer, false},
		{"authorization_url", &o.AuthorizationURL, false},
		{"token_url", &o.TokenURL, false},
		{"revocation_url", &o.RevocationURL, false},
		{"device_authorization_url", &o.DeviceAuthorizationURL, false},
		{"device_token_request", &o.DeviceTokenRequest, false},
		{"registration_endpoint", &o.RegistrationEndpoint, false},
		{"scopes", &o.Scopes, false},
		{"scope_separator", &o.ScopeSeparator, false},
		{"pkce", &o.PKCE, true}, // absent is true, so false must be said
		{"supports_device_flow", &o.SupportsDeviceFlow, false},
		{"supports_dcr", &o.SupportsDCR, false},
		{"authorize_params", &o.AuthorizeParams, false},
		{"token_auth_method", &o.TokenAuthMethod, false},
		{"token_request", &o.TokenRequest, false},
		{"token_headers", &o.TokenHeaders, false},
		{"token_path", &o.TokenPath, false},
		{"revocation_style", &o.RevocationStyle, false},
		{"audience", &o.Audience, false},
		{"resource", &o.Resource, false},
	}
}

func (k *APIKey) unknown() *extra { return &k.extra }

func (k *APIKey) fields() []field {
	return []field{
		{"base_url", &k.BaseURL, false},
		{"header_name", &k.HeaderName, false},
		{"header_prefix", &k.HeaderPrefix, false},
		{"key_pattern", &k.KeyPattern, false},
		{"key_pattern_hint", &k.KeyPatternHint, false},
		{"env_var", &k.EnvVar, false},
	}
}

func (in *Inject) unknown() *extra { return &in.extra }

func (in *Inject) fields() []field {
	return []field{
		{"manner", &in.Manner, true},
		{"name", &in.Name, false},
		{"format", &in.Format, false},
		{"username", &in.Username, false},
		{"password", &in.Password, false},
		{"host_url", (*oneOrMany)(&in.HostURL), false},
	}
}

func (c *Client) unknown() *extra { return &c.extra }

func (c *Client) fields() []field {
	return []field{
		{"client_id_env", &c.ClientIDEnv, false},
		{"client_secret_env", &c.ClientSecretEnv, false},
	}
}

func (e *Export) unknown() *extra { return &e.extra }

func (e *Export) fields() []field {
	return []field{{"env", &e.Env, false}}
}
