// Package deploy_test checks what is here to be copied.
package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The manifests' test has a module of its own, for its dependencies: Helm, and
// the types of Kubernetes, Compose and the Prometheus operator.
func TestManifests(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "-C", "check", "test", "-count=1", ".")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// systemd knows every line of the units, and finds little that they leave open.
func TestUnits(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put := func(from, to string) string {
		t.Helper()
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
		return to
	}
	put("/lib/systemd/system", "usr/lib/systemd/system")
	put("/bin/kill", "bin/kill")
	put("systemd/authsome.socket", "etc/systemd/system/authsome.socket")
	var services []string
	for _, name := range []string{"authsome", "agent"} {
		put("/bin/true", "usr/local/bin/"+name) // any program
		services = append(services, put("systemd/"+name+".service", "etc/systemd/system/"+name+".service"))
	}
	analyze := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	// What it does not know it warns of, and that is all.
	if out := analyze("verify", "--root="+root, "authsome.service", "authsome.socket", "agent.service"); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	for _, service := range services {
		analyze("security", "--offline=true", "--threshold=15", service) // of 100
	}
}
