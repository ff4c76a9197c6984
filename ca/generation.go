package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
	"golang.org/x/sync/singleflight"
)

// generation is one root with everything that depends on it: when the root is
// replaced, its leaves and its clients' TLS sessions go with it.
type generation struct {
	root    *x509.Certificate
	key     crypto.Signer
	cas     *softcas.SoftCAS
	leafKey *ecdsa.PrivateKey // shared by all leaves: see Authority
	cache   *cache
	flight  singleflight.Group // one mint per host at a time
}

func newGeneration(ctx context.Context, root *x509.Certificate, key crypto.Signer, cacheEntries int) (*generation, error) {
	svc, err := softcas.New(ctx, apiv1.Options{CertificateChain: []*x509.Certificate{root}, Signer: key})
	if err != nil {
		return nil, fmt.Errorf("open root: %w", err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make leaf key: %w", err)
	}
	return &generation{root: root, key: key, cas: svc, leafKey: leafKey, cache: newCache(cacheEntries)}, nil
}

// issue signs a leaf for host. The caller has checked that host is permitted.
func (g *generation) issue(host string, now time.Time) (*leaf, error) {
	if !now.Before(g.root.NotAfter) {
		return nil, fmt.Errorf("issue leaf for %q: root %q ended %s: %w",
			host, g.root.Subject.CommonName, g.root.NotAfter.Format(time.RFC3339), ErrExpired)
	}
	notAfter := now.Add(leafLifetime)
	clipped := notAfter.After(g.root.NotAfter)
	if clipped {
		notAfter = g.root.NotAfter
	}
	notBefore := now.Add(-backdate)
	if notBefore.Before(g.root.NotBefore) {
		notBefore = g.root.NotBefore
	}
	made, err := g.cas.CreateCertificate(&apiv1.CreateCertificateRequest{
		Template: leafTemplate(host, &g.leafKey.PublicKey, notBefore, notAfter),
		Lifetime: leafLifetime,
		Backdate: backdate,
	})
	if err != nil {
		return nil, fmt.Errorf("issue leaf for %q: %w", host, err)
	}
	cert := made.Certificate
	l := &leaf{
		// The root is not sent: a client must hold it anyway, and with a name
		// constraint per provider it is the larger of the two by far.
		cert:      &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: g.leafKey, Leaf: cert},
		notBefore: cert.NotBefore.Unix(),
		renewAt:   now.Add(notAfter.Sub(now) * 2 / 3).Unix(),
		deadline:  notAfter.Add(-backdate).Unix(),
	}
	if clipped { // a renewal could not outlive the root either
		l.renewAt, l.deadline = notAfter.Unix(), notAfter.Unix()
	}
	return l, nil
}
