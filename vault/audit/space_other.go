//go:build !linux

package audit

import (
	"errors"
	"os"
)

// allocate is not available: room is known only by trying.
func allocate(*os.File, int64, int64) error { return errors.ErrUnsupported }

// freeBytes is not available.
func freeBytes(*os.File) (int64, error) { return 0, errors.ErrUnsupported }
