package authsome

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"authsome/flows"
	"authsome/flows/imports"
	"authsome/provider"
	"authsome/vault/regular"
)

// layoutVersion is the content of the home's version file.
const layoutVersion = "3"

// Home is the directory that holds everything authsome keeps:
//
//	version                      layout version
//	config.json                  default profile, encryption mode
//	master.key                   key-encryption key (mode local_key)
//	audit.log                    JSON lines
//	providers/<name>.json        the user's definitions
//	profiles/<p>/metadata.json   name, description, times
//	profiles/<p>/store.db        the vault
//	logs/authsome.log            with --log-file or --verbose
//
// Directories are 0700 and files 0600.
type Home struct {
	Dir    string
	Config HomeConfig
}

// HomeConfig is config.json. Fields that this version does not know survive a
// rewrite.
type HomeConfig struct {
	SpecVersion    int        `json:"spec_version"`
	DefaultProfile string     `json:"default_profile"`
	Encryption     Encryption `json:"encryption"`

	unknown map[string]json.RawMessage
}

// Encryption says where the key-encryption key comes from.
type Encryption struct {
	Mode string `json:"mode"` // local_key, keyring, passphrase or env
}

// Errors of opening a home.
var (
	// ErrHome is returned when the home cannot be read or made.
	ErrHome = errors.New("home directory")

	// ErrConfig is returned when a file of the home does not say what it must.
	ErrConfig = errors.New("configuration")

	// ErrNoProfile is returned for a profile that was never created.
	ErrNoProfile = errors.New("no such profile")
)

// NoProfileError is ErrNoProfile, with the name and those that are spelled like
// it.
type NoProfileError struct {
	Name        string
	Suggestions []string
}

// Error implements error.
func (e *NoProfileError) Error() string { return ErrNoProfile.Error() + ": " + e.Name }

// Unwrap returns ErrNoProfile.
func (e *NoProfileError) Unwrap() error { return ErrNoProfile }

// Hint returns what to do next.
func (e *NoProfileError) Hint() string {
	if len(e.Suggestions) == 0 {
		return "run: authsome profile list"
	}
	return "did you mean " + strings.Join(e.Suggestions, ", ") + "? run: authsome profile list"
}

// FileError names the file that an error is about, and the way out.
type FileError struct {
	Path string
	Line int // 0 when it is not about a line
	Err  error
	Next string // what to do
}

// Error implements error.
func (e *FileError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *FileError) Hint() string { return e.Next }

// DefaultHome returns $AUTHSOME_HOME, or ~/.authsome.
func DefaultHome(getenv func(string) string) (string, error) {
	if dir := getenv("AUTHSOME_HOME"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrHome, err)
		}
		return abs, nil
	}
	user := getenv("HOME")
	if user == "" {
		var err error
		if user, err = os.UserHomeDir(); err != nil {
			return "", &FileError{Path: "AUTHSOME_HOME", Err: fmt.Errorf("%w: neither it nor HOME is set", ErrHome),
				Next: "set AUTHSOME_HOME to a directory"}
		}
	}
	return filepath.Join(user, ".authsome"), nil
}

// IsHome reports whether a home was made at dir.
func IsHome(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "version"))
	return err == nil
}

// OpenHome opens the home at dir, making what is missing. created reports
// whether it was new. What is there and cannot be read is an error, and is
// never replaced.
func OpenHome(dir string) (h *Home, created bool, err error) {
	if err := makeDir(dir); err != nil {
		return nil, false, err
	}
	h = &Home{Dir: dir}
	if created, err = h.checkVersion(); err != nil {
		return nil, false, err
	}
	if err := h.loadConfig(); err != nil {
		return nil, false, err
	}
	for _, sub := range []string{"providers", "profiles"} {
		if err := makeDir(filepath.Join(dir, sub)); err != nil {
			return nil, false, err
		}
	}
	if _, err := h.Profile(h.Config.DefaultProfile); errors.Is(err, ErrNoProfile) {
		if err := h.CreateProfile(h.Config.DefaultProfile, ""); err != nil {
			return nil, false, err
		}
	}
	return h, created, nil
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		next := "make the directory writable, or set AUTHSOME_HOME to one that is"
		if errors.Is(err, syscall.ENOTDIR) {
			next = "set AUTHSOME_HOME to a directory, or move the file away"
		}
		if nowhere := leadsNowhere(dir); nowhere != nil {
			return nowhere
		}
		return &FileError{Path: dir, Err: fmt.Errorf("%w: %w", ErrHome, cause(err)), Next: next}
	}
	return nil
}

