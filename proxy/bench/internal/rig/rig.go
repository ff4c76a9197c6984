// Package rig holds what the programs of the benchmark agree on: the names
// behind the proxies, the credential, and how a process says where it listens.
package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"time"
)

// The hosts that a contestant knows. Both API hosts are intercepted and given
// the credential; RawHost is not, and is tunnelled.
const (
	H1Host  = "api.bench.test" // an origin that speaks HTTP/1.1
	H2Host  = "h2.bench.test"  // an origin that chooses HTTP/2
	RawHost = "raw.bench.test" // plain TCP

	// Authorization is what the origin insists on: a contestant that does not
	// attach it measures nothing but 401s, and the run fails.
	Authorization = "Bearer bench-credential-0123456789abcdef"

	// Placeholder is what the client sends in its place.
	Placeholder = "Bearer authsome-proxy-managed"
)

// Ready is the line of JSON that a process prints once it listens.
type Ready struct {
	Proxy   string `json:"proxy,omitempty"`   // CONNECT proxy
	Tunnel  string `json:"tunnel,omitempty"`  // another CONNECT proxy, for RawHost; "" is Proxy
	Token   string `json:"token,omitempty"`   // password of Proxy-Authorization: Basic, "" for none
	Control string `json:"control,omitempty"` // HTTP: /allocs, /gc, /debug/pprof
	H1      string `json:"h1,omitempty"`      // the origin's listeners
	H2      string `json:"h2,omitempty"`
	Raw     string `json:"raw,omitempty"`
}

// Say prints the line.
func (r Ready) Say() error { return json.NewEncoder(os.Stdout).Encode(r) }

// Curves is the one key exchange that everybody uses, so that no contestant is
// charged for a stronger one than another's TLS library knows.
var Curves = []tls.CurveID{tls.X25519}

// Authority is a certificate authority for one process.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
	PEM  []byte
}

// NewAuthority makes a P-256 root that lasts a day.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// Leaf issues a P-256 certificate for hosts, with its key in PEM behind it.
func (a *Authority) Leaf(hosts ...string) (cert tls.Certificate, chainAndKey []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hosts[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: hosts,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Cert, &key.PublicKey, a.Key)
	if err != nil {
		return cert, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return cert, nil, err
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	cert, err = tls.X509KeyPair(chain, keyPEM)
	return cert, append(chain, keyPEM...), err
}

// Pool reads a PEM file of roots.
func Pool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return pool, nil
}
