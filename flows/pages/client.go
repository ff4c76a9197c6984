package pages

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"authsome/vault/secret"
)

const (
	fieldClientID     = "client_id"
	fieldClientSecret = "client_secret"
	fieldScopes       = "scopes"

	maxClientIDBytes = 1 << 10
	maxScopesBytes   = 8 << 10
)

// ClientForm describes the form that asks for an OAuth client. The zero value
// asks for a client id, a secret if there is one, and scopes.
type ClientForm struct {
	// RedirectURI is what to register with the provider; "" when the flow has
	// none.
	RedirectURI string

	// ClientID is what the field holds at first.
	ClientID string

	// RequireSecret is for providers that have no public clients.
	RequireSecret bool

	// AskBaseURL asks for the base URL as well. BaseURL is its default, or else
	// says which instance knows the client.
	AskBaseURL bool
	BaseURL    string

	// Scopes is what the login asks for unless the user changes it.
	Scopes []string

	// Separator splits what is typed as scopes, beside white space.
	Separator string
}

// ClientAnswer is what the user entered.
type ClientAnswer struct {
	ClientID     string
	ClientSecret secret.Text // zero for a public client
	BaseURL      string      // https, no trailing slash; "" when it was not asked for
	Scopes       []string    // each once; empty when the user wants none
}

// clientView is what the client page shows.
type clientView struct {
	RedirectURI   string
	ClientID      string
	RequireSecret bool
	AskBaseURL    bool
	BaseURL       string
	Site          string // the instance, when it is not asked for
	Scopes        string
	Separator     string
}

// AskClient asks for an OAuth client and waits for it. It fails with
// [ErrCancelled], [ErrClosed] or the cause of ctx's end.
func (s *Server) AskClient(ctx context.Context, c ClientForm) (ClientAnswer, error) {
	var answer ClientAnswer
	err := s.ask(ctx, &form{
		secrets: []string{fieldClientSecret},
		draw:    func(typed url.Values, wrong problems) view { return s.drawClient(c, typed, wrong) },
		read: func(values url.Values) (wrong problems) {
			answer, wrong = c.read(values)
			return wrong
		},
	})
	if err != nil {
		return ClientAnswer{}, fmt.Errorf("ask for client: %w", err)
	}
	return answer, nil
}

func (s *Server) drawClient(c ClientForm, typed url.Values, wrong problems) view {
	v := s.view("client", "Connect "+clip(s.cfg.DisplayName, maxName))
	v.Wrong = wrong
	v.Client = &clientView{
		RedirectURI: c.RedirectURI, RequireSecret: c.RequireSecret, AskBaseURL: c.AskBaseURL,
		ClientID:  again(typed, fieldClientID, c.ClientID),
		BaseURL:   again(typed, fieldBaseURL, c.BaseURL),
		Scopes:    again(typed, fieldScopes, strings.Join(c.Scopes, " ")),
		Separator: strings.TrimSpace(c.Separator),
	}
	if !c.AskBaseURL {
		v.Client.Site = clip(c.BaseURL, maxTitle)
	}
	return v
}

// read gives the answer, or what is wrong with it in the order of the page.
func (c ClientForm) read(values url.Values) (answer ClientAnswer, wrong problems) {
	note := func(field, text string) {
		if text != "" {
			wrong = append(wrong, problem{field, text})
		}
	}
	base, text := readBaseURL(c.AskBaseURL, values)
	note(fieldBaseURL, text)
	id, password := values.Get(fieldClientID), values.Get(fieldClientSecret)
	note(fieldClientID, idProblem(id))
	note(fieldClientSecret, c.secretProblem(id, password))
	scopes := words(values.Get(fieldScopes), c.Separator)
	note(fieldScopes, scopesProblem(values.Get(fieldScopes), scopes))
	if wrong != nil {
		return ClientAnswer{}, wrong
	}
	answer = ClientAnswer{ClientID: id, BaseURL: base, Scopes: scopes}
	if password != "" {
		answer.ClientSecret = secret.New(password)
	}
	return answer, nil
}

// idProblem checks a client id (RFC 6749 appendix A.1).
func idProblem(id string) string {
	switch {
	case id == "":
		return "Enter the client ID."
	case len(id) > maxClientIDBytes || !visible(id):
		return "A client ID is one line of letters, digits and signs, at most 1 KiB."
	}
	return ""
}

// secretProblem checks a client secret (RFC 6749 appendix A.2) without quoting it.
func (c ClientForm) secretProblem(id, password string) string {
	switch {
	case password == "" && c.RequireSecret:
		return "Enter the client secret."
	case len(password) > maxSecretBytes || !visible(password):
		return "A client secret is one line of letters, digits and signs, at most 16 KiB."
	case password != "" && password == id:
		return "This is the client ID again."
	}
	return ""
}

// scopesProblem checks scopes (RFC 6749 section 3.3).
func scopesProblem(typed string, scopes []string) string {
	bad := func(scope string) bool { return !visible(scope) || strings.ContainsAny(scope, `"\`) }
	for _, scope := range scopes {
		if bad(scope) {
			return "Scopes are words of letters, digits and signs, without quotes and backslashes."
		}
	}
	if len(typed) > maxScopesBytes {
		return "That is too much for scopes: more than 8 KiB."
	}
	return ""
}

// visible says whether a value is ASCII that can be printed.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}
