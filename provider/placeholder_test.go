package provider_test

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"authsome/provider"
)

func fakeAtSight(s string) bool {
	lower := strings.ToLower(s)
	return strings.Contains(lower, "authsome") || strings.Contains(lower, "xxxxxxxxxxxxxxxx") || strings.Contains(lower, "0000000000000000")
}

func TestPlaceholder(t *testing.T) {
	for pattern, want := range map[string]string{
		``:                                    "authsome-proxy-managed",
		`.+`:                                  "authsome-proxy-managed",
		`^sk-[A-Za-z0-9_-]{20,}$`:             "sk-authsome-proxy-managed",
		`(sk|rk)_[A-Za-z0-9_]{16,}`:           "sk_authsome_proxy_managed",
		`[a-z]{40}`:                           "authsomeproxymanagedxxxxxxxxxxxxxxxxxxxx",
		`[A-Z0-9]{20}`:                        "AUTHSOMEPROXYMANAGED",
		`[0-9a-f]{32}`:                        "00000000000000000000000000000000",
		`\d{16}`:                              "0000000000000000",
		`[A-Z]{16}`:                           "XXXXXXXXXXXXXXXX",
		`SG\.[\w-]+\.[\w-]+`:                  "SG.authsome-proxy-managed.x",
		`(AC|SK)[0-9a-f]{32}:\S+`:             "AC00000000000000000000000000000000:authsome-proxy-managed",
		`(?i)KEY-[a-z]*`:                      "KEY-authsomeproxymanaged",
		`(?:short|key_[a-z]{20,30})`:          "key_authsomeproxymanaged",
		`[0-9a-f]{8}`:                         "authsome-proxy-managed", // too short to be seen as fake
		`real`:                                "authsome-proxy-managed",
		`\bx+\b`:                              "xxxxxxxxxxxxxxxx",
		`(`:                                   "authsome-proxy-managed", // not checked here
		`[a-z]{600,700}`:                      "authsome-proxy-managed", // longer than any key
		`((((x{0,9}){0,9}){0,9}){0,1}[a]){5}`: "authsome-proxy-managed",
	} {
		d := &provider.Definition{APIKey: &provider.APIKey{KeyPattern: pattern}}
		got := d.Placeholder()
		if got != want {
			t.Errorf("placeholder for %s: %q, want %q", pattern, got, want)
		}
		if !fakeAtSight(got) {
			t.Errorf("placeholder for %s: %q could be taken for a key", pattern, got)
		}
	}
}

// TestPlaceholdersOfHalves gives each half of a key a placeholder of its own.
func TestPlaceholdersOfHalves(t *testing.T) {
	for pattern, want := range map[string]map[string]string{
		`[^:@]+@[^:@]+:\S+`: {"FIRST": "authsome-proxy-managed@x", "SECOND": "authsome-proxy-managed", "BOTH": "authsome-proxy-managed@x:x"},
		``:                  {"FIRST": "authsome-proxy-managed", "SECOND": "authsome-proxy-managed", "BOTH": "authsome-proxy-managed"},
	} {
		d := &provider.Definition{APIKey: &provider.APIKey{KeyPattern: pattern},
			Export: provider.Export{Env: map[string]string{provider.FirstOfKey: "FIRST", provider.SecondOfKey: "SECOND", "api_key": "BOTH"}}}
		if got := d.Placeholders(); !maps.Equal(got, want) {
			t.Errorf("placeholders for %s: %q, want %q", pattern, got, want)
		}
	}
}

func TestBundledPlaceholders(t *testing.T) {
	for _, e := range provider.Bundled().All() {
		p := e.Placeholder()
		if !fakeAtSight(p) {
			t.Errorf("%s: placeholder %q could be taken for a key", e.Name, p)
		}
		if e.APIKey == nil || e.APIKey.KeyPattern == "" {
			continue
		}
		if !regexp.MustCompile(`^(?:` + e.APIKey.KeyPattern + `)$`).MatchString(p) {
			t.Errorf("%s: placeholder %q does not satisfy %s", e.Name, p, e.APIKey.KeyPattern)
		}
		for field, variable := range e.Export.Env {
			if half, ok := provider.HalfOf(field, p); !ok || half == "" {
				t.Errorf("%s: there is no placeholder for %s in %q", e.Name, variable, p)
			}
		}
		if e.APIKey.KeyPatternHint == "" {
			t.Errorf("%s: key_pattern without key_pattern_hint", e.Name)
		}
	}
}
