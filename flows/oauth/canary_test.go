package oauth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"authsome/flows/oauth"
	"authsome/vault/secret"
)

// checkText asserts that an error is bounded and visible text without a canary, however it is printed.
func checkText(t *testing.T, err error) {
	t.Helper()
	checkWithout(t, err, canary)
}

// checkWithout is checkText for any secrets.
func checkWithout(t *testing.T, err error, hidden ...string) {
	t.Helper()
	leaks := func(text string) bool {
		return slices.ContainsFunc(hidden, func(s string) bool { return strings.Contains(strings.ToLower(text), s) })
	}
	if err == nil {
		t.Error("there is no error")
		return
	}
	text := err.Error()
	if utf8.RuneCountInString(text) > 800 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("error text is not fit to be shown: %q", text)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", "err", err)
	asJSON, _ := json.Marshal(err)
	for _, printed := range []string{text, fmt.Sprintf("%+v %#v %q", err, err, err), log.String(), string(asJSON)} {
		if leaks(printed) {
			t.Errorf("a secret was printed: %s", printed)
		}
	}
	for wrapped := range chain(err) {
		if leaks(wrapped.Error()) {
			t.Errorf("a secret is in the wrapped %T: %s", wrapped, wrapped)
		}
	}
}

// chain walks over an error and all that it wraps.
func chain(err error) func(func(error) bool) {
	return func(yield func(error) bool) {
		if !yield(err) {
			return
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			chain(e.Unwrap())(yield)
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				chain(inner)(yield)
			}
		}
	}
}

// A server that echoes whatever it is sent, in every place and spelling, learns nobody else's secret
// through our errors: not from the operation's error, not from the page in the browser.
func TestNoSecretInErrors(t *testing.T) {
	spellings := map[string]func(string) string{
		"plain":  func(s string) string { return s },
		"query":  url.QueryEscape,
		"path":   url.PathEscape,
		"html":   html.EscapeString,
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"cut":    func(s string) string { return strings.Repeat("x ", 140) + s },
	}
	for name, spell := range spellings {
		for _, status := range []int{200, 400, 401, 500} {
			for _, field := range []string{"error", "error_description", "message", "token_type", "scope"} {
				echo := func(r *http.Request) (*http.Response, error) {
					sent := []string{r.URL.String(), strings.Join(r.Header["Authorization"], " ")}
					if r.Body != nil {
						body := readAll(t, r.Body)
						sent = append(sent, body)
						if values, err := url.ParseQuery(body); err == nil {
							for _, v := range values {
								sent = append(sent, v...)
							}
						}
					}
					text := ""
					for _, s := range sent {
						text += spell(s) + "\u200b "
					}
					answer := map[string]string{"error": "invalid_grant", "refresh_token": canary + "-answered"}
					answer[field] = text + canary + "-answered"
					body, _ := json.Marshal(answer)
					return response(status, "application/json", string(body)), nil
				}
				t.Run(fmt.Sprintf("%s/%d/%s", name, status, field), func(t *testing.T) { failEverywhere(t, echo) })
			}
		}
	}
}

// failEverywhere runs every operation against a server that refuses it and checks the errors.
func failEverywhere(t *testing.T, answer roundTripper) {
	t.Helper()
	for _, method := range []string{oauth.AuthPost, oauth.AuthBasic} {
		c := scripted(answer)
		c.OAuth.TokenAuthMethod = method
		auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback", "x")
		if err != nil {
			t.Fatal(err)
		}
		auth.Verifier = secret.New(canary + "-verifier")
		_, err = c.Exchange(t.Context(), auth, secret.New(canary+"/code+&"))
		checkText(t, err)
		_, err = c.Refresh(t.Context(), held)
		checkText(t, err)
		_, err = c.ClientCredentials(t.Context())
		checkText(t, err)
		_, err = c.BeginDevice(t.Context())
		checkText(t, err)
		_, err = c.Register(t.Context(), oauth.RegistrationRequest{RedirectURIs: []string{"http://127.0.0.1/"}})
		checkText(t, err)
		for _, style := range []string{oauth.RevokeRFC7009, oauth.RevokeDeletePath, oauth.RevokeBearerPost, oauth.RevokeBasicDelete} {
			c.OAuth.RevocationStyle = style
			if err := c.Revoke(t.Context(), held); err != nil { // a grant that is gone is revoked
				checkText(t, err)
			}
		}
	}
}

// The errors of net/http quote URLs and malformed answers.
func TestNoSecretInTransportErrors(t *testing.T) {
	failEverywhere(t, func(r *http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("malformed HTTP response %q for %s", canary, r.URL)
	})
	failEverywhere(t, func(r *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Delete", URL: r.URL.String(), Err: errors.New(canary)}
	})
}

// A token set that somebody logs shows nothing.
func TestTokenSetPrintsNothing(t *testing.T) {
	c := offline(200, "application/json", `{"access_token":"`+canary+`","id_token":"`+canary+`"}`)
	set, err := c.Refresh(t.Context(), held)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback")
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal([]any{set, auth})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v", set, *set, set), string(asJSON), fmt.Sprintf("%+v", c.Client)} {
		if strings.Contains(printed, canary) {
			t.Errorf("a secret was printed: %s", printed)
		}
	}
	if strings.Contains(fmt.Sprintf("%+v %s", auth, asJSON), auth.Verifier.Reveal()) {
		t.Error("the verifier was printed")
	}
}

// What the browser is shown of a failed exchange holds no secret either.
func TestNoSecretOnPage(t *testing.T) {
	c := offline(400, "application/json", `{"error":"x","error_description":"code `+canary+`-code <script>"}`)
	auth, err := c.BeginAuthorization("http://127.0.0.1:7999/callback")
	if err != nil {
		t.Fatal(err)
	}
	callback, err := oauth.NewCallback(auth, oauth.CallbackConfig{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- callback.Wait(t.Context(), exchange(c, auth))
	}()
	r := httptest.NewRequest("GET", "http://127.0.0.1:7999/callback?code="+canary+"-code&state="+auth.State.Reveal(), nil)
	r.RemoteAddr = "127.0.0.1:5"
	w := httptest.NewRecorder()
	callback.ServeHTTP(w, r)
	checkText(t, <-done)
	page := w.Body.String()
	if strings.Contains(page, canary) || strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;script&gt;") {
		t.Errorf("page = %s", page)
	}
}
