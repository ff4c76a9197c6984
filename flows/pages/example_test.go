package pages_test

import (
	"context"
	"fmt"
	"os"

	"authsome/flows/oauth"
	"authsome/flows/pages"
	"authsome/vault/secret"
)

// A login with an API key: the form, and then how it went.
func Example() {
	login := func(ctx context.Context, openBrowser func(ctx context.Context, once, url string), store func(secret.Text) error) error {
		if !pages.Display(os.Getenv) {
			return fmt.Errorf("no display: set OPENAI_API_KEY")
		}
		s, err := pages.Serve(ctx, pages.Config{Name: "openai", DisplayName: "OpenAI", Open: openBrowser})
		if err != nil {
			return err
		}
		defer s.Close()
		answer, err := s.AskKey(ctx, pages.KeyForm{Hosts: []string{"api.openai.com"}, Pattern: "sk-.+", Hint: "It starts with sk-."})
		if err == nil {
			err = store(answer.Key)
		}
		_ = s.Finish(err) // the page tells what became of it
		return err
	}
	_ = login
}

// A login with an authorization code: the client is asked for, the same tab
// goes on to the provider, and its callback ends on a page of ours.
func ExampleServer_Continue() {
	login := func(ctx context.Context, s *pages.Server, config *oauth.Config, show func(url string)) (*oauth.TokenSet, error) {
		listener, err := oauth.Listen(ctx, oauth.ListenConfig{})
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		client, err := s.AskClient(ctx, pages.ClientForm{RedirectURI: listener.RedirectURI, Scopes: config.OAuth.Scopes})
		if err != nil {
			return nil, err
		}
		config.Client = oauth.Client{ID: client.ClientID, Secret: client.ClientSecret}
		auth, err := config.BeginAuthorization(listener.RedirectURI, client.Scopes...)
		if err != nil {
			return nil, err
		}
		if !s.Continue(auth.URL) {
			show(auth.URL)
		}
		return config.AwaitTokens(ctx, listener, auth, oauth.CallbackConfig{Page: s.Result})
	}
	_ = login
}

// A login with a device code: polling ends when the user presses Cancel.
func ExampleServer_ShowDevice() {
	login := func(ctx context.Context, s *pages.Server, config *oauth.Config) (*oauth.TokenSet, error) {
		d, err := config.BeginDevice(ctx, config.OAuth.Scopes...)
		if err != nil {
			return nil, err
		}
		wait, stop, err := s.ShowDevice(ctx, pages.Device{
			UserCode: d.UserCode, VerificationURI: d.VerificationURI, VerificationURIComplete: d.VerificationURIComplete,
			ExpiresAt: d.ExpiresAt, Scopes: d.Scopes,
		})
		if err != nil {
			return nil, err
		}
		defer stop()
		tokens, err := config.PollDevice(wait, d)
		if err != nil && ctx.Err() == nil && wait.Err() != nil {
			err = context.Cause(wait)
		}
		return tokens, err
	}
	_ = login
}
