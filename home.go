package authsome

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"authsome/flows/imports"
	"authsome/provider"
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
// never replaced. So is a directory that another user owns or can write to, but
// for one of root's.
func OpenHome(dir string) (h *Home, created bool, err error) {
	if err := makeDir(dir); err != nil {
		return nil, false, err
	}
	if err := checkOwner(dir); err != nil {
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

// SaveConfig writes config.json, keeping unknown fields.
func (h *Home) SaveConfig() error {
	out := map[string]any{}
	for k, v := range h.Config.unknown {
		out[k] = v
	}
	encryption := map[string]json.RawMessage{} // raw: a float64 would round numbers
	if raw, ok := h.Config.unknown["encryption"]; ok {
		if err := json.Unmarshal(raw, &encryption); err != nil {
			return fmt.Errorf("%w: encryption: %w", ErrConfig, err)
		}
	}
	mode, err := json.Marshal(h.Config.Encryption.Mode)
	if err != nil {
		return fmt.Errorf("%w: encryption: %w", ErrConfig, err)
	}
	encryption["mode"] = mode
	out["spec_version"], out["default_profile"], out["encryption"] = h.Config.SpecVersion, h.Config.DefaultProfile, encryption
	return writeJSON(h.configPath(), out)
}

// AuditPath returns the audit log.
func (h *Home) AuditPath() string { return filepath.Join(h.Dir, "audit.log") }

// ProvidersDir holds the user's provider definitions.
func (h *Home) ProvidersDir() string { return filepath.Join(h.Dir, "providers") }

// KeyPath returns the key-encryption key's file in mode local_key.
func (h *Home) KeyPath() string { return filepath.Join(h.Dir, "master.key") }
