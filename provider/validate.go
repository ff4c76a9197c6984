package provider

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
)

// maxDisplayBytes bounds the display name, which appears in tables and pages.
const maxDisplayBytes = 100

// Validate checks everything that [Parse] checks of values. It returns nil or
// [Errors].
func (d *Definition) Validate() error {
	if errs := d.problems(); len(errs) > 0 {
		return errs
	}
	return nil
}

// problems finds all that is wrong.
func (d *Definition) problems() Errors {
	c := &checker{d: d}
	c.identity()
	c.kind()
	c.hosts()
	c.oauth()
	c.apiKey()
	c.injects()
	c.headers("headers", d.Headers, "Authorization")
	c.environment()
	c.docs()
	return c.errs
}

// checker gathers what is wrong with one definition.
type checker struct {
	d    *Definition
	errs Errors
}

func (c *checker) fail(path, msg, fix string) {
	c.errs = append(c.errs, &Error{Path: path, Msg: msg, Fix: fix})
}

// oneOf checks a value against the words that are allowed. "" is allowed when
// it is one of them.
func (c *checker) oneOf(path, got string, words ...string) bool {
	if slices.Contains(words, got) {
		return true
	}
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "" })
	fix := "write " + strings.Join(words, ", ")
	if n := len(words); n > 1 {
		fix = "write " + strings.Join(words[:n-1], ", ") + " or " + words[n-1]
	}
	if got == "" {
		c.fail(path, "is missing", fix)
	} else {
		c.fail(path, fmt.Sprintf("%q is not known", got), fix)
	}
	return false
}

func (c *checker) identity() {
	d := c.d
	if d.SchemaVersion != SchemaVersion {
		c.fail("schema_version", fmt.Sprintf("is %d, and this program reads %d", d.SchemaVersion, SchemaVersion), fmt.Sprintf("write %d", SchemaVersion))
	}
	if err := ValidName(d.Name); err != nil {
		c.fail("name", err.Error(), "write a short name such as my-api")
	}
	switch {
	case strings.TrimSpace(d.DisplayName) == "":
		c.fail("display_name", "is missing", "write the name that people know the provider by")
	case len(d.DisplayName) > maxDisplayBytes:
		c.fail("display_name", fmt.Sprintf("is longer than %d bytes", maxDisplayBytes), "write a shorter one")
	case !printable(d.DisplayName):
		c.fail("display_name", "has a control or invisible character", "remove it")
	}
}

// docs checks the address of a page, which may have a fragment.
func (c *checker) docs() {
	page, _, fragment := strings.Cut(c.d.Docs, "#")
	if !printable(c.d.Docs) || fragment && page == "" {
		c.fail("docs", fmt.Sprintf("%q is not a URL", c.d.Docs), "write the page where one gets a credential")
		return
	}
	c.optionalURL("docs", page)
}

// printable rejects what could move a cursor or reverse the text around it.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// kind checks that the authentication type, the flow and the sections agree.
func (c *checker) kind() {
	d := c.d
	known := c.oneOf("auth_type", string(d.AuthType), string(AuthOAuth2), string(AuthAPIKey))
	known = c.oneOf("flow", string(d.Flow), string(FlowPKCE), string(FlowDeviceCode), string(FlowDCRPKCE),
		string(FlowClientCredentials), string(FlowAPIKey)) && known
	if !known {
		return
	}
	if (d.Flow == FlowAPIKey) != (d.AuthType == AuthAPIKey) {
		c.fail("flow", fmt.Sprintf("%s does not fit auth_type %s", d.Flow, d.AuthType),
			"auth_type api_key has flow api_key, and auth_type oauth2 any other")
	}
	if d.AuthType == AuthOAuth2 && d.OAuth == nil {
		c.fail("oauth", "is missing", `auth_type oauth2 needs a section "oauth"`)
	}
	if d.AuthType == AuthAPIKey && d.APIKey == nil {
		c.fail("api_key", "is missing", `auth_type api_key needs a section "api_key"; {} has a Bearer token in Authorization`)
	}
}

// hosts checks host_url with a base URL in place of the template.
func (c *checker) hosts() {
	d := c.d
	if len(d.HostURL) == 0 {
		c.fail("host_url", "is missing", "write the hosts that may get the credential, such as api.example.com")
	}
	base := d.DefaultBaseURL()
	if base == "" || parseBaseURL(base) != nil {
		base = sampleBaseURL
	}
	for i, entry := range d.HostURL {
		path := indexed("host_url", i, len(d.HostURL))
		if strings.LastIndex(entry, BaseURLTemplate) > 0 {
			c.fail(path, BaseURLTemplate+" stands for a whole URL", "write it first, as in "+BaseURLTemplate+"/api")
			continue
		}
		msg, fix := hostProblem(substitute(entry, base))
		if msg != "" {
			c.fail(path, msg, fix)
		} else if slices.Contains(d.HostURL[:i], entry) {
			c.fail(path, fmt.Sprintf("%q is there twice", entry), "remove one of the two")
		}
	}
}

// hostProblem splits the error of a host_url entry into what and how to mend.
func hostProblem(entry string) (msg, fix string) {
	pattern, err := parseHostURL(entry)
	if err == nil {
		// Requests for it would be refused: as written, they are not below the prefix,
		// and decoded or without parameters they are.
		escaped := func(r rune) bool { return r >= utf8.RuneSelf || strings.ContainsRune(" \"<>^`{|};", r) }
		if strings.ContainsFunc(pattern.PathPrefix, escaped) {
			return fmt.Sprintf("%q: a path that requests write escaped, or with a semicolon, matches none of them", entry), "write the part of the path before that"
		}
		return "", ""
	}
	msg, fix, _ = strings.Cut(err.Error(), "; ")
	if fix == "" {
		fix = "write a host, https://host:port/path, *.example.com or " + regexPrefix + `.*\.example\.com`
	}
	return msg, fix
}

