package ca_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.step.sm/crypto/jose"

	"authsome/ca"
)

const stepCAVersion = "v0.30.2"

// stepCA returns a real step-ca: the one on PATH, or one that is built from the
// Go module proxy once and kept in the user's cache.
func stepCA(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("step-ca"); err == nil {
		return path
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "authsome-test", "step-ca-"+stepCAVersion)
	path := filepath.Join(dir, "step-ca")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "install", "github.com/smallstep/certificates/cmd/step-ca@"+stepCAVersion)
	build.Env = append(os.Environ(), "GOBIN="+dir, "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build step-ca: %v\n%s", err, out)
	}
	return path
}

// signed makes a CA certificate; a nil parent makes it its own.
func signed(t *testing.T, name string, pathLen int, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(pathLen) + 7), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLen, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func certToPEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

const subCA = `{"subject": {{ toJson .Subject }}, "keyUsage": ["certSign", "crlSign"],
	"basicConstraints": {"isCA": true, "maxPathLen": %d}, "nameConstraints": {%s}}`

const constrained = `"critical": true, "permittedDNSDomains": ["example.test"], "excludedIPRanges": ["0.0.0.0/0", "::/0"]`

// startFleet runs a step-ca whose provisioners differ in what they give, and
// returns what a sidecar is told of the good one.
func startFleet(t *testing.T) ca.Fleet {
	t.Helper()
	binary := stepCA(t)
	dir := t.TempDir()
	root, rootKey := signed(t, "Fleet Root", 2, nil, nil)
	issuing, issuingKey := signed(t, "Fleet Issuing", 1, root, rootKey)
	issuingDER, err := x509.MarshalECPrivateKey(issuingKey)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := jose.GenerateJWK("EC", "P-256", "ES256", "sig", "fleet-key", 0)
	if err != nil {
		t.Fatal(err)
	}
	var provisioners []any
	for name, template := range map[string]string{
		"sidecars": fmt.Sprintf(subCA, 0, constrained), "deep": fmt.Sprintf(subCA, 1, constrained),
		"boundless": fmt.Sprintf(subCA, 0, `"critical": false`), "leaves": "",
	} {
		provisioners = append(provisioners, map[string]any{
			"type": "JWK", "name": name, "key": jwk.Public(),
			"claims":  map[string]any{"minTLSCertDuration": "10s", "maxTLSCertDuration": "30h"},
			"options": map[string]any{"x509": map[string]any{"template": template}},
		})
	}
	ln := listen(t)
	address := ln.Addr().String()
	ln.Close() // step-ca binds it next
	config, err := json.Marshal(map[string]any{
		"root": filepath.Join(dir, "root.crt"), "crt": filepath.Join(dir, "issuing.crt"), "key": filepath.Join(dir, "issuing.key"),
		"address": address, "dnsNames": []string{"127.0.0.1"}, "logger": map[string]any{},
		"authority": map[string]any{"provisioners": provisioners},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"root.crt": certToPEM(root), "issuing.crt": certToPEM(issuing), "ca.json": config,
		"issuing.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: issuingDER}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	cmd := exec.Command(binary, filepath.Join(dir, "ca.json"))
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	key, err := jwk.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	fleet := ca.Fleet{URL: "https://" + address, Roots: certToPEM(root), Provisioner: "sidecars", Key: key}
	waitHealthy(t, fleet)
	return fleet
}

func waitHealthy(t *testing.T, fleet ca.Fleet) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(fleet.Roots)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	var last error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get(fleet.URL + "/health")
		if err == nil {
			resp.Body.Close()
			return
		}
		last = err
	}
	t.Fatalf("step-ca does not come up: %v", last)
}

func TestFleet(t *testing.T) {
	fleet := startFleet(t)
	cfg := ca.Config{PermittedDNS: []string{"example.test", "other.test"}}
	t.Run("enrol", func(t *testing.T) { testEnrolled(t, fleet, cfg) })
	t.Run("renew", func(t *testing.T) { testRenewEnrolment(t, fleet, cfg) })
	t.Run("refuse", func(t *testing.T) { testEnrolRefuses(t, fleet, cfg) })
	t.Run("encrypted key", func(t *testing.T) {
		key, err := jose.ParseKey(fleet.Key)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := jose.EncryptJWK(key, []byte("pass"))
		if err != nil {
			t.Fatal(err)
		}
		fleet := fleet
		fleet.Key, fleet.Password = []byte(sealed.FullSerialize()), []byte("pass")
		if _, err := ca.Enroll(t.Context(), fleet, cfg); err != nil {
			t.Error(err)
		}
		fleet.Password = []byte("wrong")
		if _, err := ca.Enroll(t.Context(), fleet, cfg); err == nil {
			t.Error("the wrong password opens the key")
		}
	})
}

