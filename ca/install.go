package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoSystemStore is returned when the system keeps its trust in a way that is
// not known here.
var ErrNoSystemStore = errors.New("no known trust store on this system")

// A Step is one action on the system's trust store: a file written, a file
// removed, or a command run. Steps are made first and applied later, so that
// they can be shown to the person whose machine it is.
type Step struct {
	Write   string   // path to write Content to, world-readable
	Content []byte   // one PEM certificate
	Remove  string   // path to remove
	Command []string // program and arguments
	Input   string   // that Command reads
}

func (s Step) String() string {
	switch {
	case s.Write != "":
		return "write " + s.Write
	case s.Remove != "":
		return "remove " + s.Remove
	}
	return "run " + strings.Join(s.Command, " ")
}

// InstallSteps says how to make the whole system trust root (PEM, one or more
// certificates). A root without name constraints is refused: what is installed
// for all users, and is forgotten there, must not vouch for everything.
//
// keepDir is where copies of the certificates are kept on systems whose store is
// not a directory of files; they are needed to take them out again.
func InstallSteps(root []byte, keepDir string) ([]Step, error) {
	store, err := systemStore(keepDir)
	if err != nil {
		return nil, err
	}
	return store.install(root)
}

// UninstallSteps says how to take every root that InstallSteps put in out again;
// none when there is none.
func UninstallSteps(keepDir string) ([]Step, error) {
	store, err := systemStore(keepDir)
	if err != nil {
		return nil, err
	}
	return store.uninstall()
}

// Apply carries out steps in order and stops at the first that fails. Most need
// an administrator's rights.
func Apply(ctx context.Context, steps []Step) error {
	for _, s := range steps {
		if err := s.apply(ctx); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (s Step) apply(ctx context.Context) error {
	switch {
	case s.Write != "":
		return writeDurable(s.Write, s.Content, 0o644)
	case s.Remove != "":
		if err := os.Remove(s.Remove); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	cmd := exec.CommandContext(ctx, s.Command[0], s.Command[1:]...)
	cmd.Stdin = strings.NewReader(s.Input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// store is one way to keep a system's trust: a directory of certificates, and
// commands that take note of a change in it.
type store struct {
	dir string
	// added and removed are run for each file; nil for none.
	added   func(path string) []string
	removed func(path string, cert *x509.Certificate) []string
	// changed is run once, after all files. gone is run in its place after some were
	// removed; nil for the same.
	changed, gone []string
	// hooks is a directory of programs that keep stores of their own, such as Java's.
	// gone does not tell them what it has removed; "" for none.
	hooks string
}

func (s store) install(root []byte) ([]Step, error) {
	var steps []Step
	for rest := root; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, _, _, err := decodeRoot(pem.EncodeToMemory(block))
		if err != nil {
			return nil, fmt.Errorf("install root: %w", err)
		}
		// Two of ours must not meet in one file.
		sum := sha256.Sum256(cert.Raw)
		path := filepath.Join(s.dir, "authsome-"+hex.EncodeToString(sum[:8])+".crt")
		steps = append(steps, Step{Write: path, Content: certPEM(cert)})
		if s.added != nil {
			steps = append(steps, Step{Command: s.added(path)})
		}
	}
	if len(steps) == 0 {
		return nil, errors.New("install root: no PEM certificate")
	}
	return finish(steps, s.changed), nil
}

func (s store) uninstall() ([]Step, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list installed roots: %w", err)
	}
	var steps []Step
	var told strings.Builder
	for _, e := range entries {
		if ok, _ := filepath.Match("authsome-*.crt", e.Name()); !ok {
			continue
		}
		fmt.Fprintf(&told, "-/etc/ssl/certs/%s.pem\n", strings.TrimSuffix(e.Name(), ".crt"))
		path := filepath.Join(s.dir, e.Name())
		// Only a file that is what its name says tells what to take out.
		if cert := readCert(path); cert != nil && s.removed != nil {
			steps = append(steps, Step{Command: s.removed(path, cert)})
		}
		steps = append(steps, Step{Remove: path})
	}
	if len(steps) == 0 {
		return nil, nil
	}
	if s.gone == nil {
		return finish(steps, s.changed), nil
	}
	steps = finish(steps, s.gone)
	hooks, _ := os.ReadDir(s.hooks) // there may be none
	for _, h := range hooks {
		if info, err := h.Info(); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			steps = append(steps, Step{Command: []string{filepath.Join(s.hooks, h.Name())}, Input: told.String()})
		}
	}
	return steps, nil
}

// readCert returns nil for a file that does not hold a root of ours.
func readCert(path string) *x509.Certificate {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	cert, _, _, err := decodeRoot(data)
	if err != nil {
		return nil
	}
	return cert
}

func finish(steps []Step, command []string) []Step {
	if command == nil {
		return steps
	}
	return append(steps, Step{Command: slices.Clone(command)})
}
