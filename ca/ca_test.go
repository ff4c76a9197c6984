package ca_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"authsome/ca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newAuthority makes an authority for example.test.
func newAuthority(t testing.TB, change ...func(*ca.Config)) *ca.Authority {
	t.Helper()
	cfg := ca.Config{PermittedDNS: []string{"example.test"}}
	for _, f := range change {
		f(&cfg)
	}
	a, err := ca.New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// rootsOf parses PEM certificates.
func rootsOf(t testing.TB, data []byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return out
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, cert)
	}
}

// verify checks a leaf as a Go client that trusts only roots does.
func verify(roots []byte, leaf *x509.Certificate, host string, at time.Time) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: pool, DNSName: host, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

func ips(addrs ...string) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		out = append(out, net.ParseIP(a))
	}
	return out
}

func unconstrained(t testing.TB) []byte {
	t.Helper()
	data, err := ca.UnconstrainedRoot()
	if err != nil {
		t.Fatal(err)
	}
	return data
}
