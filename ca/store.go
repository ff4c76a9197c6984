package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"authsome/vault/regular"
)

// The authority's directory (0700) holds two files, each replaced as a whole:
//
//	authority.pem  0600  CERTIFICATE + PRIVATE KEY   the root that signs
//	                     CERTIFICATE + PRIVATE KEY   its successor, once published
//	                     CERTIFICATE …               retired roots
//	root.pem       0600  CERTIFICATE …               all of them, without a key
//
// A certificate and its key share a file so that no crash can part them.
const (
	authorityFile = "authority.pem"
	rootFile      = "root.pem"
)

// ErrExposedKey is returned by Load when the authority's key can be read by
// every user of the machine. It cannot be known who has it.
var ErrExposedKey = errors.New("the authority's key is readable by other users")

// A FileError is returned when a file cannot be used as what it should be. The
// file is never replaced; removing it is a person's decision.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("read %s: %v", e.Path, e.Err) }
func (e *FileError) Unwrap() error { return e.Err }

// Load opens the authority that is kept in dir, or makes one there. A root that
// has ended, or whose constraints do not cover what cfg permits, is replaced.
//
// The directory belongs to one process at a time. It fails with a *FileError
// when authority.pem is damaged, and with ErrExposedKey.
func Load(ctx context.Context, dir string, cfg Config) (*Authority, error) {
	a, err := newAuthority(cfg)
	if err != nil {
		return nil, err
	}
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	a.dir = dir
	a.mu.Lock()
	defer a.mu.Unlock()
	current, r, err := loadRoots(ctx, dir, a.cfg)
	if errors.Is(err, fs.ErrNotExist) {
		if current, err = a.generate(ctx); err != nil {
			return nil, err
		}
		return a, a.replace(current, roots{})
	}
	if err != nil {
		return nil, err
	}
	a.current.Store(current)
	a.roots = r.dropExpired(a.cfg.Clock())
	if !a.cfg.Clock().Before(current.signer.NotAfter) {
		return a, a.succeed(ctx)
	}
	_, err = a.cover(ctx)
	return a, err
}

// succeed replaces a root that has ended, by the published successor if that is
// still good. The caller holds a.mu.
func (a *Authority) succeed(ctx context.Context) error {
	next := a.roots.next
	if next == nil || !a.cfg.Clock().Before(next.signer.NotAfter) {
		return a.rotate(ctx, false)
	}
	r := a.roots
	r.next = nil
	if err := a.replace(next, r); err != nil {
		return err
	}
	_, err := a.cover(ctx)
	return err
}

// loadRoots reads authority.pem.
func loadRoots(ctx context.Context, dir string, cfg Config) (*generation, roots, error) {
	path := filepath.Join(dir, authorityFile)
	if err := checkPrivate(path, cfg); err != nil {
		return nil, roots{}, err
	}
	data, err := regular.ReadFile(path)
	if err != nil {
		return nil, roots{}, err
	}
	var signing []*generation
	var r roots
	for len(bytes.TrimSpace(data)) > 0 {
		var cert *x509.Certificate
		var key crypto.Signer
		if cert, key, data, err = decodeRoot(data); err != nil {
			return nil, roots{}, &FileError{Path: path, Err: err}
		}
		if key == nil {
			r.retired = append(r.retired, cert)
			continue
		}
		g, err := newGeneration(ctx, cert, key, cfg.CacheEntries)
		if err != nil {
			return nil, roots{}, err
		}
		signing = append(signing, g)
	}
	switch len(signing) {
	case 2:
		r.next = signing[1]
		fallthrough
	case 1:
		return signing[0], r, nil
	}
	return nil, roots{}, &FileError{Path: path, Err: fmt.Errorf("%d roots with a key, want 1 or 2", len(signing))}
}

// decodeRoot takes one certificate off data, and the key if one follows.
func decodeRoot(data []byte) (*x509.Certificate, crypto.Signer, []byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, nil, nil, errors.New("no PEM certificate where one should be")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, nil, err
	}
	if _, err := constraintsOf(cert); err != nil {
		return nil, nil, nil, err
	}
	block, after := pem.Decode(rest)
	if block == nil || block.Type != "PRIVATE KEY" {
		return cert, nil, rest, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, nil, fmt.Errorf("the key does not belong to certificate %q", cert.Subject.CommonName)
	}
	return cert, key, after, nil
}

func saveRoots(dir string, current *generation, r roots) error {
	var all, public []byte
	for _, g := range []*generation{current, r.next} {
		if g == nil {
			continue
		}
		key, err := x509.MarshalPKCS8PrivateKey(g.key)
		if err != nil {
			return fmt.Errorf("save root: %w", err)
		}
		all = append(all, certPEM(g.signer)...)
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
		public = append(public, certPEM(g.signer)...)
	}
	for _, cert := range r.retired {
		all = append(all, certPEM(cert)...)
		public = append(public, certPEM(cert)...)
	}
	if err := writeDurable(filepath.Join(dir, authorityFile), all, 0o600); err != nil {
		return err
	}
	return writeDurable(filepath.Join(dir, rootFile), public, 0o600)
}

// checkPrivate makes sure that a key file is its owner's alone. Group access is
// taken away with a warning, since some volume drivers add it by themselves.
func checkPrivate(path string, cfg Config) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &FileError{Path: path, Err: errors.New("not a regular file")}
	}
	mode := info.Mode().Perm()
	switch {
	case runtime.GOOS == "windows" || mode&0o077 == 0:
		return nil
	case mode&0o007 != 0:
		return &FileError{Path: path, Err: fmt.Errorf("mode %04o: %w", mode, ErrExposedKey)}
	}
	cfg.Logger.Warn("take group access away from the authority's key", "path", path, "mode", fmt.Sprintf("%04o", mode))
	if err := os.Chmod(path, mode&0o700); err != nil {
		return &FileError{Path: path, Err: err}
	}
	return nil
}
