//go:build !unix

package authsome

// checkOwner has nothing to look at: access lists say here who owns what.
func checkOwner(string) error { return nil }
