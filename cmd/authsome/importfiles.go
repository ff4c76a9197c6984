package main

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"authsome/flows/imports"
	"authsome/flows/imports/predecessor"
	"authsome/vault/secret"

	"github.com/zalando/go-keyring"
)

// awsFile is where AWS's tools keep keys.
func awsFile(getenv func(string) string) string {
	if path := getenv("AWS_SHARED_CREDENTIALS_FILE"); path != "" {
		return path
	}
	return filepath.Join(getenv("HOME"), ".aws", "credentials")
}

// ghConfigDir is where the GitHub CLI keeps its files, by the rules of
// "gh help environment".
func ghConfigDir(getenv func(string) string) string {
	if dir := getenv("GH_CONFIG_DIR"); dir != "" {
		return dir
	}
	if dir := getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "gh")
	}
	if dir := getenv("AppData"); runtime.GOOS == "windows" && dir != "" {
		return filepath.Join(dir, "GitHub CLI")
	}
	return filepath.Join(getenv("HOME"), ".config", "gh")
}

// gcloudFile is where gcloud keeps the application default credentials.
func gcloudFile(getenv func(string) string) string {
	const name = "application_default_credentials.json"
	if path := getenv("GOOGLE_APPLICATION_CREDENTIALS"); path != "" {
		return path
	}
	if dir := getenv("CLOUDSDK_CONFIG"); dir != "" {
		return filepath.Join(dir, name)
	}
	if dir := getenv("APPDATA"); runtime.GOOS == "windows" && dir != "" {
		return filepath.Join(dir, "gcloud", name)
	}
	return filepath.Join(getenv("HOME"), ".config", "gcloud", name)
}

// oldKeyring asks the system keyring for the key of the Python authsome.
func oldKeyring(ctx context.Context) func() (string, error) {
	return func() (string, error) {
		type answer struct {
			text string
			err  error
		}
		got := make(chan answer, 1)
		go func() {
			text, err := keyring.Get(predecessor.KeyringService, predecessor.KeyringUser)
			got <- answer{text, err}
		}()
		select {
		case a := <-got:
			return a.text, a.err
		case <-time.After(ghPatience):
			return "", errors.New("the system keyring stays locked")
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// ghPatience is how long the GitHub CLI may take to read a credential store,
// which may ask the user to unlock it.
const ghPatience = 60 * time.Second

// ghToken asks the GitHub CLI for a token that is in the system's credential
// store.
func ghToken(ctx context.Context) func(host, user string) (secret.Text, error) {
	return func(host, user string) (secret.Text, error) {
		path, err := exec.LookPath("gh")
		if err != nil {
			return secret.Text{}, errors.New("gh is not on PATH to ask for it")
		}
		ctx, cancel := context.WithTimeout(ctx, ghPatience)
		defer cancel()
		args := []string{"auth", "token", "--hostname", host}
		if user != "" {
			args = append(args, "--user", user)
		}
		out, err := exec.CommandContext(ctx, path, args...).Output()
		token := strings.TrimSpace(string(out))
		if err != nil || token == "" {
			return secret.Text{}, imports.ErrNoToken
		}
		return secret.New(token), nil
	}
}
