package ca_test

import (
	"path/filepath"
	"strings"
	"testing"

	"authsome/ca"
)

// A child whose connections are redirected is told what to trust, and of no
// proxy.
func TestEnvWithoutProxy(t *testing.T) {
	a, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "trust")
	trust, err := ca.WriteTrust(dir, a.RootPEM(), ca.TrustInput{Environ: environ(map[string]string{"NO_PROXY": "intranet.test", "HOME": t.TempDir()})})
	if err != nil {
		t.Fatal(err)
	}
	env := trust.Env()
	for name, value := range env {
		if lower := strings.ToLower(name); strings.HasSuffix(lower, "_proxy") || strings.Contains(strings.ToLower(value), "proxyhost") {
			t.Errorf("%s=%s is set", name, value)
		}
	}
	for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"} {
		if got, want := env[name], filepath.Join(dir, "bundle.pem"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got, want := env["JAVA_TOOL_OPTIONS"], "-Djavax.net.ssl.trustStore="+filepath.Join(dir, "truststore.p12"); !strings.Contains(got, want) {
		t.Errorf("JAVA_TOOL_OPTIONS: got %q, want %q in it", got, want)
	}
}
