package main

import (
	"errors"
	"fmt"
	"io/fs"

	"authsome/vault/audit"

	"github.com/spf13/cobra"
)

func newLogVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that the audit log was not altered",
		Long: `Check the hash chain that each process wrote: an entry that was edited, added,
removed or moved is found, and so is an end that was cut off: what a process
wrote last is noted beside the log. Whoever can rewrite the whole log, its hashes
and that note remains unseen.`,
		Example: "  authsome log verify --json",
		Args:    exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			home, err := a.home()
			if err != nil {
				return err
			}
			return a.verifyLog(home.AuditPath())
		},
	}
}

func (a *app) verifyLog(path string) error {
	err := audit.VerifyAll(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &fault{code: "NoAuditLog", exit: exitOther, msg: "there is no audit log at " + path, hint: "run: authsome init", err: err}
	}
	var tampered *audit.TamperError
	if errors.As(err, &tampered) {
		where := path
		if tampered.Line > 0 {
			where += fmt.Sprintf(": line %d", tampered.Line)
		}
		return &fault{code: "AuditTampered", exit: exitOther, msg: where + ": " + tampered.Reason,
			hint: "keep the file: it is evidence; compare it with a backup", err: err}
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.emit(map[string]any{"ok": true, "path": path})
	}
	a.say("%s is intact.", path)
	return nil
}
