package oauth_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/flows/oauth"
)

func TestTokenAnswer(t *testing.T) {
	const jsonType, formType = "application/json", "application/x-www-form-urlencoded"
	for _, test := range []struct {
		name, contentType, body string
		want                    func(*oauth.TokenSet) // changes the expectation below
	}{
		{"everything", jsonType, `{"access_token":"a","refresh_token":"r","token_type":"bearer","scope":"x y","expires_in":3600}`,
			func(s *oauth.TokenSet) {
				s.TokenType, s.Scopes, s.ExpiresAt = "bearer", []string{"x", "y"}, now.Add(time.Hour)
			}},
		{"no more than it must", jsonType, `{"access_token":"a","refresh_token":"r"}`, nil},
		{"wrong content type", "text/html; charset=utf-8", ` {"access_token":"a","refresh_token":"r"}`, nil},
		{"byte order mark", jsonType, "\xef\xbb\xbf{\"access_token\":\"a\",\"refresh_token\":\"r\"}\r\n", nil},
		{"form", formType, `access_token=a&refresh_token=r&scope=x%2Cy&token_type=bearer`,
			func(s *oauth.TokenSet) { s.TokenType, s.Scopes = "bearer", []string{"x", "y"} }},
		{"form as text", "text/plain", `access_token=a&refresh_token=r&expires_in=60`,
			func(s *oauth.TokenSet) { s.ExpiresAt = now.Add(time.Minute) }},
		{"expiry as a string", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":"3600"}`,
			func(s *oauth.TokenSet) { s.ExpiresAt = now.Add(time.Hour) }},
		{"expiry as a float", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":3599.5}`,
			func(s *oauth.TokenSet) { s.ExpiresAt = now.Add(3599500 * time.Millisecond) }},
		{"expiry with exponent", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":3.6e3}`,
			func(s *oauth.TokenSet) { s.ExpiresAt = now.Add(time.Hour) }},
		{"negative expiry", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":-1}`, nil},
		{"zero expiry", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":0}`, nil},
		{"huge expiry", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":99999999999999999999}`, nil},
		{"expiry beyond floats", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":1e400}`, nil},
		{"expiry beyond durations", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":1e300}`, nil},
		{"the same as a string", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":"1e300"}`, nil},
		{"the largest integer", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":9223372036854775807}`, nil},
		{"expiry at once", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":1e-9}`, nil},
		{"negative string", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":"-3600"}`, nil},
		{"no number at all", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":"NaN"}`, nil},
		{"infinite expiry", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":"Inf"}`, nil},
		{"expiry that is none", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":"never"}`, nil},
		{"null expiry", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":null}`, nil},
		{"expiry as an object", jsonType, `{"access_token":"a","refresh_token":"r","expires_in":{"s":1}}`, nil},
		{"scope as a list", jsonType, `{"access_token":"a","refresh_token":"r","scope":["x","y z",1]}`,
			func(s *oauth.TokenSet) { s.Scopes = []string{"x", "y", "z"} }},
		{"scope with commas and repeats", jsonType, `{"access_token":"a","refresh_token":"r","scope":"x, y,x"}`,
			func(s *oauth.TokenSet) { s.Scopes = []string{"x", "y"} }},
		{"empty error is none", jsonType, `{"access_token":"a","refresh_token":"r","error":"","error_description":null}`, nil},
		{"null error is none", jsonType, `{"access_token":"a","refresh_token":"r","error":null,"ok":true}`, nil},
		{"harmless repeats", jsonType, `{"access_token":"a","refresh_token":"r","x":1,"x":2}`, nil},
		{"names are exact", jsonType, `{"access_token":"a","Access_Token":"b","refresh_token":"r","EXPIRES_IN":5}`, nil},
		{"odd token type", jsonType, `{"access_token":"a","refresh_token":"r","token_type":"a b\u0000"}`, nil},
		{"message beside a token", jsonType, `{"access_token":"a","refresh_token":"r","status":"success","message":"welcome"}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := offline(200, test.contentType, test.body).Refresh(t.Context(), held)
			if err != nil {
				t.Fatal(err)
			}
			want := oauth.TokenSet{TokenType: "Bearer", Scopes: held.Scopes, ObtainedAt: now, Account: held.Account}
			if test.want != nil {
				test.want(&want)
			}
			if a, r := got.AccessToken.Reveal(), got.RefreshToken.Reveal(); a != "a" || r != "r" {
				t.Errorf("tokens = %q, %q", a, r)
			}
			if !got.ExpiresAt.Equal(want.ExpiresAt) || !got.ObtainedAt.Equal(want.ObtainedAt) {
				t.Errorf("obtained %v, expires %v, want %v, %v", got.ObtainedAt, got.ExpiresAt, want.ObtainedAt, want.ExpiresAt)
			}
			if got.TokenType != want.TokenType || !slices.Equal(got.Scopes, want.Scopes) || got.Account != want.Account {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestTokenAnswerRefused(t *testing.T) {
	const jsonType = "application/json"
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		kind                    error
		code, says              string
		retryable               bool
	}{
		{"error with status 200", jsonType, `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect."}`, 200, oauth.ErrInvalidGrant, "bad_refresh_token", "passed is incorrect", false},
		{"error and token with status 200", jsonType, `{"error":"invalid_grant","access_token":"a"}`, 200, oauth.ErrInvalidGrant, "invalid_grant", "", false},
		{"not ok with status 200", jsonType, `{"ok":false,"error":"invalid_refresh_token"}`, 200, oauth.ErrInvalidGrant, "invalid_refresh_token", "", false},
		{"not ok and silent", jsonType, `{"ok":false}`, 200, oauth.ErrRejected, "unknown_error", "", false},
		{"form error with status 200", "application/x-www-form-urlencoded", `error=incorrect_client_credentials&error_description=wrong+id`, 200, oauth.ErrInvalidClient, "incorrect_client_credentials", "wrong id", false},
		{"standard", jsonType, `{"error":"invalid_grant"}`, 400, oauth.ErrInvalidGrant, "invalid_grant", "", false},
		{"client", jsonType, `{"error":"invalid_client"}`, 401, oauth.ErrInvalidClient, "invalid_client", "", false},
		{"status and message", jsonType, `{"status":"BAD_REFRESH_TOKEN","message":"missing or unknown refresh token"}`, 400, oauth.ErrInvalidGrant, "BAD_REFRESH_TOKEN", "missing or unknown", false},
		{"error as an object", jsonType, `{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"no"}}`, 400, oauth.ErrRejected, "INVALID_ARGUMENT", "no", false},
		{"error as true", jsonType, `{"error":true,"message":"no"}`, 200, oauth.ErrRejected, "unknown_error", "no", false},
		{"error as a number", jsonType, `{"error":190,"message":"no"}`, 200, oauth.ErrRejected, "190", "no", false},
		{"error that is no word", jsonType, `{"error":"<b>\u0007\u202e no"}`, 400, oauth.ErrRejected, "unknown_error", "", false},
		{"unauthorised and silent", jsonType, `{}`, 401, oauth.ErrRejected, "http_401", "", false},
		{"rate limit", jsonType, `{"error":"rate_limited"}`, 429, oauth.ErrUnavailable, "rate_limited", "", true},
		{"server error", jsonType, `{"error":"server_error"}`, 500, oauth.ErrUnavailable, "server_error", "", true},
		{"grant error with status 500", jsonType, `{"error":"invalid_grant"}`, 500, oauth.ErrInvalidGrant, "invalid_grant", "", false},
		{"page of a gateway", "text/html", `<html>bad gateway`, 502, oauth.ErrUnavailable, "http_502", "web page", true},
		{"web page", "text/html", `<!doctype html><title>Log in</title>`, 200, oauth.ErrBadResponse, "bad_response", "web page", false},
		{"web page without markup first", "text/html", `Log in`, 200, oauth.ErrBadResponse, "bad_response", "web page", false},
		{"not found page", "text/html", `<h1>404`, 404, oauth.ErrBadResponse, "http_404", "web page", false},
		{"nothing", jsonType, ``, 200, oauth.ErrBadResponse, "bad_response", "empty", false},
		{"no content", "", ``, 204, oauth.ErrBadResponse, "bad_response", "empty", false},
		{"text", "text/plain", `hello`, 200, oauth.ErrBadResponse, "bad_response", "not a JSON object", false},
		{"list", jsonType, `[{"access_token":"a"}]`, 200, oauth.ErrBadResponse, "bad_response", "not a JSON object", false},
		{"half", jsonType, `{"access_token":"a`, 200, oauth.ErrBadResponse, "bad_response", "not valid JSON", false},
		{"trailing", jsonType, `{"access_token":"a"}{"access_token":"b"}`, 200, oauth.ErrBadResponse, "bad_response", "not valid JSON", false},
		{"no token", jsonType, `{"token_type":"bearer"}`, 200, oauth.ErrBadResponse, "bad_response", "no access_token", false},
		{"null token", jsonType, `{"access_token":null}`, 200, oauth.ErrBadResponse, "bad_response", "no access_token", false},
		{"empty token", jsonType, `{"access_token":""}`, 200, oauth.ErrBadResponse, "bad_response", "no access_token", false},
		{"token in other letters", jsonType, `{"Access_Token":"a"}`, 200, oauth.ErrBadResponse, "bad_response", "no access_token", false},
		{"token as a number", jsonType, `{"access_token":12345}`, 200, oauth.ErrBadResponse, "bad_response", "not a string", false},
		{"token with a line break", jsonType, `{"access_token":"a\r\nX-Evil: 1"}`, 200, oauth.ErrBadResponse, "bad_response", "characters", false},
		{"token with NUL", jsonType, `{"access_token":"a\u0000b"}`, 200, oauth.ErrBadResponse, "bad_response", "characters", false},
		{"refresh token with a line break", jsonType, `{"access_token":"a","refresh_token":"r\nx"}`, 200, oauth.ErrBadResponse, "bad_response", "characters", false},
		{"form token with a line break", "application/x-www-form-urlencoded", `access_token=a%0d%0aX-Evil:+1`, 200, oauth.ErrBadResponse, "bad_response", "characters", false},
		{"token that needs a proof", jsonType, `{"access_token":"a","token_type":"mac","mac_key":"canary-key"}`, 200, oauth.ErrBadResponse, "bad_response", "type mac", false},
		{"token that needs another", jsonType, `{"access_token":"a","token_type":"DPoP"}`, 200, oauth.ErrBadResponse, "bad_response", "type DPoP", false},
		{"token with a space", jsonType, `{"access_token":"a b"}`, 200, oauth.ErrBadResponse, "bad_response", "characters", false},
		{"token beyond ASCII", jsonType, `{"access_token":"ä"}`, 200, oauth.ErrBadResponse, "bad_response", "characters", false},
		{"bad refresh token", jsonType, `{"access_token":"a","refresh_token":{"x":1}}`, 200, oauth.ErrBadResponse, "bad_response", "refresh_token is not a string", false},
		{"huge token", jsonType, `{"access_token":"` + strings.Repeat("a", 70_000) + `"}`, 200, oauth.ErrBadResponse, "bad_response", "characters", false},
		{"token twice", jsonType, `{"access_token":"a","access_token":"b"}`, 200, oauth.ErrBadResponse, "bad_response", "access_token twice", false},
		{"error twice", jsonType, `{"error":"x","access_token":"b","error":null}`, 200, oauth.ErrBadResponse, "bad_response", "error twice", false},
		{"token twice in a form", "application/x-www-form-urlencoded", `access_token=a&access_token=b`, 200, oauth.ErrBadResponse, "bad_response", "access_token twice", false},
		{"deep", jsonType, `{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, 200, oauth.ErrBadResponse, "bad_response", "nested", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := offline(test.status, test.contentType, test.body).Refresh(t.Context(), held)
			e := failureOf(t, err, test.kind)
			if e.Code != test.code || !strings.Contains(e.Description, test.says) {
				t.Errorf("got %q %q, want %q %q", e.Code, e.Description, test.code, test.says)
			}
			if e.Status != test.status || e.Retryable != test.retryable || e.AnswerLost {
				t.Errorf("got %+v, want status %d, retryable %v", e, test.status, test.retryable)
			}
		})
	}
}

// A refresh keeps what the answer does not replace, except the expiry.
func TestRefreshKeeps(t *testing.T) {
	got, err := offline(200, "application/json", `{"access_token":"new"}`).Refresh(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	if !got.RefreshToken.Equal(held.RefreshToken) {
		t.Error("the refresh token was lost")
	}
	if !slices.Equal(got.Scopes, held.Scopes) || got.Account != held.Account {
		t.Errorf("got %v", got)
	}
	if !got.ExpiresAt.IsZero() {
		t.Errorf("the old expiry was kept: %v", got.ExpiresAt)
	}
	if _, err := offline(200, "", "").Refresh(t.Context(), &oauth.TokenSet{}); err == nil {
		t.Error("a refresh without a refresh token succeeded")
	}
}

// With a token path, what belongs to the token is what is beside it.
func TestTokenPath(t *testing.T) {
	const both = `{"ok":true,"access_token":"bot","refresh_token":"bot-refresh","expires_in":60,"scope":"bot:x",
		"authed_user":{"id":"U1","access_token":"user","refresh_token":"user-refresh","expires_in":3600,"scope":"user:x,user:y"},
		"team":{"id":"T1","name":"Analytical Engines"}}`
	c := offline(200, "application/json", both)
	c.OAuth.TokenPath = "authed_user.access_token"
	got, err := c.Refresh(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	if got.AccessToken.Reveal() != "user" || got.RefreshToken.Reveal() != "user-refresh" ||
		!got.ExpiresAt.Equal(now.Add(time.Hour)) || !slices.Equal(got.Scopes, []string{"user:x", "user:y"}) {
		t.Errorf("got %q %q %v %q", got.AccessToken.Reveal(), got.RefreshToken.Reveal(), got.ExpiresAt, got.Scopes)
	}
	if got.Account.Label != "Analytical Engines" {
		t.Errorf("account = %+v", got.Account)
	}

	for name, body := range map[string]string{
		"missing": `{"access_token":"bot"}`, "not an object": `{"access_token":"bot","authed_user":"x"}`,
		"empty": `{"access_token":"bot","authed_user":{"id":"U1"}}`,
	} {
		c := offline(200, "application/json", body)
		c.OAuth.TokenPath = "authed_user.access_token"
		auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exchange(t.Context(), auth, held.AccessToken); err == nil {
			t.Errorf("%s: a login took another token in place of the one at the path", name)
		}
		// The answer to a refresh has only the token that was refreshed, and may have it at the top.
		if got, err := c.Refresh(t.Context(), held); err != nil || got.AccessToken.Reveal() != "bot" {
			t.Errorf("%s: refresh: %v", name, err)
		}
	}
}

func TestAccount(t *testing.T) {
	idToken := func(payload string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".sig"
	}
	for _, test := range []struct {
		name, body string
		want       oauth.Account
		extra      string
	}{
		{"e-mail", `"id_token":"` + idToken(`{"sub":"42","email":"ada@example.test","name":"Ada"}`) + `"`, oauth.Account{ID: "42", Label: "ada@example.test"}, "map[]"},
		{"user name", `"id_token":"` + idToken(`{"sub":"42","preferred_username":"ada"}`) + `"`, oauth.Account{ID: "42", Label: "ada"}, "map[]"},
		{"workspace", `"workspace_id":"w1","workspace_name":"Engines","bot_id":"b"`, oauth.Account{ID: "w1", Label: "Engines"}, "map[bot_id:b workspace_id:w1 workspace_name:Engines]"},
		{"number", `"hub_id":7,"user_id":12`, oauth.Account{ID: "12"}, "map[hub_id:7 user_id:12]"},
		{"instance", `"instance_url":"https://eu.example.test","signing_secret":"x"`, oauth.Account{}, "map[instance_url:https://eu.example.test]"},
		{"control characters", `"username":"a\u001b[31mda\u202e"`, oauth.Account{Label: "a [31mda"}, "map[username:a [31mda]"},
		{"token as a name", `"username":"new-token"`, oauth.Account{}, "map[]"},
		{"not a token", `"id_token":"abc"`, oauth.Account{}, "map[]"},
		{"payload that is no object", `"id_token":"` + idToken(`[]`) + `"`, oauth.Account{}, "map[]"},
		{"payload that is no base64", `"id_token":"a.!.c"`, oauth.Account{}, "map[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			current := &oauth.TokenSet{RefreshToken: held.RefreshToken}
			got, err := offline(200, "application/json", `{"access_token":"new-token",`+test.body+`}`).Refresh(t.Context(), current)
			if err != nil {
				t.Fatal(err)
			}
			if got.Account != test.want || fmt.Sprint(got.Extra) != test.extra {
				t.Errorf("got %+v %v, want %+v %v", got.Account, got.Extra, test.want, test.extra)
			}
		})
	}
}

// Whatever a token endpoint answers, a token set is usable and an error is fit to be shown.
func FuzzTokenAnswer(f *testing.F) {
	for _, seed := range []struct {
		contentType, body string
		status            int
	}{
		{"application/json", `{"access_token":"a","refresh_token":"r","expires_in":3600,"scope":"x y"}`, 200},
		{"application/json", `{"error":"invalid_grant","error_description":"` + canary + `-old-refresh"}`, 400},
		{"application/x-www-form-urlencoded", `access_token=a&expires_in=-1`, 200},
		{"text/plain", `error=bad_verification_code&error_description=x%0Ay`, 200},
		{"text/html", `<html>`, 502},
		{"application/json", "\xef\xbb\xbf{\"a\":{\"access_token\":\"\u202e\"},\"expires_in\":\"1e400\"}", 200},
		{"application/json", `{"access_token":"a","id_token":"e30.eyJzdWIiOiIxIn0.x","team":{"name":"x"}}`, 200},
		{"application/json", `{"ok":false,"error":{"type":"x","message":"y"}}`, 299},
		{"", "", 204},
	} {
		f.Add(seed.contentType, seed.body, seed.status)
	}
	f.Fuzz(func(t *testing.T, contentType, body string, status int) {
		if status < 200 || status > 599 {
			return
		}
		c := offline(status, contentType, body)
		set, err := c.Refresh(t.Context(), held)
		if (set == nil) == (err == nil) {
			t.Fatalf("got %v and %v", set, err)
		}
		if err != nil {
			checkWithout(t, err, held.RefreshToken.Reveal(), held.AccessToken.Reveal(), canaryClient.Secret.Reveal())
			return
		}
		token := set.AccessToken.Reveal()
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
			t.Errorf("unusable token %q", token)
		}
		if !set.ExpiresAt.IsZero() && !set.ExpiresAt.After(now.Add(-time.Second)) {
			t.Errorf("expires at %v, before it was issued", set.ExpiresAt)
		}
		if set.RefreshToken.IsZero() || set.TokenType == "" {
			t.Errorf("incomplete: %+v", set)
		}
	})
}
