//go:build unix && !darwin

package ca

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"authsome/vault/regular"
)

// Where systems keep their roots, as crypto/x509 knows it. A directory counts
// only where there is no file: it holds the same certificates one by one.
var (
	systemFiles = []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Gentoo, Arch, Alpine
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/etc/pki/tls/cacert.pem",                           // OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7 and later
		"/etc/ssl/cert.pem",                                 // Alpine, the BSDs
		"/usr/local/etc/ssl/cert.pem",                       // FreeBSD
		"/usr/local/share/certs/ca-root-nss.crt",            // FreeBSD, DragonFly
		"/etc/openssl/certs/ca-certificates.crt",            // NetBSD
		"/etc/certs/ca-certificates.crt",                    // Solaris
	}
	systemDirs = []string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/system/etc/security/cacerts"}
)

// systemRoots hands the system's PEM files to add and reports whether it found
// any.
func systemRoots(add func(source string, data []byte)) bool {
	for _, path := range systemFiles {
		if data, err := os.ReadFile(path); err == nil {
			add(path, data)
			return true
		}
	}
	found := false
	for _, dir := range systemDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if data, err := os.ReadFile(path); err == nil {
				add(path, data)
				found = true
			}
		}
	}
	return found
}

// CheckRoots looks at what SSL_CERT_FILE and SSL_CERT_DIR name before crypto/x509
// reads it, once and for good: it waits for a pipe's writer, fills memory from a
// device, and takes a file that is missing for one without roots. The error names
// the variable.
func CheckRoots(environ func(string) string) error {
	if path := environ("SSL_CERT_FILE"); path != "" && path != noCertFile && path != os.DevNull {
		if err := checkRoot(path); err != nil {
			return fmt.Errorf("read the CA file that SSL_CERT_FILE names: %w", err)
		}
	}
	for _, dir := range filepath.SplitList(environ("SSL_CERT_DIR")) {
		entries, _ := os.ReadDir(dir) // one that cannot be read holds nobody up
		for _, e := range entries {
			if err := checkRoot(filepath.Join(dir, e.Name())); errors.Is(err, regular.ErrIrregular) {
				return fmt.Errorf("read the CA files in a directory that SSL_CERT_DIR names: %w", err)
			}
		}
	}
	return nil
}

// checkRoot opens a file of roots. A directory holds none, and is no error: to read
// it fails at once.
func checkRoot(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	file, err := regular.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}
