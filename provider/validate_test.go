package provider_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// badDefinitions are changes to a valid definition. schema says whether JSON
// Schema can express the rule; see TestSchemaAgrees.
var badDefinitions = []struct {
	name    string
	oauth   bool // a change to oauthBase, not to apiKeyBase
	changes map[string]any
	path    string // of an error that must be reported
	schema  bool
}{
	{"version", false, map[string]any{"schema_version": 2}, "schema_version", true},
	{"version missing", false, map[string]any{"schema_version": nil}, "schema_version", true},
	{"name missing", false, map[string]any{"name": nil}, "name", true},
	{"name traverses", false, map[string]any{"name": "../../x"}, "name", true},
	{"name with dots", false, map[string]any{"name": "a..b"}, "name", true},
	{"name with colon", false, map[string]any{"name": "a:b"}, "name", true},
	{"name long", false, map[string]any{"name": strings.Repeat("a", 65)}, "name", true},
	{"display name missing", false, map[string]any{"display_name": nil}, "display_name", true},
	{"display name blank", false, map[string]any{"display_name": "  "}, "display_name", true},
	{"display name moves the cursor", false, map[string]any{"display_name": "a\x1b[2Jb"}, "display_name", true},
	{"display name turns text around", false, map[string]any{"display_name": "a\u202eb"}, "display_name", false},
	{"display name long", false, map[string]any{"display_name": strings.Repeat("a", 101)}, "display_name", true},
	{"auth type", false, map[string]any{"auth_type": "saml"}, "auth_type", true},
	{"auth type missing", false, map[string]any{"auth_type": nil}, "auth_type", true},
	{"flow", false, map[string]any{"flow": "implicit"}, "flow", true},
	{"flow missing", false, map[string]any{"flow": nil}, "flow", true},
	{"flow of the other type", false, map[string]any{"flow": "pkce"}, "flow", true},
	{"flow api_key for oauth2", true, map[string]any{"flow": "api_key"}, "flow", true},
	{"oauth section missing", true, map[string]any{"oauth": nil}, "oauth", true},
	{"api_key section missing", false, map[string]any{"api_key": nil}, "api_key", true},
	{"host missing", false, map[string]any{"host_url": nil}, "host_url", true},
	{"host empty", false, map[string]any{"host_url": ""}, "host_url", true},
	{"hosts empty", false, map[string]any{"host_url": []string{}}, "host_url", true},
	{"host http", false, map[string]any{"host_url": "http://acme.com"}, "host_url", true},
	{"host http in list", false, map[string]any{"host_url": []string{"a.com", "http://acme.com"}}, "host_url[1]", true},
	{"host with userinfo", false, map[string]any{"host_url": "https://u@acme.com"}, "host_url", true},
	{"host with an escape", false, map[string]any{"host_url": "https://acme.com/my%20site/api"}, "host_url", false},
	{"host with a path that is escaped", false, map[string]any{"host_url": []string{"a.com", "https://acme.com/café"}}, "host_url[1]", false},
	{"host with parameters", false, map[string]any{"host_url": "https://acme.com/a;v=1"}, "host_url", false},
	{"host twice", false, map[string]any{"host_url": []string{"a.com", "a.com"}}, "host_url[1]", true},
	{"host regex open", false, map[string]any{"host_url": "regex:.*googleapis.*"}, "host_url", true},
	{"host regex unescaped", false, map[string]any{"host_url": `regex:.*githubusercontent\.com$`}, "host_url", false},
	{"host wildcard of everything", false, map[string]any{"host_url": "*.com"}, "host_url", true},
	{"host public suffix", false, map[string]any{"host_url": "*.co.uk"}, "host_url", false},
	{"host odd address", false, map[string]any{"host_url": "0x7f.1"}, "host_url", false},
	{"template not first", false, map[string]any{"host_url": "https://{base_url}/x", "api_key.base_url": "https://a.com"}, "host_url", false},
	{"base url http", false, map[string]any{"host_url": "{base_url}", "api_key.base_url": "http://acme.com"}, "api_key.base_url", true},
	{"base url unused", false, map[string]any{"api_key.base_url": "https://acme.com"}, "api_key.base_url", false},
	{"base url with query", true, map[string]any{"host_url": "{base_url}", "oauth.base_url": "https://acme.com?x"}, "oauth.base_url", false},
	{"header name", false, map[string]any{"api_key.header_name": "X Key"}, "api_key.header_name", true},
	{"header host", false, map[string]any{"api_key.header_name": "Host"}, "api_key.header_name", true},
	{"header content-length", false, map[string]any{"api_key.header_name": "content-length"}, "api_key.header_name", true},
	{"header proxy", false, map[string]any{"api_key.header_name": "Proxy-Authorization"}, "api_key.header_name", true},
	{"header te", false, map[string]any{"api_key.header_name": "TE"}, "api_key.header_name", true},
	{"header ours", false, map[string]any{"api_key.header_name": "Authsome-Connection"}, "api_key.header_name", true},
	{"prefix splits", false, map[string]any{"api_key.header_prefix": "a\r\nb"}, "api_key.header_prefix", true},
	{"prefix templated", false, map[string]any{"api_key.header_prefix": "{credential}"}, "api_key.header_prefix", true},
	{"key pattern", false, map[string]any{"api_key.key_pattern": "("}, "api_key.key_pattern", false},
	{"key pattern lookahead", false, map[string]any{"api_key.key_pattern": "(?=a)b"}, "api_key.key_pattern", false},
	{"key hint", false, map[string]any{"api_key.key_pattern_hint": "a\x1b[2J"}, "api_key.key_pattern_hint", false},
	{"env name", false, map[string]any{"api_key.env_var": "A-B"}, "api_key.env_var", true},
	{"env ours", false, map[string]any{"api_key.env_var": "AUTHSOME_MASTER_KEY"}, "api_key.env_var", true},
	{"client env ours", true, map[string]any{"client.client_secret_env": "authsome_passphrase_file"}, "client.client_secret_env", true},
	{"export ours", false, map[string]any{"export.env": map[string]string{"api_key": "AUTHSOME_HOME"}}, "export.env.api_key", true},
	{"export steers", false, map[string]any{"export.env": map[string]string{"api_key": "LD_PRELOAD"}}, "export.env.api_key", false},
	{"export proxy", false, map[string]any{"export.env": map[string]string{"api_key": "https_proxy"}}, "export.env.api_key", false},
	{"export field", false, map[string]any{"export.env": map[string]string{"secret": "A"}}, "export.env.secret", true},
	{"export name", false, map[string]any{"export.env": map[string]string{"api_key": "A=B"}}, "export.env.api_key", true},
	{"static authorization", false, map[string]any{"headers": map[string]string{"authorization": "x"}}, "headers.authorization", true},
	{"static framing", false, map[string]any{"headers": map[string]string{"Transfer-Encoding": "x"}}, "headers.Transfer-Encoding", true},
	{"static splits", false, map[string]any{"headers": map[string]string{"X-A": "a\nb"}}, "headers.X-A", true},
	{"static template", false, map[string]any{"headers": map[string]string{"X-A": "{credential}"}}, "headers.X-A", true},
	{"docs", false, map[string]any{"docs": "javascript:alert(1)"}, "docs", true},
	{"docs http", false, map[string]any{"docs": "http://acme.com"}, "docs", true},
	{"docs fragment only", false, map[string]any{"docs": "#x"}, "docs", true},
	{"manner", false, map[string]any{"inject": map[string]any{"manner": "cookie"}}, "inject.manner", true},
	{"manner missing", false, map[string]any{"inject": map[string]any{"name": "X-A"}}, "inject.manner", true},
	{"header inject without name", false, map[string]any{"inject": map[string]any{"manner": "header"}}, "inject.name", true},
	{"header inject framing", false, map[string]any{"inject": map[string]any{"manner": "header", "name": "Upgrade"}}, "inject.name", true},
	{"header inject template", false, map[string]any{"inject": map[string]any{"manner": "header", "name": "X-A", "format": "{token}"}}, "inject.format", true},
	{"header inject mixed template", false, map[string]any{"inject": map[string]any{"manner": "header", "name": "X-A", "format": "{credential}{credential.3}"}}, "inject.format", false},
	{"header inject without credential", false, map[string]any{"inject": map[string]any{"manner": "header", "name": "X-A", "format": "x"}}, "inject.format", true},
	{"header inject splits", false, map[string]any{"inject": map[string]any{"manner": "header", "name": "X-A", "format": "{credential}\r\nHost: x"}}, "inject.format", true},
	{"header inject with user", false, map[string]any{"inject": map[string]any{"manner": "header", "name": "X-A", "username": "x"}}, "inject.username", true},
	{"bearer with name", false, map[string]any{"inject": map[string]any{"manner": "bearer", "name": "X-A"}}, "inject.name", true},
	{"basic without credential", false, map[string]any{"inject": map[string]any{"manner": "basic", "username": "x"}}, "inject", true},
	{"basic user with colon", false, map[string]any{"inject": map[string]any{"manner": "basic", "username": "a:{credential}"}}, "inject.username", true},
	{"basic with format", false, map[string]any{"inject": map[string]any{"manner": "basic", "username": "{credential}", "format": "{credential}"}}, "inject.format", true},
	{"query without name", false, map[string]any{"inject": map[string]any{"manner": "query"}}, "inject.name", true},
	{"inject for another host", false, map[string]any{"inject": []any{map[string]any{"manner": "bearer"}, map[string]any{"manner": "query", "name": "k", "host_url": "b.com"}}}, "inject[1].host_url", false},
	{"host without inject", false, map[string]any{"host_url": []string{"a.com", "b.com"}, "inject": map[string]any{"manner": "bearer", "host_url": "a.com"}}, "host_url[1]", false},
	{"two for one header", false, map[string]any{"inject": []any{map[string]any{"manner": "bearer"}, map[string]any{"manner": "header", "name": "authorization"}}}, "host_url", false},
	{"token url missing", true, map[string]any{"oauth.token_url": nil}, "oauth.token_url", true},
	{"authorization url missing", true, map[string]any{"oauth.authorization_url": nil}, "oauth.authorization_url", true},
	{"device url missing", true, map[string]any{"flow": "device_code"}, "oauth.device_authorization_url", true},
	{"supported device url missing", true, map[string]any{"oauth.supports_device_flow": true}, "oauth.device_authorization_url", false},
	{"registration missing", true, map[string]any{"flow": "dcr_pkce"}, "oauth.registration_endpoint", true},
	{"token url missing for client credentials", true, map[string]any{"flow": "client_credentials", "oauth.token_url": nil}, "oauth.token_url", true},
	{"token url http", true, map[string]any{"oauth.token_url": "http://acme.com/token"}, "oauth.token_url", true},
	{"token url relative", true, map[string]any{"oauth.token_url": "/token"}, "oauth.token_url", true},
	{"token url with userinfo", true, map[string]any{"oauth.token_url": "https://u:p@acme.com/token"}, "oauth.token_url", true},
	{"token url with fragment", true, map[string]any{"oauth.token_url": "https://acme.com/token#x"}, "oauth.token_url", false},
	{"token url with a path that cannot be matched", true, map[string]any{"oauth.token_url": "https://acme.com/a/../token"}, "oauth.token_url", false},
	{"issuer with query", true, map[string]any{"oauth.issuer": "https://acme.com/?x"}, "oauth.issuer", false},
	{"scope with space", true, map[string]any{"oauth.scopes": []string{"a b"}}, "oauth.scopes[0]", true},
	{"scope with separator", true, map[string]any{"oauth.scopes": []string{"a,b"}, "oauth.scope_separator": ","}, "oauth.scopes[0]", false},
	{"separator", true, map[string]any{"oauth.scope_separator": ", "}, "oauth.scope_separator", true},
	{"auth method", true, map[string]any{"oauth.token_auth_method": "private_key_jwt"}, "oauth.token_auth_method", true},
	{"token request", true, map[string]any{"oauth.token_request": "xml"}, "oauth.token_request", true},
	{"device request", true, map[string]any{"oauth.device_token_request": "xml"}, "oauth.device_token_request", true},
	{"revocation style", true, map[string]any{"oauth.revocation_style": "x", "oauth.revocation_url": "https://acme.com/r"}, "oauth.revocation_style", true},
	{"revocation style alone", true, map[string]any{"oauth.revocation_style": "rfc7009"}, "oauth.revocation_style", false},
	{"state as parameter", true, map[string]any{"oauth.authorize_params": map[string]string{"state": "x"}}, "oauth.authorize_params.state", true},
	{"token header authorization", true, map[string]any{"oauth.token_headers": map[string]string{"Authorization": "x"}}, "oauth.token_headers.Authorization", false},
	{"token header framing", true, map[string]any{"oauth.token_headers": map[string]string{"Content-Length": "1"}}, "oauth.token_headers.Content-Length", true},
	{"token path", true, map[string]any{"oauth.token_path": "a..b"}, "oauth.token_path", false},
	{"resource", true, map[string]any{"oauth.resource": "x"}, "oauth.resource", false},
	{"null where a list has strings", true, map[string]any{"oauth.scopes": json.RawMessage("[null]")}, "oauth.scopes[0]", true},
}

