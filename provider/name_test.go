package provider_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"authsome/provider"
)

func TestMayBeSecret(t *testing.T) {
	names := provider.Bundled().Names()
	names = append(names, "", "opnai", "work", "oauth2", "1password", "k8s-prod", "gpt-4o", "team-2026", "ada@example.org",
		"../../etc/passwd", "ghe.corp.example", "keywords-everywhere", "GitHub", "365", "my_second_account")
	for _, name := range names {
		if provider.MayBeSecret(name) || !strings.Contains(provider.Repeat(name), name) {
			t.Errorf("%q is taken for a secret", name)
		}
	}
	for _, secret := range []string{
		"sk-abcdefghijklmnopqrstuvwxyz", "sk-proj-aB3dE5fG7hI9", "xoxb-1234567890-abc", "AKIAIOSFODNN7EXAMPLE", "12345678",
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "550e8400-e29b-41d4-a716-446655440000", "Bearer eyJhbGciOiJIUzI1NiJ9", strings.Repeat("a-", 40),
	} {
		if !provider.MayBeSecret(secret) || strings.Contains(provider.Repeat(secret), secret) {
			t.Errorf("%q is repeated", secret)
		}
	}
	// What was drawn at random is found. Of 32 bytes in base64, measured, one in
	// 20 000 or fewer could be a name.
	missed := 0
	for range 1000 {
		drawn := make([]byte, 32)
		rand.Read(drawn)
		if !provider.MayBeSecret(hex.EncodeToString(drawn)) {
			t.Errorf("%x is repeated", drawn)
		}
		if !provider.MayBeSecret(base64.RawURLEncoding.EncodeToString(drawn)) {
			missed++
		}
	}
	if missed > 5 {
		t.Errorf("%d of 1000 in base64 are repeated", missed)
	}
}
