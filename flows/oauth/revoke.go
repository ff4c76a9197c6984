package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"authsome/vault/secret"
)

// Revocation styles: how a definition says that its provider wants tokens taken back.
const (
	// RevokeRFC7009 posts each token with the client's credentials. The default.
	RevokeRFC7009 = "rfc7009"
	// RevokeDeletePath sends DELETE to revocation_url with the refresh token as one more path segment.
	RevokeDeletePath = "delete_path"
	// RevokeBearerPost posts nothing but the access token in the Authorization header.
	RevokeBearerPost = "bearer_post"
	// RevokeBasicDelete sends DELETE with Basic client authentication and {"access_token":…} in the
	// body; {client_id} in revocation_url is substituted.
	RevokeBasicDelete = "basic_delete"
)

// Revoke takes the tokens back at the provider: the refresh token first, because it can make new
// access tokens, then the access token. A token that the provider no longer knows counts as revoked.
// All that went wrong is returned, once where it is the same; nothing is retried.
func (c *Config) Revoke(ctx context.Context, tokens *TokenSet) error {
	const op = "revoke"
	if c.OAuth.RevocationURL == "" {
		return unsupported(op, "the definition has no revocation_url")
	}
	switch c.OAuth.RevocationStyle {
	case "", RevokeRFC7009:
		refresh := c.revokeToken(ctx, op, "refresh_token", tokens.RefreshToken, tokens.AccessToken)
		access := c.revokeToken(ctx, op, "access_token", tokens.AccessToken, tokens.RefreshToken)
		if refresh != nil && access != nil && refresh.Error() != access.Error() {
			return fmt.Errorf("%w; %w", refresh, access)
		}
		return cmp.Or(refresh, access)
	case RevokeDeletePath:
		if tokens.RefreshToken.IsZero() {
			return unsupported(op, "the provider revokes refresh tokens only, and there is none")
		}
		endpoint := strings.TrimRight(c.OAuth.RevocationURL, "/") + "/" + url.PathEscape(tokens.RefreshToken.Reveal())
		return c.revoke(ctx, outgoing{
			op: op, method: http.MethodDelete, url: endpoint, header: c.headers(),
			secrets: secretsOf(tokens.RefreshToken),
		})
	case RevokeBearerPost:
		return c.revokeBearer(ctx, op, tokens.AccessToken)
	case RevokeBasicDelete:
		return c.revokeBasic(ctx, op, tokens.AccessToken)
	}
	return unsupported(op, "the revocation_style is not known")
}

// revokeToken is RFC 7009 section 2.1. The other token may be quoted as well by an endpoint that knows
// the two belong together.
func (c *Config) revokeToken(ctx context.Context, op, hint string, token, other secret.Text) error {
	if token.IsZero() {
		return nil
	}
	p := params{}
	p.set("token", token.Reveal())
	p.set("token_type_hint", hint)
	return c.revoke(ctx, c.post(op, c.OAuth.RevocationURL, p, token, other))
}

func (c *Config) revokeBearer(ctx context.Context, op string, token secret.Text) error {
	if token.IsZero() {
		return unsupported(op, "the provider revokes access tokens only, and there is none")
	}
	header := c.headers()
	header.Set("Authorization", "Bearer "+token.Reveal())
	header.Set("Content-Type", formType)
	return c.revoke(ctx, outgoing{
		op: op, method: http.MethodPost, url: c.OAuth.RevocationURL, header: header, secrets: secretsOf(token),
	})
}

func (c *Config) revokeBasic(ctx context.Context, op string, token secret.Text) error {
	if token.IsZero() {
		return unsupported(op, "the provider revokes access tokens only, and there is none")
	}
	header := c.headers()
	header.Set("Authorization", basic(c.Client))
	header.Set("Content-Type", jsonType)
	body, _ := json.Marshal(map[string]string{"access_token": token.Reveal()})
	return c.revoke(ctx, outgoing{
		op: op, method: http.MethodDelete, header: header, body: body,
		url:     strings.ReplaceAll(c.OAuth.RevocationURL, "{client_id}", url.PathEscape(c.Client.ID)),
		secrets: c.sent(header, token),
	})
}

// revoke sends the request. RFC 7009 section 2.2 lets the answer's body be anything, but an error in
// it is believed: some endpoints answer 200 to what they refuse.
func (c *Config) revoke(ctx context.Context, out outgoing) error {
	r, err := c.send(ctx, out)
	if err != nil {
		return err
	}
	f, undecoded := decode(r.contentType, r.body)
	e := failure(out.op, r, f, out.secrets)
	switch {
	case e == nil:
		return nil
	case e.Code == "invalid_token", errors.Is(e, ErrInvalidGrant): // it is gone, which is what was wanted
		return nil
	case undecoded != nil && len(r.body) > 0:
		return undecodable(out.op, r, undecoded)
	}
	return e
}
