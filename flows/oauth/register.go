package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"authsome/vault/secret"
)

// RegistrationRequest describes the client to register (RFC 7591 section 2).
type RegistrationRequest struct {
	// Name is shown to the user on the consent page.
	Name string
	// RedirectURIs, exactly as they will be sent. Required.
	RedirectURIs []string
	Scopes       []string // may be empty
}

// Registration is a client that a provider made for us.
type Registration struct {
	Client Client
	// RedirectURIs that the provider accepted.
	RedirectURIs []string
	// SecretExpiresAt is when the client secret ends; zero: never, or there is none.
	SecretExpiresAt time.Time
	// ManagementURL and ManagementToken change or delete the registration (RFC 7592); empty when the
	// provider does not offer it.
	ManagementURL   string
	ManagementToken secret.Text
}

// Register makes a client at the definition's registration_endpoint (RFC 7591 section 3).
func (c *Config) Register(ctx context.Context, request RegistrationRequest) (*Registration, error) {
	const op = "register client"
	if c.OAuth.RegistrationEndpoint == "" {
		return nil, unsupported(op, "neither the definition nor the server's metadata has a registration_endpoint")
	}
	known := c.Metadata
	if known == nil {
		known = &Metadata{}
	}
	method := c.registrationMethod(known.AuthMethods)
	body := registrationBody(request, method, known.GrantTypes)
	header := c.headers()
	header.Set("Content-Type", jsonType)
	out := outgoing{op: op, method: http.MethodPost, url: c.OAuth.RegistrationEndpoint, header: header, body: body}
	r, err := c.send(ctx, out)
	if err != nil {
		return nil, err
	}
	f, err := decode(r.contentType, r.body)
	if err != nil {
		return nil, undecodable(op, r, err)
	}
	if e := failure(op, r, f, nil); e != nil {
		return nil, e
	}
	return registration(op, r, f, method, request)
}

func registrationBody(request RegistrationRequest, method string, supported []string) []byte {
	grants := []string{"authorization_code"}
	if supported == nil || slices.Contains(supported, "refresh_token") {
		grants = append(grants, "refresh_token")
	}
	object := map[string]any{
		"client_name": request.Name, "redirect_uris": request.RedirectURIs,
		"grant_types": grants, "response_types": []string{"code"},
		"token_endpoint_auth_method": method,
		"application_type":           "native", // OpenID Connect Registration: a web client may not use http on loopback
	}
	if len(request.Scopes) > 0 {
		object["scope"] = strings.Join(request.Scopes, " ") // RFC 7591 section 2: spaces, whatever the definition's separator
	}
	body, _ := json.Marshal(object) // strings and lists of strings always marshal
	return body
}

// registrationMethod picks how the new client shall authenticate. A program on a user's machine keeps
// no secret from its user, so a public client is what it is (RFC 8252 section 8.4), unless the server
// knows none. A server that names no method knows only basic (RFC 8414 section 2), but those that
// register clients on the fly without saying so expect public ones.
func (c *Config) registrationMethod(supported []string) string {
	preferred := []string{AuthNone, AuthPost, AuthBasic}
	if c.OAuth.TokenAuthMethod != "" {
		preferred = append([]string{c.OAuth.TokenAuthMethod}, preferred...)
	}
	for _, method := range preferred {
		if supported == nil || slices.Contains(supported, method) {
			return method
		}
	}
	return AuthBasic
}

// registration reads the answer (RFC 7591 section 3.2.1). The server may have changed what was asked
// for; what it says is what counts.
func registration(op string, r *reply, f fields, asked string, request RegistrationRequest) (*Registration, error) {
	reg := &Registration{RedirectURIs: f.list("redirect_uris"), ManagementURL: f.text("registration_client_uri")}
	reg.Client.ID = f.text("client_id")
	if reg.Client.ID == "" || len(reg.Client.ID) > maxTokenBytes || !printable(reg.Client.ID) {
		return nil, badResponse(op, r.status, "the answer has no usable client_id")
	}
	for _, token := range []struct {
		name string
		to   *secret.Text
	}{{"client_secret", &reg.Client.Secret}, {"registration_access_token", &reg.ManagementToken}} {
		if problem := readToken(f, token.name, false, token.to); problem != "" {
			return nil, badResponse(op, r.status, problem)
		}
	}
	if reg.RedirectURIs == nil {
		reg.RedirectURIs = slices.Clone(request.RedirectURIs)
	}
	for _, uri := range request.RedirectURIs {
		if !slices.Contains(reg.RedirectURIs, uri) {
			return nil, badResponse(op, r.status, "the server registered other redirect URIs than "+uri)
		}
	}
	reg.Client.AuthMethod = f.text("token_endpoint_auth_method")
	if reg.Client.AuthMethod == "" {
		reg.Client.AuthMethod = asked
		if asked == AuthNone && !reg.Client.Secret.IsZero() {
			reg.Client.AuthMethod = AuthBasic // RFC 7591 section 2: the default
		}
	}
	switch reg.Client.AuthMethod {
	case AuthNone, AuthPost, AuthBasic:
	default:
		return nil, badResponse(op, r.status, "the server registered an authentication method that is not supported")
	}
	if at, ok := seconds(f.scalar("client_secret_expires_at")); ok {
		reg.SecretExpiresAt = time.Unix(int64(at/time.Second), 0).UTC()
	}
	return reg, nil
}