// indexed is the path of a list's element; a list of one may have been written
// without brackets.
func indexed(path string, i, n int) string {
	if n == 1 {
		return path
	}
	return fmt.Sprintf("%s[%d]", path, i)
}

func (c *checker) apiKey() {
	k := c.d.APIKey
	if k == nil {
		return
	}
	c.baseURL("api_key.base_url", k.BaseURL)
	if k.HeaderName != "" {
		c.headerName("api_key.header_name", k.HeaderName)
	}
	if k.HeaderPrefix != nil && !isHeaderText(*k.HeaderPrefix) {
		c.fail("api_key.header_prefix", "has a character that no header value has", "write plain text such as Bearer, or \"\" for none")
	}
	if strings.Contains(deref(k.HeaderPrefix), "{") {
		c.fail("api_key.header_prefix", "has a template", `write the text in front of the key, or use "inject" with a format`)
	}
	if k.KeyPattern != "" {
		if _, err := syntax.Parse(k.KeyPattern, syntax.Perl); err != nil {
			c.fail("api_key.key_pattern", err.Error(), "write an RE2 expression that matches a whole key")
		}
	}
	if !printable(k.KeyPatternHint) {
		c.fail("api_key.key_pattern_hint", "has a control or invisible character", "remove it")
	}
	c.readVariable("api_key.env_var", k.EnvVar)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// environment checks the names of variables.
func (c *checker) environment() {
	c.readVariable("client.client_id_env", c.d.Client.ClientIDEnv)
	c.readVariable("client.client_secret_env", c.d.Client.ClientSecretEnv)
	for _, key := range sorted(c.d.Export.Env) {
		path, name := join("export.env", key), c.d.Export.Env[key]
		if !slices.Contains([]string{"access_token", "refresh_token", "id_token", "api_key", FirstOfKey, SecondOfKey}, key) {
			c.fail(path, "is not a credential", "write access_token or api_key")
		}
		switch {
		case !variableName.MatchString(name):
			c.fail(path, fmt.Sprintf("%q is not the name of a variable", name), "use letters, digits and _, not a digit first")
		case isOurs(name) || steersPrograms(name):
			c.fail(path, name+" is not for credentials", "choose the variable that the provider's own tools read")
		}
	}
}

// readVariable checks a variable that a login reads. One of our own must not be
// sent to a provider as its key: the vault's key may be in it.
func (c *checker) readVariable(path, name string) {
	switch {
	case name == "":
	case !variableName.MatchString(name):
		c.fail(path, fmt.Sprintf("%q is not the name of a variable", name), "use letters, digits and _, not a digit first")
	case isOurs(name):
		c.fail(path, name+" belongs to authsome", "choose the variable that the provider's own tools read")
	}
}

func isOurs(variable string) bool { return strings.HasPrefix(strings.ToUpper(variable), "AUTHSOME_") }

// steersPrograms reports whether a variable decides what a child loads, trusts
// or connects to: a definition must not set it, not even to a placeholder.
func steersPrograms(variable string) bool {
	v := strings.ToUpper(variable)
	return strings.HasPrefix(v, "LD_") || strings.HasPrefix(v, "DYLD_") || strings.HasSuffix(v, "_PROXY") ||
		slices.Contains([]string{"PATH", "HOME", "SHELL", "IFS", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
			"CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "PYTHONPATH",
			"BASH_ENV", "ENV"}, v)
}

// forbiddenHeaders frame the message or belong to one connection (RFC 9110
// section 7.6.1): setting one smuggles requests or breaks the connection.
var forbiddenHeaders = map[string]bool{
	"connection": true, "content-length": true, "expect": true, "host": true, "http2-settings": true,
	"keep-alive": true, "te": true, "trailer": true, "transfer-encoding": true, "upgrade": true,
	"sec-websocket-accept": true, "sec-websocket-extensions": true, "sec-websocket-key": true, "sec-websocket-version": true,
}

// headerName checks the name of a header that we set.
func (c *checker) headerName(path, name string) bool {
	lower := strings.ToLower(name)
	switch {
	case name == "":
		c.fail(path, "is missing", "write the name of the header, such as X-API-Key")
	case !httpguts.ValidHeaderFieldName(name):
		c.fail(path, fmt.Sprintf("%q is not the name of a header (RFC 9110 section 5.1)", name), "write a name such as X-API-Key")
	case forbiddenHeaders[lower] || strings.HasPrefix(lower, "proxy-"):
		c.fail(path, name+" belongs to the connection or frames the message", "write the header that the API documents, such as X-API-Key")
	case strings.HasPrefix(lower, "authsome-"):
		c.fail(path, name+" is for authsome itself", "write the header that the API documents, such as X-API-Key")
	default:
		return true
	}
	return false
}

// headers checks static headers. None of them may be one of reserved.
func (c *checker) headers(path string, headers map[string]string, reserved ...string) {
	for _, name := range sorted(headers) {
		at, value := join(path, name), headers[name]
		if !c.headerName(at, name) {
			continue
		}
		switch {
		case slices.ContainsFunc(reserved, func(r string) bool { return strings.EqualFold(r, name) }):
			c.fail(at, "is not for a static header", `a credential goes in "inject"`)
		case !isHeaderText(value):
			c.fail(at, "has a character that no header value has", "write printable ASCII")
		case strings.Contains(value, "{credential"):
			c.fail(at, "is sent as it is, without templates", `a credential goes in "inject"`)
		}
	}
}

// isHeaderText reports whether a text can be sent as a header by every client:
// printable ASCII (RFC 9110 section 5.5 without obs-text and tabs).
func isHeaderText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
