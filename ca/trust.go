package ca

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"software.sslmate.com/src/go-pkcs12"
)

// The files of a trust directory.
const (
	bundleName     = "bundle.pem"     // everything the child trusts
	rootName       = "root.pem"       // only what this authority added
	truststoreName = "truststore.p12" // the bundle, for Java
	wgetrcName     = "wgetrc"
	phpDirName     = "php.d"
	phpIniName     = "zz-authsome.ini" // last of its directory: later files win
)

// IsTrustFile reports whether WriteTrust makes a file of this name.
func IsTrustFile(name string) bool {
	return slices.Contains([]string{bundleName, rootName, truststoreName, wgetrcName, phpDirName}, name)
}

// TruststorePassword opens truststore.p12. It keeps no secret, since trust
// stores hold public certificates: Java just wants one, and this is its default.
const TruststorePassword = pkcs12.DefaultPassword

// TrustInput is what WriteTrust needs to know of the parent and the proxy.
type TrustInput struct {
	// Environ looks up the parent's environment; required.
	Environ func(string) string
	// ProxyURL is what the child's proxy variables are set to, userinfo
	// included: http, with host and port. "" sets none: for a child whose
	// connections are redirected, and which is better not told of a proxy.
	ProxyURL string
	// NoProxy are further hosts that the child reaches directly, besides the
	// inherited ones and the loopback.
	NoProxy []string
	// Intercepted are hosts that must go through the proxy: an inherited
	// NO_PROXY entry that lets the child around it is warned of.
	Intercepted []string
	// ExtraFiles are further PEM files to merge into the bundle.
	ExtraFiles []string
	// ChildDir is the directory's path as the child sees it; "" means the same.
	ChildDir string
	// AllowOtherReaders makes the files readable by every user: for a volume
	// shared with a container that runs as somebody else. The parent's wgetrc,
	// which may hold passwords, then stays out.
	AllowOtherReaders bool
}

// Trust is a directory of trust files and the environment that names them.
type Trust struct {
	Dir      string   // where the files are
	Bundle   string   // path of the merged PEM file
	Warnings []string // what was skipped, or works less than it could; one line each
	env      map[string]string
}

// Env returns the variables for the child; they replace the inherited ones.
// The caller may modify the map.
func (t *Trust) Env() map[string]string { return maps.Clone(t.env) }

// WriteTrust writes the files that make a child trust root (PEM: one or more
// certificates) into dir, which it makes, or takes over when it is private to
// the user. Existing files are replaced, each as a whole, so that it can be
// called again under a running child.
//
// Each run needs a directory of its own. The caller removes it.
func WriteTrust(dir string, root []byte, in TrustInput) (*Trust, error) {
	var proxy *url.URL
	if in.ProxyURL != "" {
		var err error
		if proxy, err = proxyURL(in.ProxyURL); err != nil {
			return nil, err
		}
	}
	childDir := in.ChildDir
	if childDir == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("write trust files: %w", err)
		}
		childDir = abs
	}
	if strings.ContainsFunc(childDir, unicode.IsControl) {
		return nil, fmt.Errorf("write trust files: control character in path %q", childDir)
	}
	if in.Environ == nil {
		return nil, errors.New("write trust files: no environment to look up the parent's files in")
	}
	var b bundler
	if err := b.addAll(root, in.Environ, in.ExtraFiles); err != nil {
		return nil, err
	}
	w := trustWriter{dir: dir, childDir: childDir, proxy: proxy, in: in, warnings: b.warnings}
	if err := w.write(root, &b); err != nil {
		return nil, err
	}
	env := w.environment()
	return &Trust{Dir: dir, Bundle: filepath.Join(dir, bundleName), Warnings: w.warnings, env: env}, nil
}

// proxyURL accepts what every client understands in a proxy variable.
func proxyURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" {
		// Not the URL itself: it holds the run's token.
		return nil, errors.New("write trust files: the proxy URL must be http://[user:password@]host:port")
	}
	return u, nil
}

// trustWriter is one call of WriteTrust.
type trustWriter struct {
	dir, childDir string
	proxy         *url.URL // nil: none
	in            TrustInput
	warnings      []string
}

func (w *trustWriter) warn(format string, args ...any) {
	w.warnings = append(w.warnings, fmt.Sprintf(format, args...))
}

// child is a file's path as the child sees it.
func (w *trustWriter) child(name string) string { return filepath.Join(w.childDir, name) }

func (w *trustWriter) write(root []byte, b *bundler) error {
	mode, err := w.makeDirs()
	if err != nil {
		return err
	}
	truststore, err := truststore(b)
	if err != nil {
		return err
	}
	wgetrc, err := w.wgetrc()
	if err != nil {
		return err
	}
	ini, err := w.phpIni()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{bundleName, b.out.Bytes()},
		{rootName, root},
		{truststoreName, truststore},
		{wgetrcName, wgetrc},
		{filepath.Join(phpDirName, phpIniName), ini},
	} {
		if err := writeFile(filepath.Join(w.dir, f.name), f.data, mode); err != nil {
			return err
		}
	}
	return nil
}

// makeDirs makes the directories and says how open the files in them are.
func (w *trustWriter) makeDirs() (os.FileMode, error) {
	php := filepath.Join(w.dir, phpDirName)
	if !w.in.AllowOtherReaders {
		if err := privateDir(w.dir); err != nil {
			return 0, err
		}
		return 0o600, privateDir(php)
	}
	for _, dir := range []string{w.dir, php} {
		if _, err := makeDir(dir, 0o755); err != nil {
			return 0, err
		}
	}
	if runtime.GOOS == "windows" {
		return 0o644, nil
	}
	// Whatever the umask says: the reader is another user. A directory that is
	// not ours, such as a volume's root, is as open as its owner made it.
	os.Chmod(php, 0o755)
	return 0o644, nil
}
