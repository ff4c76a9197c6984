package ca

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
)

// systemStore is the machine's ROOT store, by certutil, which names what it
// removes by its SHA-1 thumbprint.
func systemStore(keepDir string) (store, error) {
	return store{
		dir:   keepDir,
		added: func(path string) []string { return []string{"certutil", "-addstore", "-f", "ROOT", path} },
		removed: func(_ string, cert *x509.Certificate) []string {
			sum := sha1.Sum(cert.Raw)
			return []string{"certutil", "-delstore", "ROOT", hex.EncodeToString(sum[:])}
		},
	}, nil
}
