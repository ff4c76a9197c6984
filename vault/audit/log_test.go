package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"authsome/vault/audit"
)

func TestOpenWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	log, err := audit.Open(path, audit.Config{Profile: "default"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"login", "export", "logout"} {
		if err := log.Write(audit.Event{Event: name, Provider: "github"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := log.Write(audit.Event{Event: "late"}); !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("Write after Close = %v, want ErrUnavailable", err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var got []string
	for e, err := range audit.Read(file, audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Profile != "default" || e.Outcome != audit.OK || e.Actor.PID != os.Getpid() {
			t.Errorf("event = %+v", e)
		}
		got = append(got, e.Event)
	}
	if len(got) != 3 || got[0] != "login" || got[2] != "logout" {
		t.Errorf("events = %v", got)
	}
}
