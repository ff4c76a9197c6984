package ca

import "crypto/x509"

// systemStore is the system keychain; trust settings live beside it and name a
// certificate by its content, so that the file is needed for both.
func systemStore(keepDir string) (store, error) {
	const keychain = "/Library/Keychains/System.keychain"
	return store{
		dir: keepDir,
		added: func(path string) []string {
			return []string{"/usr/bin/security", "add-trusted-cert", "-d", "-r", "trustRoot", "-p", "ssl", "-k", keychain, path}
		},
		removed: func(path string, _ *x509.Certificate) []string {
			return []string{"/usr/bin/security", "remove-trusted-cert", "-d", path}
		},
	}, nil
}
