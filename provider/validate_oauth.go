package provider

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// sampleBaseURL stands in where a definition has no default base URL.
const sampleBaseURL = "https://base-url.example"

// reservedParams tie an answer to our request, so a definition must not set
// them (RFC 6749 section 4.1.1, RFC 7636 section 4.3, RFC 9101 section 5).
var reservedParams = []string{
	"client_id", "redirect_uri", "response_type", "response_mode", "state", "code_challenge",
	"code_challenge_method", "request", "request_uri",
}

var tokenPath = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

func (c *checker) oauth() {
	o := c.d.OAuth
	if o == nil {
		return
	}
	c.baseURL("oauth.base_url", o.BaseURL)
	for _, u := range o.urls() {
		c.endpoint("oauth."+u.key, *u.at)
	}
	c.issuer(o.Issuer)
	c.required(o)
	c.oneOf("oauth.device_token_request", o.DeviceTokenRequest, "", "oauth2_form", "json")
	c.oneOf("oauth.token_auth_method", o.TokenAuthMethod, "", "client_secret_post", "client_secret_basic", "none")
	c.oneOf("oauth.token_request", o.TokenRequest, "", "form", "json")
	c.oneOf("oauth.revocation_style", o.RevocationStyle, "", "rfc7009", "delete_path", "bearer_post", "basic_delete")
	if o.RevocationStyle != "" && o.RevocationURL == "" && o.Issuer == "" {
		c.fail("oauth.revocation_style", "has no effect without revocation_url", "add revocation_url or remove it")
	}
	c.scopes(o)
	for _, name := range sorted(o.AuthorizeParams) {
		if name == "" || slices.Contains(reservedParams, name) {
			c.fail(join("oauth.authorize_params", name), "is set by authsome", "remove it")
		}
	}
	c.headers("oauth.token_headers", o.TokenHeaders, "Authorization", "Content-Type")
	if o.TokenPath != "" && !tokenPath.MatchString(o.TokenPath) {
		c.fail("oauth.token_path", fmt.Sprintf("%q is not a path of keys", o.TokenPath), "write keys with dots between them, such as authed_user.access_token")
	}
	c.optionalURL("oauth.resource", substitute(o.Resource, sampleBaseURL))
}

// urls are the section's endpoints with their keys.
func (o *OAuth) urls() []struct {
	key string
	at  *string
} {
	return []struct {
		key string
		at  *string
	}{
		{"authorization_url", &o.AuthorizationURL}, {"token_url", &o.TokenURL}, {"revocation_url", &o.RevocationURL},
		{"device_authorization_url", &o.DeviceAuthorizationURL}, {"registration_endpoint", &o.RegistrationEndpoint},
	}
}

// required checks that the flow has its endpoints, or an issuer to find them at.
func (c *checker) required(o *OAuth) {
	if o.Issuer != "" {
		return
	}
	type need struct{ key, value string }
	authorize, token := need{"authorization_url", o.AuthorizationURL}, need{"token_url", o.TokenURL}
	device, register := need{"device_authorization_url", o.DeviceAuthorizationURL}, need{"registration_endpoint", o.RegistrationEndpoint}
	needs := map[Flow][]need{
		FlowPKCE:              {authorize, token},
		FlowDeviceCode:        {device, token},
		FlowDCRPKCE:           {authorize, token, register},
		FlowClientCredentials: {token},
	}[c.d.Flow]
	if o.SupportsDeviceFlow && c.d.Flow != FlowDeviceCode {
		needs = append(needs, device)
	}
	if o.SupportsDCR && c.d.Flow != FlowDCRPKCE {
		needs = append(needs, register)
	}
	for _, n := range needs {
		if n.value == "" {
			c.fail("oauth."+n.key, "is missing", fmt.Sprintf("flow %s needs it, or an issuer to discover it at", c.d.Flow))
		}
	}
}

// scopes checks scope tokens (RFC 6749 section 3.3) and that they survive being
// joined.
func (c *checker) scopes(o *OAuth) {
	separator := o.ScopeSeparator
	if separator == "" {
		separator = " "
	}
	if len(separator) != 1 || !isHeaderText(separator) {
		c.fail("oauth.scope_separator", fmt.Sprintf("%q is not one character", separator), `write " " or ","`)
		return
	}
	for i, s := range o.Scopes {
		bad := s == "" || !isHeaderText(s) || strings.ContainsAny(s, ` "\`) || strings.Contains(s, separator)
		if bad {
			c.fail(fmt.Sprintf("oauth.scopes[%d]", i), fmt.Sprintf("%q is not one scope", s), "write each scope as an element of its own")
		}
	}
}

// issuer checks an issuer identifier (RFC 8414 section 2), loopback apart.
func (c *checker) issuer(issuer string) {
	c.endpoint("oauth.issuer", issuer)
	if strings.Contains(issuer, "?") {
		c.fail("oauth.issuer", "has a query (RFC 8414 section 2)", "write the URL without it")
	}
}

// endpoint checks a URL that may hold the base URL template. An endpoint must
// have a form that can be kept from injection; see [Definition.OwnEndpoints].
func (c *checker) endpoint(path, text string) {
	if text == "" {
		return
	}
	if strings.LastIndex(text, BaseURLTemplate) > 0 {
		c.fail(path, BaseURLTemplate+" stands for a whole URL", "write it first, as in "+BaseURLTemplate+"/token")
		return
	}
	u, err := parseURL(substitute(text, sampleBaseURL))
	if err != nil {
		c.fail(path, err.Error(), "write a URL such as https://auth.example.com/token")
		return
	}
	if u.Scheme != "https" {
		return
	}
	if _, err := pathPrefix(u); err != nil {
		c.fail(path, err.Error(), "write the URL as the provider documents it")
	}
}

// baseURL checks a default base URL.
func (c *checker) baseURL(path, base string) {
	if base == "" {
		return
	}
	if err := parseBaseURL(base); err != nil {
		c.fail(path, err.Error(), "write a URL such as https://example.com")
	} else if !c.d.NeedsBaseURL() {
		c.fail(path, "is used nowhere", "write "+BaseURLTemplate+" in host_url and in the URLs that depend on it, or remove it")
	}
}

// optionalURL checks a URL that takes no template.
func (c *checker) optionalURL(path, text string) {
	if text == "" {
		return
	}
	if _, err := parseURL(text); err != nil {
		c.fail(path, err.Error(), "write a URL such as https://docs.example.com/api-keys")
	}
}

// parseBaseURL checks what may stand for {base_url}.
func parseBaseURL(base string) error {
	u, err := parseURL(base)
	if err != nil {
		return err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return fmt.Errorf("%q has a query", base)
	}
	_, err = pathPrefix(u)
	return err
}

// parseURL reads an absolute https URL without userinfo and fragment. On this
// machine http will do: there is no network to listen in on.
func parseURL(text string) (*url.URL, error) {
	if strings.Contains(text, " ") {
		return nil, fmt.Errorf("%q has a space", text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL: %w", text, errors.Unwrap(err))
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%q does not start with https://", text)
	case u.User != nil || u.Fragment != "" || u.Opaque != "" || strings.HasSuffix(text, "#"):
		return nil, fmt.Errorf("%q has userinfo or a fragment", text)
	}
	host, err := CanonicalHost(u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	if u.Scheme == "http" && !isLoopback(host) {
		return nil, fmt.Errorf("%q sends secrets over http; only this machine may be reached so", text)
	}
	if _, err := port(u); err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	return u, nil
}