// leadsNowhere is the error of a link whose target is missing, nil for anything
// else. What it led to, perhaps a disk that is not mounted, must not be taken
// for something that was never made.
func leadsNowhere(path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &FileError{Path: path, Err: fmt.Errorf("%w: it is a link to %s, which does not exist", ErrHome, target),
		Next: "bring back what it leads to, or remove the link"}
}

// readFile reads a file of the home. Its error matches fs.ErrNotExist, or else is
// a *FileError. Only regular files are opened: a pipe would wait for a writer.
func readFile(path string) ([]byte, error) {
	if err := leadsNowhere(path); err != nil {
		return nil, err
	}
	b, err := regular.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = &FileError{Path: path, Err: fmt.Errorf("%w: %w", ErrHome, cause(err)), Next: "make it a file that you can read"}
	}
	return b, err
}

// cause drops the path from a file system error: FileError names it already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func (h *Home) checkVersion() (created bool, err error) {
	path := filepath.Join(h.Dir, "version")
	b, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if v := strings.TrimSpace(string(b)); v != layoutVersion && imports.IsPredecessor(h.Dir) {
		return false, &FileError{Path: h.Dir, Err: fmt.Errorf("%w: it is a home of the Python authsome", ErrConfig),
			Next: "move it away (mv " + h.Dir + " " + h.Dir + "-old), then run: authsome import " + h.Dir + "-old"}
	}
	if err != nil {
		return true, writeFile(path, []byte(layoutVersion+"\n"))
	}
	if v := strings.TrimSpace(string(b)); v != layoutVersion {
		return false, &FileError{Path: path, Err: fmt.Errorf("%w: layout version %.20q, this program knows %s", ErrConfig, v, layoutVersion),
			Next: "use the authsome that made this home, or set AUTHSOME_HOME to another directory"}
	}
	return false, nil
}

func (h *Home) configPath() string { return filepath.Join(h.Dir, "config.json") }

func (h *Home) loadConfig() error {
	path := h.configPath()
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		h.Config = HomeConfig{SpecVersion: 1, DefaultProfile: "default", Encryption: Encryption{Mode: "local_key"}}
		return h.SaveConfig()
	}
	if err != nil {
		return err
	}
	if err := decodeFile(path, b, &h.Config); err != nil {
		return err
	}
	if err := decodeFile(path, b, &h.Config.unknown); err != nil {
		return err
	}
	return h.checkConfig(path)
}

func (h *Home) checkConfig(path string) error {
	bad := func(format string, args ...any) error {
		return &FileError{Path: path, Err: fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...), Next: "mend the value in the file"}
	}
	if h.Config.SpecVersion != 1 {
		return bad("spec_version: %d, this program knows 1", h.Config.SpecVersion)
	}
	if err := provider.ValidName(h.Config.DefaultProfile); err != nil {
		return bad("default_profile: %w", err)
	}
	switch h.Config.Encryption.Mode {
	case "local_key", "keyring", "passphrase", "env":
		return nil
	}
	return bad("encryption.mode: %.20q is not local_key, keyring, passphrase or env", h.Config.Encryption.Mode)
}

// decodeFile parses JSON and names the line of a mistake.
func decodeFile(path string, b []byte, v any) error {
	err := json.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	fail := &FileError{Path: path, Next: "mend the JSON at that line; the file was left as it is"}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := int64(-1)
	if errors.As(err, &syntax) {
		offset = syntax.Offset
	} else if errors.As(err, &kind) {
		offset = kind.Offset
		err = fmt.Errorf("%s cannot be a %s", firstOf(kind.Field, "the file"), kind.Value)
	}
	fail.Err = fmt.Errorf("%w: %w", ErrConfig, err)
	if offset >= 0 && offset <= int64(len(b)) {
		fail.Line = 1 + bytes.Count(b[:offset], []byte("\n"))
	}
	return fail
}

