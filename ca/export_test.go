package ca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
)

// ForgeLeaf signs a leaf for any host with the root's key, as a thief of that
// key would: constraints are the clients' to check.
func (a *Authority) ForgeLeaf(host string, now time.Time) (*tls.Certificate, error) {
	l, err := a.current.Load().issue(host, now)
	if err != nil {
		return nil, err
	}
	return l.cert, nil
}

// UnconstrainedRoot is a root without name constraints and its key, as PEM.
func UnconstrainedRoot() ([]byte, error) {
	svc, err := softcas.New(context.Background(), apiv1.Options{IsCreator: true})
	if err != nil {
		return nil, err
	}
	made, err := svc.CreateCertificateAuthority(&apiv1.CreateCertificateAuthorityRequest{
		Type: apiv1.RootCA, Lifetime: time.Hour,
		Template: &x509.Certificate{Subject: pkix.Name{CommonName: "any"}, IsCA: true, BasicConstraintsValid: true},
	})
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return nil, err
	}
	return append(certPEM(made.Certificate), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), nil
}

// TestStore is a trust store in a directory of a test's own.
type TestStore struct{ s store }

func NewTestStore(dir string, perFile bool, changed ...string) TestStore {
	s := store{dir: dir, changed: changed}
	if perFile {
		s.added = func(path string) []string { return []string{"add", path} }
		s.removed = func(path string, cert *x509.Certificate) []string {
			return []string{"remove", path, cert.Subject.CommonName}
		}
	}
	return TestStore{s}
}

// Hooked adds what is run after files were removed, and who is told of them.
func (t TestStore) Hooked(hooks string, gone ...string) TestStore {
	t.s.hooks, t.s.gone = hooks, gone
	return t
}

func (t TestStore) Install(root []byte) ([]Step, error) { return t.s.install(root) }
func (t TestStore) Uninstall() ([]Step, error)          { return t.s.uninstall() }
