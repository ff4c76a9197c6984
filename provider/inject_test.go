package provider_test

import (
	"testing"

	"authsome/provider"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestInjects(t *testing.T) {
	for _, tc := range []struct {
		name    string
		base    string
		changes map[string]any
		want    []provider.Inject
	}{
		{"oauth2", oauthBase, nil, []provider.Inject{{Manner: "bearer", Format: "{credential}"}}},
		{"api key", apiKeyBase, nil, []provider.Inject{{Manner: "header", Name: "Authorization", Format: "Bearer {credential}"}}},
		{"own header", apiKeyBase, map[string]any{"api_key.header_name": "X-Key", "api_key.header_prefix": ""}, []provider.Inject{{Manner: "header", Name: "X-Key", Format: "{credential}"}}},
		{"own prefix", apiKeyBase, map[string]any{"api_key.header_prefix": "Token "}, []provider.Inject{{Manner: "header", Name: "Authorization", Format: "Token {credential}"}}},
		{"inject wins", apiKeyBase, map[string]any{"inject": map[string]any{"manner": "query", "name": "key"}}, []provider.Inject{{Manner: "query", Name: "key", Format: "{credential}"}}},
		{"basic has no format", apiKeyBase, map[string]any{"inject": map[string]any{"manner": "basic", "username": "{credential}"}}, []provider.Inject{{Manner: "basic", Username: "{credential}"}}},
		{"oauth2 with a key section", oauthBase, map[string]any{"api_key.header_name": "X-Key"}, []provider.Inject{{Manner: "bearer", Format: "{credential}"}}},
	} {
		got := mustParse(t, with(t, tc.base, tc.changes)).Injects()
		if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreUnexported(provider.Inject{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestInjectsFor(t *testing.T) {
	all := []provider.Inject{{Manner: "bearer"}, {Manner: "query", Name: "k", HostURL: []string{"b.com"}}}
	for host, want := range map[string]string{"a.com": "bearer", "b.com": "query"} {
		if got := provider.InjectsFor(all, host); len(got) != 1 || got[0].Manner != want {
			t.Errorf("InjectsFor(%s) = %+v, want %s", host, got, want)
		}
	}
}
