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

// generation is one signing certificate with everything that depends on it:
// when it is replaced, its leaves and its clients' TLS sessions go with it.
type generation struct {
	signer  *x509.Certificate // signs leaves
	key     crypto.Signer
	limit   constraints         // of signer
	chain   []*x509.Certificate // from signer to below the anchor, sent with a leaf; none under a root
	anchor  *x509.Certificate   // what clients must trust: signer itself, when it is a root
	cas     *softcas.SoftCAS
	leafKey *ecdsa.PrivateKey // shared by all leaves: see Authority
	cache   *cache
	flight  singleflight.Group // one mint per host at a time
}

// newGeneration signs with a root.
func newGeneration(ctx context.Context, root *x509.Certificate, key crypto.Signer, cacheEntries int) (*generation, error) {
	return newIssuer(ctx, []*x509.Certificate{root}, key, cacheEntries)
}

// newIssuer signs with path[0], whose key is key. The path ends at an anchor.
func newIssuer(ctx context.Context, path []*x509.Certificate, key crypto.Signer, cacheEntries int) (*generation, error) {
	limit, err := constraintsOf(path[0])
	if err != nil {
		return nil, err
	}
	svc, err := softcas.New(ctx, apiv1.Options{CertificateChain: path, Signer: key})
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make leaf key: %w", err)
	}
	return &generation{
		signer: path[0], key: key, limit: limit, chain: path[:len(path)-1], anchor: path[len(path)-1],
		cas: svc, leafKey: leafKey, cache: newCache(cacheEntries),
	}, nil
}

// issue signs a leaf for host. The caller has checked that host is permitted.
func (g *generation) issue(host string, now time.Time) (*leaf, error) {
	if !now.Before(g.signer.NotAfter) {
		return nil, fmt.Errorf("issue leaf for %q: authority %q ended %s: %w",
			host, g.signer.Subject.CommonName, g.signer.NotAfter.Format(time.RFC3339), ErrExpired)
	}
	notAfter := now.Add(leafLifetime)
	clipped := notAfter.After(g.signer.NotAfter)
	if clipped {
		notAfter = g.signer.NotAfter
	}
	notBefore := now.Add(-backdate)
	if notBefore.Before(g.signer.NotBefore) {
		notBefore = g.signer.NotBefore
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
		cert:      &tls.Certificate{Certificate: g.sent(cert), PrivateKey: g.leafKey, Leaf: cert},
		notBefore: cert.NotBefore.Unix(),
		renewAt:   now.Add(notAfter.Sub(now) * 2 / 3).Unix(),
		deadline:  notAfter.Add(-backdate).Unix(),
	}
	if clipped { // a renewal could not outlive the signer either
		l.renewAt, l.deadline = notAfter.Unix(), notAfter.Unix()
	}
	return l, nil
}

// sent is what a handshake sends. The anchor is not in it: a client must hold it
// anyway, and with a name constraint per provider it outweighs a leaf by far.
func (g *generation) sent(leaf *x509.Certificate) [][]byte {
	out := [][]byte{leaf.Raw}
	for _, cert := range g.chain {
		out = append(out, cert.Raw)
	}
	return out
}
