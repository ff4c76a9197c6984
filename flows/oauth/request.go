package oauth

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"authsome/vault/secret"
)

const (
	formType  = "application/x-www-form-urlencoded"
	jsonType  = "application/json"
	userAgent = "authsome" // some endpoints refuse a request without one
)

// params are the parameters of a request. Every one occurs at most once, except resource.
type params url.Values

func (p params) set(name, value string) {
	if value != "" {
		p[name] = []string{value}
	}
}

// encode writes the parameters as a form or, where the definition says so, as a JSON object.
func (p params) encode(asJSON bool) (contentType string, body []byte) {
	if !asJSON {
		return formType, []byte(url.Values(p).Encode())
	}
	object := make(map[string]any, len(p))
	for name, values := range p {
		if len(values) == 1 {
			object[name] = values[0]
		} else {
			object[name] = values
		}
	}
	body, _ = json.Marshal(object) // strings and lists of strings always marshal
	return jsonType, body
}

// jsonTokens says whether the definition wants requests to the token endpoint as JSON.
func (c *Config) jsonTokens() bool { return c.OAuth.TokenRequest == "json" }

// post builds a POST with the client's credentials to one of the provider's endpoints.
func (c *Config) post(op, endpoint string, p params, hide ...secret.Text) outgoing {
	return c.postAs(c.jsonTokens(), op, endpoint, p, hide...)
}

func (c *Config) postAs(asJSON bool, op, endpoint string, p params, hide ...secret.Text) outgoing {
	header := c.headers()
	c.authenticate(header, p)
	contentType, body := p.encode(asJSON)
	header.Set("Content-Type", contentType)
	return outgoing{
		op: op, method: http.MethodPost, url: endpoint, header: header, body: body,
		secrets: c.sent(header, hide...),
	}
}

// headers are those of every request to an OAuth endpoint; the definition's own win, except over what
// authenticates and describes the body, which is set afterwards.
func (c *Config) headers() http.Header {
	header := http.Header{"Accept": {jsonType}, "User-Agent": {userAgent}}
	for name, value := range c.OAuth.TokenHeaders {
		header.Set(name, value)
	}
	return header
}

// authenticate adds the client's credentials to a request (RFC 6749 section 2.3).
func (c *Config) authenticate(header http.Header, p params) {
	switch c.authMethod() {
	case AuthBasic:
		header.Set("Authorization", basic(c.Client))
	case AuthPost:
		p.set("client_id", c.Client.ID)
		p.set("client_secret", c.Client.Secret.Reveal())
	default:
		p.set("client_id", c.Client.ID)
	}
}

// basic is the Authorization header of RFC 6749 section 2.3.1. Unlike RFC 7617 it form-encodes id and
// secret first, which matters to every secret with a '+', '/', ':' or '%' in it.
func basic(client Client) string {
	pair := url.QueryEscape(client.ID) + ":" + url.QueryEscape(client.Secret.Reveal())
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

// sent gathers what a request carries that an error text must not.
func (c *Config) sent(header http.Header, hide ...secret.Text) secrets {
	s := secretsOf(append(slices.Clone(hide), c.Client.Secret)...)
	if _, credentials, ok := strings.Cut(header.Get("Authorization"), " "); ok {
		s = s.with(credentials)
	}
	return s
}
