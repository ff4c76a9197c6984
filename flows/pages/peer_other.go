//go:build !linux

package pages

// ownedBy is not known here: nobody is told apart.
func ownedBy(_ int, _, _ string) bool { return true }
