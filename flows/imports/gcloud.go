package imports

import (
	"encoding/json"
	"fmt"

	"authsome/vault/secret"
)

// adc is a credentials file of Google's, of which the one that
// "gcloud auth application-default login" writes has type authorized_user.
type adc struct {
	Type         string `json:"type"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	RefreshToken string `json:"refresh_token"`
	Account      string `json:"account"`
	Universe     string `json:"universe_domain"`
}

// defaultUniverse is Google's own cloud. Others have other endpoints.
const defaultUniverse = "googleapis.com"

// FromGcloud reads an application_default_credentials.json. It holds a refresh
// token and the client that it was issued to; the access token comes with the
// first refresh.
func FromGcloud(data []byte) (Found, error) {
	var file adc
	if err := json.Unmarshal(data, &file); err != nil {
		return Found{}, fmt.Errorf("%w: it is not JSON", ErrFormat) // the cause could quote a token
	}
	switch {
	case file.Type != "authorized_user":
		return Found{}, fmt.Errorf("%w: credentials of type %.40q; only those of a person, authorized_user, are taken over", ErrNothing, file.Type)
	case file.RefreshToken == "" || file.ClientID == "":
		return Found{}, fmt.Errorf("%w: it has no refresh_token or no client_id", ErrFormat)
	case file.Universe != "" && file.Universe != defaultUniverse:
		return Found{}, fmt.Errorf("%w: credentials for %.60q, not for %s", ErrNothing, file.Universe, defaultUniverse)
	}
	f := Found{Provider: "google", Where: "application default credentials", RefreshToken: secret.New(file.RefreshToken),
		ClientID: file.ClientID, TokenType: "Bearer"}
	if file.ClientSecret != "" {
		f.ClientSecret = secret.New(file.ClientSecret)
	}
	f.Account.Label = file.Account
	return f, nil
}
