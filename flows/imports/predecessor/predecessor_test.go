package predecessor_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"authsome/flows/imports"
	"authsome/flows/imports/importstest"
	"authsome/flows/imports/predecessor"
)

const oldCanary = "canary-of-the-old-home"

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// oldRecords are what a profile of the old program holds.
func oldRecords() map[string]map[string]any {
	connection := func(provider, name string, more map[string]any) map[string]any {
		r := map[string]any{"schema_version": 2, "provider": provider, "profile": "default", "connection_name": name, "auth_type": "oauth2",
			"status": "connected", "base_url": nil, "scopes": nil, "refresh_token": nil, "token_type": nil, "expires_at": nil,
			"account": map[string]any{"id": nil, "label": nil}, "metadata": map[string]any{}}
		for k, v := range more {
			r[k] = v
		}
		return r
	}
	return map[string]map[string]any{
		"profile:default:openai:connection:default": connection("openai", "default", map[string]any{"auth_type": "api_key", "api_key": oldCanary + "-key"}),
		"profile:default:github:metadata":           {"default_connection": "work", "connection_names": []string{"default", "work"}},
		"profile:default:github:client":             {"client_id": "client", "client_secret": oldCanary + "-client"},
		"profile:default:github:connection:default": connection("github", "default", map[string]any{"access_token": oldCanary + "-access",
			"refresh_token": oldCanary + "-refresh", "token_type": "Bearer", "scopes": []string{"repo"}, "expires_at": "2026-05-01T15:40:22.123456Z",
			"obtained_at": "2026-05-01T14:40:22", "account": map[string]any{"id": "1", "label": "ada"}, "base_url": "https://ghe.example"}),
		"profile:default:github:connection:work":      connection("github", "work", map[string]any{"access_token": oldCanary + "-work"}),
		"profile:default:google:connection:gone":      connection("google", "gone", map[string]any{"access_token": oldCanary, "status": "revoked"}),
		"profile:default:slack:connection:late":       connection("slack", "late", map[string]any{"access_token": oldCanary, "expires_at": "2026-05-01T15:40:22+00:00"}),
		"profile:default:linear:connection:empty":     connection("linear", "empty", nil),
		"profile:default:linear:connection:../../up":  connection("linear", "../../up", map[string]any{"access_token": oldCanary}),
		"profile:default:linear:connection:odd":       connection("linear", "odd", map[string]any{"access_token": oldCanary, "scopes": 7}),
		"profile:default:linear:state":                {"last_refresh_at": nil},
		"profile:elsewhere:openai:connection:default": connection("openai", "default", map[string]any{"api_key": oldCanary}),
	}
}

func TestRead(t *testing.T) {
	for _, generation := range []importstest.Generation{importstest.Fields, importstest.Records} {
		dir := t.TempDir()
		home := importstest.Home{Generation: generation, Records: map[string]map[string]map[string]any{"default": oldRecords(), "empty": {}}}
		home.Write(t, dir)
		if !imports.IsPredecessor(dir) {
			t.Error("it is not seen for what it is")
		}
		found, skipped, err := predecessor.Read(t.Context(), dir, "default", now, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, strings.ReplaceAll(fmt.Sprintf("%s %s key=%s access=%s refresh=%s client=%s/%s base=%s account=%s/%s %v %v %s", f.Provider, f.Connection,
				f.APIKey.Reveal(), f.AccessToken.Reveal(), f.RefreshToken.Reveal(), f.ClientID, f.ClientSecret.Reveal(), f.BaseURL,
				f.Account.ID, f.Account.Label, f.Scopes, f.KeepClient, f.ExpiresAt.Format(time.RFC3339)), oldCanary, "C"))
		}
		want := []string{
			"github work key= access=C-work refresh= client=client/C-client base= account=/ [] true 0001-01-01T00:00:00Z",
			"github default key= access=C-access refresh=C-refresh client=client/C-client base=https://ghe.example account=1/ada [repo] true 2026-05-01T15:40:22Z",
			"openai default key=C-key access= refresh= client=/ base= account=/ [] true 0001-01-01T00:00:00Z",
		}
		if !slices.Equal(got, want) {
			t.Errorf("generation %d:\ngot  %s\nwant %s", generation, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
		reasons := map[string]string{}
		for _, s := range skipped {
			reasons[s.Where] = s.Reason
		}
		for where, reason := range map[string]string{"google/gone": "it is revoked", "slack/late": "it has expired and cannot be renewed",
			"linear/empty": "it holds no credential", "linear/odd": "its record has fields of another kind"} {
			if reasons[where] != reason {
				t.Errorf("%s is skipped because %q, want %q", where, reasons[where], reason)
			}
		}
		if len(skipped) != 5 || reasons["linear/../../up"] == "" {
			t.Errorf("skipped %v", reasons)
		}
		if found, _, err := predecessor.Read(t.Context(), dir, "empty", now, nil); err != nil || len(found) > 0 {
			t.Errorf("an empty profile: %v", err)
		}
		if _, _, err := predecessor.Read(t.Context(), dir, "nobody", now, nil); !errors.Is(err, imports.ErrNothing) {
			t.Errorf("no such profile: %v", err)
		}
	}
}

func TestReadKey(t *testing.T) {
	dir := t.TempDir()
	home := importstest.Home{Generation: importstest.Records, Keyring: true, Records: map[string]map[string]map[string]any{"default": oldRecords()}}
	home.Write(t, dir)
	key := base64.StdEncoding.EncodeToString(home.Key)
	ask := func(answer string, err error) func() (string, error) {
		return func() (string, error) { return answer, err }
	}
	if found, _, err := predecessor.Read(t.Context(), dir, "default", now, ask(key, nil)); err != nil || len(found) != 3 {
		t.Errorf("from the keyring: %d, %v", len(found), err)
	}
	locked := errors.New("locked")
	other := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, tc := range map[string]struct {
		from func() (string, error)
		want error
	}{"locked": {ask("", locked), locked}, "another key": {ask(other, nil), predecessor.ErrKey},
		"short": {ask("c2hvcnQ=", nil), predecessor.ErrKey}, "not base64": {ask("?", nil), predecessor.ErrKey}} {
		if _, _, err := predecessor.Read(t.Context(), dir, "default", now, tc.from); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := predecessor.Read(t.Context(), dir, "default", now, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "master.key"), []byte("{"+oldCanary), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := predecessor.Read(t.Context(), dir, "default", now, nil); !errors.Is(err, imports.ErrFormat) || strings.Contains(err.Error(), oldCanary) {
		t.Errorf("a key file that is none: %v", err)
	}
	if imports.IsPredecessor(t.TempDir()) {
		t.Error("an empty directory is a home")
	}
}

func TestReadDamaged(t *testing.T) {
	dir := t.TempDir()
	home := importstest.Home{Generation: importstest.Records, Records: map[string]map[string]map[string]any{"default": oldRecords()}}
	home.Write(t, dir)
	path := filepath.Join(dir, "profiles", "default", "store.db")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, b[:len(b)-100], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if found, _, err := predecessor.Read(t.Context(), dir, "default", now, nil); !errors.Is(err, imports.ErrFormat) || !strings.Contains(err.Error(), path) || len(found) > 0 {
		t.Errorf("%d found, %v", len(found), err)
	}
}
