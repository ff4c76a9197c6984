//go:build !unix

package vault

import "os"

// keepOwner does nothing: files inherit their access here.
func keepOwner(string, os.FileInfo) error { return nil }
