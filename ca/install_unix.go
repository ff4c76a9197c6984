//go:build unix && !darwin

package ca

import (
	"os"
	"os/exec"
)

// stores are the ways of the distributions, each known by its directory and its
// tool. The first that is there counts.
var stores = []store{
	{dir: "/usr/local/share/ca-certificates", changed: []string{"update-ca-certificates"},
		gone:  []string{"update-ca-certificates", "--fresh"}, // links to what is gone stay otherwise
		hooks: "/etc/ca-certificates/update.d"},              // Debian, Ubuntu, Alpine
	{dir: "/etc/pki/ca-trust/source/anchors", changed: []string{"update-ca-trust", "extract"}},       // Fedora, RHEL
	{dir: "/etc/ca-certificates/trust-source/anchors", changed: []string{"trust", "extract-compat"}}, // Arch (p11-kit)
	{dir: "/etc/pki/trust/anchors", changed: []string{"update-ca-certificates"}},                     // openSUSE
	{dir: "/usr/share/pki/trust/anchors", changed: []string{"update-ca-certificates"}},               // older openSUSE
	{dir: "/usr/local/etc/ssl/certs", changed: []string{"certctl", "rehash"}},                        // FreeBSD
	{dir: "/usr/share/pki/ca-trust-source/anchors", changed: []string{"trust", "extract-compat"}},    // p11-kit's own
}

func systemStore(string) (store, error) {
	for _, s := range stores {
		if info, err := os.Stat(s.dir); err != nil || !info.IsDir() {
			continue
		}
		if tool, err := exec.LookPath(s.changed[0]); err == nil {
			s.changed = append([]string{tool}, s.changed[1:]...)
			if s.gone != nil {
				s.gone = append([]string{tool}, s.gone[1:]...)
			}
			return s, nil
		}
	}
	return store{}, ErrNoSystemStore
}