func testEnrolled(t *testing.T, fleet ca.Fleet, cfg ca.Config) {
	a, err := ca.Enroll(t.Context(), fleet, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.RootPEM(), fleet.Roots) {
		t.Errorf("clients are told to trust %s, want the fleet's root", a.RootPEM())
	}
	// Permitted here, but not by the fleet's template.
	if _, err := a.Leaf(t.Context(), "other.test"); !errors.Is(err, ca.ErrNotPermitted) || a.Permits("other.test") {
		t.Errorf("beyond the fleet's constraints: got %v, want ErrNotPermitted", err)
	}
	if changed, err := a.Renew(t.Context()); changed || err != nil {
		t.Errorf("renewed at once: %v, %v", changed, err)
	}
	good, err := a.TLSConfig(t.Context(), "api.example.test", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	leaf := leafOf(t, a, "api.example.test")
	if got := len(leaf.Certificate); got != 3 {
		t.Errorf("%d certificates sent, want the leaf, our authority and the issuing one", got)
	}
	forged, err := a.ForgeLeaf("evil.test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host   string
		server *tls.Config
		want   bool
	}{
		{"api.example.test", good, true},
		{"evil.test", &tls.Config{Certificates: []tls.Certificate{*forged}}, false},
	} {
		trust := writeTrust(t, a.RootPEM(), ca.TrustInput{ProxyURL: startProxy(t, test.server)})
		for _, client := range realClients { // here the constraints are on the path: Java too
			out, err := client.run(t, trust.Env(), test.host).CombinedOutput()
			if got := err == nil && strings.Contains(strings.ReplaceAll(string(out), "-", " "), answer); got != test.want {
				t.Errorf("%s: %s: accepted %v, want %v\n%s", client.name, test.host, got, test.want, out)
			}
		}
	}
}

func testRenewEnrolment(t *testing.T, fleet ca.Fleet, cfg ca.Config) {
	cfg.Lifetime = 10 * time.Second // step-ca backdates by a minute: the last third at once
	a, err := ca.Enroll(t.Context(), fleet, cfg)
	if err != nil {
		t.Fatal(err)
	}
	first := leafOf(t, a, "api.example.test")
	if got := first.Leaf.NotAfter; !got.Equal(a.NotAfter()) || time.Until(got) > 11*time.Second {
		t.Errorf("the leaf ends %v, the authority %v", got, a.NotAfter())
	}
	changed, err := a.Renew(t.Context())
	if err != nil || changed {
		t.Errorf("got %v, %v: clients trust the fleet's root, which stays", changed, err)
	}
	second := leafOf(t, a, "api.example.test")
	if bytes.Equal(first.Certificate[1], second.Certificate[1]) {
		t.Error("not enrolled anew")
	}

	// step-ca cannot be reached: the old certificate serves on.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Renew(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if third := leafOf(t, a, "api.example.test"); third != second {
		t.Error("a renewal that failed has left its mark")
	}
}

func testEnrolRefuses(t *testing.T, fleet ca.Fleet, cfg ca.Config) {
	stranger, err := jose.GenerateJWK("EC", "P-256", "ES256", "sig", "fleet-key", 0)
	if err != nil {
		t.Fatal(err)
	}
	strangerKey, err := stranger.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	public := stranger.Public()
	publicKey, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*ca.Fleet)
		status int
		want   string
	}{
		{"a leaf", func(f *ca.Fleet) { f.Provisioner = "leaves" }, 0, "cannot sign"},
		{"a deeper authority", func(f *ca.Fleet) { f.Provisioner = "deep" }, 0, "path length"},
		{"no constraints", func(f *ca.Fleet) { f.Provisioner = "boundless" }, 0, "constraints"},
		{"an unknown provisioner", func(f *ca.Fleet) { f.Provisioner = "nobody" }, http.StatusUnauthorized, "401"},
		{"another's key", func(f *ca.Fleet) { f.Key = strangerKey }, http.StatusUnauthorized, "401"},
		{"a public key", func(f *ca.Fleet) { f.Key = publicKey }, 0, "public"},
		{"no key", func(f *ca.Fleet) { f.Key = nil }, 0, "provisioner's key"},
		{"an unknown root", func(f *ca.Fleet) { f.Roots = newAuthority(t).RootPEM() }, 0, "unknown authority"},
		{"no root", func(f *ca.Fleet) { f.Roots = nil }, 0, "roots"},
		{"http", func(f *ca.Fleet) { f.URL = strings.Replace(f.URL, "https", "http", 1) }, 0, "https"},
		{"nobody there", func(f *ca.Fleet) { f.URL = "https://127.0.0.1:1" }, 0, "127.0.0.1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fleet := fleet
			test.change(&fleet)
			_, err := ca.Enroll(t.Context(), fleet, cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			var refused *ca.FleetError
			if errors.As(err, &refused) != (test.status != 0) || refused != nil && refused.Status != test.status {
				t.Errorf("got %v, want status %d", err, test.status)
			}
		})
	}
}
