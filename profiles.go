package authsome

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"authsome/flows"
	"authsome/provider"
)

// NoProfileError is ErrNoProfile, with the name and those that are spelled like
// it.
type NoProfileError struct {
	Name        string
	Suggestions []string
}

// Error names what was asked for, unless that may be a secret.
func (e *NoProfileError) Error() string {
	name := e.Name
	if provider.MayBeSecret(name) {
		name = provider.Repeat(name)
	}
	return ErrNoProfile.Error() + ": " + name
}

// Unwrap returns ErrNoProfile.
func (e *NoProfileError) Unwrap() error { return ErrNoProfile }

// Hint returns what to do next.
func (e *NoProfileError) Hint() string {
	if len(e.Suggestions) == 0 {
		return "run: authsome profile list"
	}
	return "did you mean " + strings.Join(e.Suggestions, ", ") + "? run: authsome profile list"
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
