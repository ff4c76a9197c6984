package oauth

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"authsome/vault/secret"
)

const (
	maxTokenBytes = 64 << 10 // of one token; no server takes a header near this size
	maxScopes     = 500
	maxExtra      = 256                        // characters of a plain field that is kept
	maxLifetime   = 100 * 365 * 24 * time.Hour // a longer one is no expiry at all, and would overflow
)

// tokens reads a token answer (RFC 6749 section 5.1 and its deviations).
func (c *Config) tokens(op string, r *reply, sent secrets, want expected) (*TokenSet, error) {
	f, err := decode(r.contentType, r.body)
	if err != nil {
		return nil, undecodable(op, r, err)
	}
	if e := failure(op, r, f, sent); e != nil {
		return nil, e
	}
	holder, name := f.at(c.tokenPath())
	if want.atTop && holder.text(name) == "" {
		holder, name = f, defaultTokenPath
	}
	set := &TokenSet{ObtainedAt: c.now()}
	for _, field := range []struct {
		name     string
		to       *secret.Text
		required bool
	}{{name, &set.AccessToken, true}, {"refresh_token", &set.RefreshToken, false}, {"id_token", &set.IDToken, false}} {
		if err := readToken(holder, field.name, field.required, field.to); err != "" {
			return nil, badResponse(op, r.status, err)
		}
	}
	hide := slices.Concat(sent, f.secrets())
	set.TokenType = tokenType(hide, holder.text("token_type"))
	if slices.Contains(provenTypes, strings.ToLower(set.TokenType)) {
		return nil, badResponse(op, r.status, "the answer's token is of type "+set.TokenType+", which needs a proof with each request")
	}
	set.ExpiresAt = expiry(holder.scalar("expires_in"), set.ObtainedAt)
	set.Scopes = granted(holder, want.scopes)
	set.Account, set.Extra = describe(f, holder, set.IDToken, hide)
	return set, nil
}

// tokenPath is where the access token is; the tokens that belong to it are beside it. A refresh token
// elsewhere in the answer belongs to another token.
func (c *Config) tokenPath() string {
	if c.OAuth.TokenPath == "" {
		return defaultTokenPath
	}
	return c.OAuth.TokenPath
}

// undecodable is the error for an answer that cannot be read. With status 5xx or 429 it is the page of
// some gateway, and the status says all.
func undecodable(op string, r *reply, err error) *Error {
	e := badResponse(op, r.status, err.Error())
	if r.status < 200 || r.status > 299 {
		e.Code = statusCode(r.status)
	}
	if kindOf("", r.status) == ErrUnavailable {
		e.kind, e.Retryable, e.RetryAfter = ErrUnavailable, true, r.retryAfter
	}
	return e
}

// readToken reads one token. What is wrong comes back in words; "" when nothing is.
func readToken(f fields, name string, required bool, to *secret.Text) string {
	value, present := f[name]
	if present {
		s, isText := value.(string)
		switch {
		case value == nil || isText && s == "":
			present = false
		case !isText:
			return "the answer's " + name + " is not a string"
		case !tokenText(s):
			return "the answer's " + name + " has characters that no token may have"
		default:
			*to = secret.New(s)
			return ""
		}
	}
	if required && !present {
		return "the answer has no " + name
	}
	return ""
}

// tokenText says whether a value is a token of bounded size in visible ASCII (RFC 6749 appendix A.12).
// A line break in it would add a header to every request that carries it.
func tokenText(s string) bool {
	if len(s) > maxTokenBytes {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// provenTypes are the token types that are of no use by themselves: a client must not use a token
// whose type it does not understand (RFC 6749 section 7.1). Other names that are not Bearer are those
// of providers that mean it.
var provenTypes = []string{"mac", "dpop", "pop"}

func tokenType(hide secrets, value string) string {
	if value == "" {
		return "Bearer"
	}
	if hide.code(value) != value {
		return "Bearer"
	}
	return value
}

// expiry reads expires_in: a number of seconds, whole or not, also as a string. What is absent, less
// than one, beyond all measure or no number sets no expiry: a token cannot be issued expired, and
// treating it as such would refresh before every request. An origin's 401 still leads to a refresh.
func expiry(value string, now time.Time) time.Time {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || math.IsNaN(seconds) || seconds < 1 || seconds > maxLifetime.Seconds() {
		return time.Time{}
	}
	return now.Add(time.Duration(seconds * float64(time.Second)))
}

// granted reads scope. Whatever the definition's separator, answers use spaces and commas, and some a
// list; no scope in use contains either.
func granted(f fields, asked []string) []string {
	var scopes []string
	for _, text := range f.list("scope") {
		for _, scope := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' }) {
			if len(scopes) < maxScopes && len(scope) <= maxExtra && tokenText(scope) && !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	if len(scopes) == 0 {
		return slices.Clone(asked)
	}
	return scopes
}

// plainFields are the fields of token answers that say where a token is good for and that are no
// secret. An unknown field is not kept: it may be another token.
var plainFields = []string{
	"account_id", "api_domain", "bot_id", "hub_domain", "hub_id", "instance_url", "login", "team_id",
	"user_id", "username", "workspace_id", "workspace_name",
}

// describe derives whose token it is and keeps the harmless plain fields.
func describe(f, holder fields, idToken secret.Text, hide secrets) (Account, map[string]string) {
	extra := map[string]string{}
	for _, name := range plainFields {
		for _, from := range []fields{f, holder} {
			if v := hide.plain(from.scalar(name), maxExtra); v != "" {
				extra[name] = v
			}
		}
	}
	c := claims(idToken)
	account := Account{
		ID:    firstText(c, "sub"),
		Label: firstText(c, "email", "preferred_username", "name"),
	}
	if account.ID == "" {
		account.ID = firstOf(extra, "user_id", "account_id", "workspace_id", "team_id", "hub_id")
	}
	if account.Label == "" {
		account.Label = firstOf(extra, "username", "login", "workspace_name", "hub_domain")
	}
	if account.Label == "" {
		account.Label = f.object("team").text("name")
	}
	account.ID, account.Label = hide.plain(account.ID, maxExtra), hide.plain(account.Label, maxExtra)
	if len(extra) == 0 {
		extra = nil
	}
	return account, extra
}

func firstOf(m map[string]string, names ...string) string {
	for _, name := range names {
		if m[name] != "" {
			return m[name]
		}
	}
	return ""
}

// claims reads an ID token's payload; empty when it is not a JSON Web Token.
func claims(idToken secret.Text) fields {
	parts := strings.Split(idToken.Reveal(), ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil || !json.Valid(payload) || len(payload) == 0 || payload[0] != '{' {
		return nil
	}
	f, err := decodeJSON(payload)
	if err != nil {
		return nil
	}
	return f
}
