package ca_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"authsome/ca"
)

// PITFALL 36: the CA file holds our root only.
func TestBundle(t *testing.T) {
	root := newAuthority(t).RootPEM()
	corporate, second := newAuthority(t).RootPEM(), newAuthority(t).RootPEM()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), second, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("nowhere", filepath.Join(dir, "dangling")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("no DER")}))
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary")}))
	system, warnings, err := ca.Bundle(root, environ(nil))
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	base := rootsOf(t, system)
	if len(base) < 50 {
		t.Fatalf("%d certificates in the bundle: the system's are missing", len(base))
	}
	for _, test := range []struct {
		name     string
		env      map[string]string
		files    []string
		want     int // certificates that are not the system's or ours
		warnings int
	}{
		{"nothing", nil, nil, 0, 0},
		{"one file", map[string]string{"CURL_CA_BUNDLE": write(t, "c", string(corporate))}, nil, 1, 0},
		{"several variables", map[string]string{
			"SSL_CERT_FILE": write(t, "a", string(corporate)), "NODE_EXTRA_CA_CERTS": write(t, "b", string(second)+string(corporate)),
		}, nil, 2, 0},
		{"a directory", map[string]string{"REQUESTS_CA_BUNDLE": dir}, nil, 1, 0},
		{"comments and blank lines", map[string]string{"PIP_CERT": write(t, "d", "# Corporate\r\n\n"+string(corporate)+"trailing canary\n")}, nil, 1, 0},
		{"Windows line ends", map[string]string{"PIP_CERT": write(t, "w", strings.ReplaceAll(string(corporate), "\n", "\r\n"))}, nil, 1, 0},
		{"a broken certificate and a key", map[string]string{"SSL_CERT_FILE": write(t, "e", broken+private+string(corporate))}, nil, 1, 2},
		{"no PEM", map[string]string{"SSL_CERT_FILE": write(t, "f", "hello canary")}, nil, 0, 1},
		{"empty file", map[string]string{"SSL_CERT_FILE": write(t, "g", "")}, nil, 0, 0},
		{"our own root", map[string]string{"SSL_CERT_FILE": write(t, "h", string(root))}, nil, 0, 0},
		{"the Nix convention", map[string]string{"SSL_CERT_FILE": "/no-cert-file.crt"}, nil, 0, 0},
		{"further files", nil, []string{write(t, "i", string(corporate))}, 1, 0},
		{"the null device", map[string]string{"NODE_EXTRA_CA_CERTS": os.DevNull}, nil, 0, 0},
		{"a variable that is nobody's", map[string]string{"MY_CERT_FILE": "/missing"}, nil, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, warnings, err := ca.Bundle(root, environ(test.env), test.files...)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(rootsOf(t, got)) - len(base); n != test.want {
				t.Errorf("%d further certificates, want %d", n, test.want)
			}
			if len(warnings) != test.warnings {
				t.Errorf("got warnings %q, want %d", warnings, test.warnings)
			}
			seen := map[string]bool{}
			for _, cert := range rootsOf(t, got) {
				if seen[string(cert.Raw)] {
					t.Errorf("%s is there twice", cert.Subject)
				}
				seen[string(cert.Raw)] = true
			}
			if bytes.Contains(got, []byte("canary")) || bytes.Contains(got, []byte("PRIVATE")) || bytes.Contains(got, []byte("#")) {
				t.Error("the bundle holds more than certificates")
			}
		})
	}
}
