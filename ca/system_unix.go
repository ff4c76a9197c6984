//go:build unix && !darwin

package ca

import (
	"os"
	"path/filepath"
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
