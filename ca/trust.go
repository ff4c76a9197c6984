package ca

import "errors"

// TrustInput is what WriteTrust needs to know of the parent and the proxy.
type TrustInput struct {
	// Environ looks up the parent's environment; required.
	Environ func(string) string
	// ProxyURL is what the child's proxy variables are set to, userinfo included.
	ProxyURL string
	// NoProxy are further hosts that the child reaches directly.
	NoProxy []string
	// ExtraFiles are further PEM files to merge into the bundle.
	ExtraFiles []string
	// ChildDir is the directory's path as the child sees it; "" means the same.
	ChildDir string
	// AllowOtherReaders makes the files readable by every user: for a volume
	// shared with a container that runs as somebody else.
	AllowOtherReaders bool
}

// Trust is a directory of trust files and the environment that names them.
type Trust struct {
	Dir      string   // where the files are
	Bundle   string   // the merged PEM file's path, on this side
	Warnings []string // what was skipped, one line each
}

// WriteTrust writes the trust files for root (PEM) into dir.
func WriteTrust(dir string, root []byte, in TrustInput) (*Trust, error) {
	return nil, errors.ErrUnsupported
}

// Env returns the variables for the child; they replace the inherited ones.
func (t *Trust) Env() map[string]string { return nil }

// Dotenv renders variables as KEY=value lines, sorted.
func Dotenv(env map[string]string) []byte { return nil }

// Shell renders variables as POSIX export lines, sorted, safe to eval.
func Shell(env map[string]string) []byte { return nil }