// SaveConfig writes config.json, keeping unknown fields.
func (h *Home) SaveConfig() error {
	out := map[string]any{}
	for k, v := range h.Config.unknown {
		out[k] = v
	}
	encryption := map[string]any{}
	if raw, ok := h.Config.unknown["encryption"]; ok {
		if err := json.Unmarshal(raw, &encryption); err != nil {
			return fmt.Errorf("%w: encryption: %w", ErrConfig, err)
		}
	}
	encryption["mode"] = h.Config.Encryption.Mode
	out["spec_version"], out["default_profile"], out["encryption"] = h.Config.SpecVersion, h.Config.DefaultProfile, encryption
	return writeJSON(h.configPath(), out)
}

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

// writeFile replaces a file as a whole: a crash leaves the old or the new one.
// What a link leads to is replaced, not the link.
func writeFile(path string, b []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	wrap := func(err error) error {
		return &FileError{Path: path, Err: fmt.Errorf("%w: %w", ErrHome, cause(err)),
			Next: "check the disk's free space and the directory's permissions"}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return wrap(err)
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return wrap(err)
	}
	return nil
}

// ProfileInfo is a profile's metadata.json.
type ProfileInfo struct {
	Name        string    `json:"name"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	Description string    `json:"description"`
}

// ProfileDir returns the directory of a profile.
func (h *Home) ProfileDir(name string) string { return filepath.Join(h.Dir, "profiles", name) }
func (h *Home) profileFile(name string) string {
	return filepath.Join(h.ProfileDir(name), "metadata.json")
}

// StorePath returns the file of a profile's vault.
func (h *Home) StorePath(profile string) string {
	return filepath.Join(h.ProfileDir(profile), "store.db")
}

// AuditPath returns the audit log.
func (h *Home) AuditPath() string { return filepath.Join(h.Dir, "audit.log") }

// ProvidersDir holds the user's provider definitions.
func (h *Home) ProvidersDir() string { return filepath.Join(h.Dir, "providers") }

// KeyPath returns the key-encryption key's file in mode local_key.
func (h *Home) KeyPath() string { return filepath.Join(h.Dir, "master.key") }

// CreateProfile makes a profile. One that exists is left as it is and reported
// as fs.ErrExist.
func (h *Home) CreateProfile(name, description string) error {
	if err := provider.ValidName(name); err != nil {
		return fmt.Errorf("%w: profile: %w", flows.ErrBadName, err)
	}
	if _, err := os.Stat(h.profileFile(name)); err == nil {
		return fmt.Errorf("profile %s: %w", name, fs.ErrExist)
	}
	if err := makeDir(h.ProfileDir(name)); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	return writeJSON(h.profileFile(name), ProfileInfo{name, now, now, description})
}

// DeleteProfile removes a profile and everything in it. The default profile
// cannot be removed.
func (h *Home) DeleteProfile(name string) error {
	if _, err := h.Profile(name); err != nil {
		return err
	}
	if name == h.Config.DefaultProfile {
		return fmt.Errorf("%w: %s is the default profile", ErrConfig, name)
	}
	if err := os.RemoveAll(h.ProfileDir(name)); err != nil {
		return &FileError{Path: h.ProfileDir(name), Err: fmt.Errorf("%w: %w", ErrHome, cause(err)), Next: "check the directory's permissions"}
	}
	return nil
}

// Profile reads a profile's metadata.
func (h *Home) Profile(name string) (ProfileInfo, error) {
	var info ProfileInfo
	if err := provider.ValidName(name); err != nil {
		return info, fmt.Errorf("%w: profile: %w", flows.ErrBadName, err)
	}
	path := h.profileFile(name)
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		known, _ := h.Profiles() // only to suggest one
		return info, &NoProfileError{Name: name, Suggestions: provider.Suggest(name, known)}
	}
	if err != nil {
		return info, err
	}
	return info, decodeFile(path, b, &info)
}

// Profiles returns the names of all profiles, sorted.
func (h *Home) Profiles() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(h.Dir, "profiles", "*", "metadata.json"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHome, err)
	}
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names, nil
}
