package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"authsome/vault/regular"
)

// bundleVars name a PEM file each (or, for some clients, a directory of them),
// in the order in which the parent's are merged. The child gets them all, set
// to the merged bundle.
var bundleVars = []string{
	"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "PIP_CERT",
	"CARGO_HTTP_CAINFO", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
	"HTTPLIB2_CA_CERTS", "NIX_SSL_CERT_FILE", "npm_config_cafile", "DENO_CERT", "CODEX_CA_CERTIFICATE",
	"NODE_EXTRA_CA_CERTS",
}

// noCertFile is what a Nix build environment sets to say "no certificates".
const noCertFile = "/no-cert-file.crt"

// Bundle merges, in this order, the files that the parent's variables name, the
// further files, the system's roots, and root (PEM). The result holds each
// certificate once and nothing but certificates.
//
// What cannot be used is skipped with a warning. A file that is named but
// cannot be read is an error that names it: the child would silently lose what
// its parent trusts.
func Bundle(root []byte, environ func(string) string, files ...string) (bundle []byte, warnings []string, err error) {
	var b bundler
	if err := b.addAll(root, environ, files); err != nil {
		return nil, nil, err
	}
	return b.out.Bytes(), b.warnings, nil
}

// bundler collects certificates, each once.
type bundler struct {
	seen     map[[sha256.Size]byte]bool
	certs    []*x509.Certificate
	out      bytes.Buffer
	warnings []string
}

func (b *bundler) addAll(root []byte, environ func(string) string, files []string) error {
	var read []string
	for _, name := range bundleVars {
		path := environ(name)
		if path == "" || path == noCertFile || slices.Contains(read, path) {
			continue
		}
		read = append(read, path)
		if err := b.addPath(path); err != nil {
			return fmt.Errorf("read the CA file that %s names: %w", name, err)
		}
	}
	for _, path := range files {
		if err := b.addPath(path); err != nil {
			return fmt.Errorf("read CA file: %w", err)
		}
	}
	b.addSystem(read)
	// The parent's files may hold the root already, where runs are nested or a
	// bundle is written again; not to hold one is another matter.
	if block, _ := pem.Decode(root); block == nil || block.Type != "CERTIFICATE" {
		return errors.New("merge CA files: the authority's root is not a PEM certificate")
	}
	b.add("the authority's root", root)
	return nil
}

// addSystem adds the system's roots, except from files that were read already.
func (b *bundler) addSystem(read []string) {
	before := len(b.certs)
	known := systemRoots(func(source string, data []byte) {
		if !slices.Contains(read, source) {
			b.add(source, data)
		}
	})
	if !known && len(b.certs) == before {
		b.warnings = append(b.warnings, "no roots of the system were found: the child trusts this proxy, and nothing else unless its own software brings roots")
	}
}

// addPath adds a PEM file, or every file of a directory.
func (b *bundler) addPath(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		data, err := readNamed(path)
		if err != nil {
			return err
		}
		b.add(path, data)
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// A directory may hold anything, such as links that point nowhere, or pipes.
		if data, err := regular.ReadFile(filepath.Join(path, e.Name())); err == nil {
			b.add(filepath.Join(path, e.Name()), data)
		}
	}
	return nil
}

// add takes the certificates out of data. Whatever stands between them is
// dropped, and so is any other kind of block: a private key in a CA file must
// not travel further.
func (b *bundler) add(source string, data []byte) {
	if b.seen == nil {
		b.seen = map[[sha256.Size]byte]bool{}
	}
	found := false
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		found = true
		if block.Type != "CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			b.warn(source, "skipped a %q block", block.Type)
			continue
		}
		sum := sha256.Sum256(block.Bytes)
		if b.seen[sum] {
			continue
		}
		b.seen[sum] = true
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			b.warn(source, "skipped a certificate: %v", err)
			continue
		}
		b.certs = append(b.certs, cert)
		pem.Encode(&b.out, &pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})
	}
	if !found && len(bytes.TrimSpace(data)) > 0 {
		b.warn(source, "holds no PEM certificate")
	}
}

func (b *bundler) warn(source, format string, args ...any) {
	b.warnings = append(b.warnings, source+": "+fmt.Sprintf(format, args...))
}
