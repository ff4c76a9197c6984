package ca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.step.sm/crypto/jose"
)

const (
	// signTimeout bounds one request to step-ca, which signs in milliseconds.
	signTimeout = 30 * time.Second
	// signAnswerBytes bounds its answer: a chain with many constraints.
	signAnswerBytes = 1 << 20
	// tokenLifetime is how long a one-time token may be used.
	tokenLifetime = 5 * time.Minute
)

// Fleet is a step-ca that lends its name to many sidecars: each gets a
// short-lived authority of its own (path length 0) below the fleet's issuing
// authority (1) and root (2). Clients trust the fleet's root, once.
//
// What a sidecar's authority may vouch for is the provisioner's template to say:
// a CA with path length 0 and critical name constraints. Anything else is refused.
type Fleet struct {
	// URL of step-ca, https.
	URL string
	// Roots are PEM: the fleet's roots, by which clients verify us and we step-ca.
	Roots []byte
	// Provisioner is the name of a JWK provisioner.
	Provisioner string
	// Key is the provisioner's private key, a JWK, encrypted with Password or not.
	Key      []byte
	Password []byte
	// Transport reaches step-ca; nil means directly, trusting Roots.
	Transport http.RoundTripper
}

// A FleetError is returned when step-ca refuses to sign.
type FleetError struct {
	Status  int    // HTTP
	Message string // as step-ca words it
}

func (e *FleetError) Error() string {
	return fmt.Sprintf("step-ca answered %d: %q", e.Status, e.Message)
}

// Enroll makes an authority that a fleet's step-ca vouches for. Its key is made
// here, in memory, and never leaves. It issues for hosts that both cfg and the
// constraints given by step-ca permit.
//
// Renew enrols again before the certificate ends; its leaves end with it.
func Enroll(ctx context.Context, fleet Fleet, cfg Config) (*Authority, error) {
	a, err := newAuthority(cfg)
	if err != nil {
		return nil, err
	}
	e, err := newEnrolment(fleet, a.cfg)
	if err != nil {
		return nil, fmt.Errorf("enrol with the fleet: %w", err)
	}
	a.enrolled, a.generate = true, e.generate
	g, err := a.generate(ctx)
	if err != nil {
		return nil, err
	}
	a.current.Store(g)
	return a, nil
}

// renewEnrolment asks for a new certificate in the last third of the old one's
// life, which serves on should that fail. The caller holds a.mu.
func (a *Authority) renewEnrolment(ctx context.Context) (changed bool, err error) {
	current := a.current.Load()
	if !due(current, a.cfg.Clock(), publishBefore) {
		return false, nil
	}
	g, err := a.generate(ctx)
	if err != nil {
		return false, err
	}
	return !g.anchor.Equal(current.anchor), a.replace(g, roots{})
}

// enrolment is how to get a signing certificate from a fleet.
type enrolment struct {
	fleet  Fleet
	cfg    Config
	sign   string // the endpoint: also the audience of the tokens
	signer jose.Signer
	roots  *x509.CertPool
	http   *http.Client
}

func newEnrolment(fleet Fleet, cfg Config) (*enrolment, error) {
	u, err := url.Parse(fleet.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("step-ca's URL %q is not https://host", fleet.URL)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(fleet.Roots) {
		return nil, errors.New("the fleet's roots hold no PEM certificate")
	}
	key, err := jose.ParseKey(fleet.Key, jose.WithPassword(fleet.Password))
	if err != nil {
		return nil, fmt.Errorf("read the provisioner's key: %w", err)
	}
	if key.IsPublic() {
		return nil, errors.New("the provisioner's key is a public one")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key.Key},
		new(jose.SignerOptions).WithType("JWT").WithHeader("kid", key.KeyID))
	if err != nil {
		return nil, fmt.Errorf("use the provisioner's key: %w", err)
	}
	transport := fleet.Transport
	if transport == nil {
		transport = &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true, // one request in hours
		}
	}
	return &enrolment{
		fleet: fleet, cfg: cfg, sign: strings.TrimRight(fleet.URL, "/") + "/1.0/sign",
		signer: signer, roots: pool, http: &http.Client{Transport: transport, Timeout: signTimeout},
	}, nil
}

func (e *enrolment) generate(ctx context.Context) (*generation, error) {
	g, err := e.enrol(ctx)
	if err != nil {
		return nil, fmt.Errorf("enrol with %s: %w", e.fleet.URL, err)
	}
	return g, nil
}

func (e *enrolment) enrol(ctx context.Context) (*generation, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	suffix := make([]byte, 8)
	if _, err := rand.Read(suffix); err != nil {
		return nil, err
	}
	name := "authsome-" + hex.EncodeToString(suffix)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
	}, key)
	if err != nil {
		return nil, err
	}
	token, err := e.token(name)
	if err != nil {
		return nil, err
	}
	chain, err := e.request(ctx, csr, token)
	if err != nil {
		return nil, err
	}
	path, err := e.check(chain, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	return newIssuer(ctx, path, key, e.cfg.CacheEntries)
}

// token is a provisioner's one-time token for name.
func (e *enrolment) token(name string) (string, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	now := e.cfg.Clock()
	claims := struct {
		jose.Claims
		SANs []string `json:"sans"`
	}{jose.Claims{
		ID: hex.EncodeToString(id), Issuer: e.fleet.Provisioner, Subject: name, Audience: jose.Audience{e.sign},
		IssuedAt: jose.NewNumericDate(now), NotBefore: jose.NewNumericDate(now), Expiry: jose.NewNumericDate(now.Add(tokenLifetime)),
	}, []string{name}}
	token, err := jose.Signed(e.signer).Claims(claims).CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// request sends a signing request, as step-ca's API documents it, and returns
// the chain of the answer, ours first.
func (e *enrolment) request(ctx context.Context, csr []byte, token string) ([]*x509.Certificate, error) {
	ask := map[string]string{
		"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})),
		"ott": token,
	}
	if e.cfg.Lifetime > 0 {
		ask["notAfter"] = e.cfg.Lifetime.String()
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.sign, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Chain   []string `json:"certChain"`
		Message string   `json:"message"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, signAnswerBytes)).Decode(&answer)
	if resp.StatusCode != http.StatusCreated {
		return nil, &FleetError{Status: resp.StatusCode, Message: answer.Message}
	}
	if err != nil {
		return nil, fmt.Errorf("read step-ca's answer: %w", err)
	}
	var chain []*x509.Certificate
	for _, text := range answer.Chain {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, errors.New("read step-ca's answer: a certificate is not PEM")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read step-ca's answer: %w", err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// check makes sure that step-ca gave what a sidecar may have, and returns the
// path from it to one of the fleet's roots.
func (e *enrolment) check(chain []*x509.Certificate, key *ecdsa.PublicKey) ([]*x509.Certificate, error) {
	if len(chain) == 0 || !key.Equal(chain[0].PublicKey) {
		return nil, errors.New("step-ca's certificate is not for our key")
	}
	cert := chain[0]
	if !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("step-ca gave a certificate that cannot sign: the provisioner needs a template for an authority")
	}
	if cert.MaxPathLen != 0 || !cert.MaxPathLenZero {
		return nil, errors.New("step-ca gave an authority without path length 0, which could make further ones")
	}
	if _, err := constraintsOf(cert); err != nil {
		return nil, fmt.Errorf("step-ca gave an authority that could vouch for anything: %w", err)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := cert.Verify(x509.VerifyOptions{
		Roots: e.roots, Intermediates: between, CurrentTime: e.cfg.Clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("step-ca's certificate does not lead to the fleet's roots: %w", err)
	}
	return paths[0], nil
}
