package provider_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"authsome/provider"
)

// bundledFile reads a bundled definition as it is in the repository.
func bundledFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("definitions", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustParse(t testing.TB, text string) *provider.Definition {
	t.Helper()
	d, err := provider.Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse: %v\n%s", err, text)
	}
	return d
}

// with is a valid definition with some keys set, or removed when nil. Keys of
// sections are written "oauth.token_url".
func with(t testing.TB, base string, changes map[string]any) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(base), &m); err != nil {
		t.Fatal(err)
	}
	for path, value := range changes {
		set(m, path, value)
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func set(m map[string]any, path string, value any) {
	for i := range path {
		if path[i] == '.' {
			section, ok := m[path[:i]].(map[string]any)
			if !ok {
				section = map[string]any{}
				m[path[:i]] = section
			}
			set(section, path[i+1:], value)
			return
		}
	}
	if value == nil {
		delete(m, path)
		return
	}
	m[path] = value
}

// problems are the definition errors in err.
func problems(t testing.TB, err error) provider.Errors {
	t.Helper()
	var all provider.Errors
	if !errors.As(err, &all) {
		t.Fatalf("error %T (%v), want provider.Errors", err, err)
	}
	return all
}

const apiKeyBase = `{"schema_version":1,"name":"acme","display_name":"Acme","auth_type":"api_key","flow":"api_key",
	"host_url":"api.acme.com","api_key":{}}`

const oauthBase = `{"schema_version":1,"name":"acme","display_name":"Acme","auth_type":"oauth2","flow":"pkce",
	"host_url":"api.acme.com","oauth":{"authorization_url":"https://acme.com/authorize","token_url":"https://acme.com/token"}}`
