package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
)

const (
	// organization is in every subject, so that a person who meets one of our
	// certificates in a trust store or an error message knows whose it is.
	organization = "authsome"

	// backdate is how far a client's clock may lag behind ours.
	backdate = 5 * time.Minute

	defaultLifetime = 30 * 24 * time.Hour
	leafLifetime    = 24 * time.Hour

	// maxCommonName is the upper bound of RFC 5280 appendix A (ub-common-name).
	maxCommonName = 64
)

// newRoot makes a self-signed root and its key.
//
// It signs leaves directly (path length 0), and it is confined to server
// authentication: where a client looks at a root's extended key usage, this one
// cannot vouch for code or mail.
func newRoot(ctx context.Context, names constraints, now time.Time, lifetime time.Duration) (*x509.Certificate, crypto.Signer, error) {
	svc, err := softcas.New(ctx, apiv1.Options{IsCreator: true})
	if err != nil {
		return nil, nil, fmt.Errorf("make root: %w", err)
	}
	// Two runs' roots may sit in one trust store: with one name for both, a
	// client would try the wrong key and call the signature bad.
	suffix := make([]byte, 8)
	if _, err := rand.Read(suffix); err != nil {
		return nil, nil, fmt.Errorf("make root: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{
			Organization: []string{organization},
			CommonName:   "authsome root " + hex.EncodeToString(suffix),
		},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	names.apply(template)
	made, err := svc.CreateCertificateAuthority(&apiv1.CreateCertificateAuthorityRequest{
		Type: apiv1.RootCA, Template: template, Lifetime: lifetime, Backdate: backdate,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make root: %w", err)
	}
	return made.Certificate, made.Signer, nil
}

// leafTemplate is a certificate for exactly host.
//
// The common name is left out for addresses: some clients hold it against the
// DNS constraints when there is no DNS name to check.
func leafTemplate(host string, key crypto.PublicKey, notBefore, notAfter time.Time) *x509.Certificate {
	t := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organization}},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		PublicKey:             key,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		t.IPAddresses = []net.IP{ip}
		return t
	}
	t.DNSNames = []string{host}
	if len(host) <= maxCommonName {
		t.Subject.CommonName = host
	}
	return t
}

func certPEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
