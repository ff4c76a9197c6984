// Package deploy_test checks what is here to be copied.
package deploy_test

import (
	"os"
	"os/exec"
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
