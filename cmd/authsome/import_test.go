//go:build linux

package main_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"authsome/flows/imports/importstest"
)

// TestImportFromThePredecessor moves a home of the Python authsome, and uses
// what came over.
func TestImportFromThePredecessor(t *testing.T) {
	w := newWorld(t)
	old := filepath.Join(t.TempDir(), "old home")
	(&importstest.Home{Generation: importstest.Records, Records: map[string]map[string]map[string]any{
		"default": {
			"profile:default:example:connection:work": {"provider": "example", "auth_type": "api_key", "status": "connected", "api_key": canary},
			"profile:default:github:client":           {"client_id": "client", "client_secret": canary},
			"profile:default:github:connection:default": {"provider": "github", "auth_type": "oauth2", "status": "connected",
				"access_token": canary, "scopes": []string{"repo"}, "account": map[string]any{"id": "1", "label": "ada"}},
			"profile:default:nobody:connection:default": {"provider": "nobody", "api_key": canary, "status": "connected"},
		},
		"other": {"profile:other:example:connection:default": {"provider": "example", "status": "connected", "api_key": canary}},
	}}).Write(t, old)

	// It is not mistaken for a home of ours, nor changed.
	r := w.run(w.command([]string{"AUTHSOME_HOME=" + old}, "list"), "")
	if r.code != 1 || !strings.Contains(r.stderr, "it is a home of the Python authsome") || !strings.Contains(r.stderr, "run: authsome import "+old+"-old") {
		t.Errorf("as a home: exit %d: %s", r.code, r.stderr)
	}

	if r := w.run(w.command(nil, "register", "-", "--yes"), exampleDefinition); r.code != 0 {
		t.Fatal(r.stderr)
	}
	r = w.run(w.command(nil, "import", old, "--json", "--yes"), "")
	var got struct {
		Imported []struct{ Provider, Connection, Status string }
		Skipped  []struct{ Provider, Where, Reason string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Imported) != 2 || len(got.Skipped) != 1 {
		t.Fatalf("exit %d: %v\n%s%s", r.code, err, r.stdout, r.stderr)
	}
	if r.code != 3 || got.Skipped[0].Where != "nobody/default" || !strings.Contains(got.Skipped[0].Reason, "not found") {
		t.Errorf("exit %d: %+v", r.code, got.Skipped)
	}
	if one := got.Imported[0]; one.Provider != "example" || one.Connection != "work" || one.Status != "connected" {
		t.Errorf("imported %+v", got.Imported)
	}
	if r := w.must("run", "--", "curl", "-sS", "https://api.example.test/x"); !strings.Contains(r.stdout, "welcome GET") {
		t.Errorf("the API said %s%s", r.stdout, r.stderr)
	}
	if r := w.must("list", "--search", "github", "--json"); !strings.Contains(r.stdout, `"state": "connected"`) {
		t.Errorf("list: %s", r.stdout)
	}

	// Another profile comes from the profile of its name.
	w.must("profile", "create", "other")
	if r := w.must("import", old, "--yes", "--profile", "other"); !strings.Contains(r.stdout, "imported  example/default  from example/default") {
		t.Errorf("profile: %s%s", r.stdout, r.stderr)
	}
	w.must("profile", "create", "third")
	if r := w.run(w.command(nil, "import", old, "--yes", "--profile", "third"), ""); r.code != 5 || !strings.Contains(r.stderr, "it has no profile third") {
		t.Errorf("no such profile: exit %d: %s", r.code, r.stderr)
	}
	w.noSecret()
	w.private()
}