var goodDefinitions = []struct {
	name    string
	oauth   bool
	changes map[string]any
}{
	{"nothing", false, nil},
	{"nothing", true, nil},
	{"unknown field", false, map[string]any{"x": 1, "$schema": "./provider.schema.json"}},
	{"hosts", false, map[string]any{"host_url": []string{"a.com", "https://a.com:8443/x", "*.a.com", `regex:(.*\.)?a\.com`, "[::1]", "localhost"}}},
	{"host with a plain path", false, map[string]any{"host_url": "https://acme.com/a/~b-c_d.e(f)"}},
	{"base url", false, map[string]any{"host_url": "{base_url}/api", "api_key.base_url": "https://acme.com/x/"}},
	{"base url without default", false, map[string]any{"host_url": "{base_url}/api"}},
	{"prefix null", false, map[string]any{"api_key.header_name": "X-Key", "api_key.header_prefix": json.RawMessage("null")}},
	{"empty strings", false, map[string]any{"docs": "", "api_key.env_var": "", "api_key.header_name": ""}},
	{"headers of two halves", false, map[string]any{"inject": []any{map[string]any{"manner": "header", "name": "A", "format": "{credential.1}"}, map[string]any{"manner": "header", "name": "B", "format": "x={credential.2}"}}}},
	{"basic", false, map[string]any{"inject": map[string]any{"manner": "basic", "username": "{credential.1}", "password": "{credential.2}"}}},
	{"basic password only", false, map[string]any{"inject": map[string]any{"manner": "basic", "password": "{credential}"}}},
	{"query", false, map[string]any{"inject": map[string]any{"manner": "query", "name": "key"}}},
	{"inject per host", false, map[string]any{"host_url": []string{"a.com", "b.com"}, "inject": []any{map[string]any{"manner": "bearer"}, map[string]any{"manner": "query", "name": "k", "host_url": "b.com"}}}},
	{"docs with fragment", false, map[string]any{"docs": "https://acme.com/#/keys"}},
	{"both sections", true, map[string]any{"api_key": map[string]any{"env_var": "ACME_KEY"}}},
	{"issuer", true, map[string]any{"oauth": map[string]any{"issuer": "https://acme.com"}}},
	{"issuer on this machine", true, map[string]any{"oauth": map[string]any{"issuer": "http://127.0.0.1:8080/x"}}},
	{"http on this machine", true, map[string]any{"oauth.token_url": "http://localhost:99/token"}},
	{"device", true, map[string]any{"flow": "device_code", "oauth": map[string]any{"device_authorization_url": "https://acme.com/d", "token_url": "https://acme.com/t", "device_token_request": "json"}}},
	{"client credentials", true, map[string]any{"flow": "client_credentials", "oauth": map[string]any{"token_url": "https://acme.com/t"}}},
	{"revocation", true, map[string]any{"oauth.revocation_url": "https://acme.com/apps/{client_id}/token", "oauth.revocation_style": "basic_delete"}},
	{"parameters", true, map[string]any{"oauth.authorize_params": map[string]string{"prompt": "consent"}, "oauth.scope_separator": ",", "oauth.token_path": "a.b", "oauth.resource": "https://acme.com", "oauth.pkce": false}},
}

func definitionOf(t *testing.T, oauth bool, changes map[string]any) string {
	t.Helper()
	if oauth {
		return with(t, oauthBase, changes)
	}
	return with(t, apiKeyBase, changes)
}

func TestValidate(t *testing.T) {
	for _, tc := range goodDefinitions {
		d := mustParse(t, definitionOf(t, tc.oauth, tc.changes))
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, tc := range badDefinitions {
		err := parseError(definitionOf(t, tc.oauth, tc.changes))
		if err == nil {
			t.Errorf("%s: no error, want one at %s", tc.name, tc.path)
			continue
		}
		found := false
		for _, e := range problems(t, err) {
			found = found || e.Path == tc.path
			if e.Line == 0 || e.Fix == "" {
				t.Errorf("%s: %q has line %d and fix %q", tc.name, e, e.Line, e.Fix)
			}
		}
		if !found {
			t.Errorf("%s: %v, want an error at %s", tc.name, err, tc.path)
		}
	}
}
