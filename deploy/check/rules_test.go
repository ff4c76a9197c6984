package check_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write what is made from something else anew")

const ruleHeader = `# Made from deploy/prometheus/authsome.rules.yml by
# go -C deploy/check test -run TestRules -update
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: agent
  labels: { app.kubernetes.io/name: agent }
spec:
`

// The operator's object and the chart hold the rules that Prometheus is tested
// with.
func TestRules(t *testing.T) {
	chart := filepath.Join("..", "helm", "authsome-sidecar", "files", "authsome.rules.yml")
	rules, err := os.ReadFile(filepath.Join("..", "prometheus", "authsome.rules.yml"))
	if errors.Is(err, fs.ErrNotExist) {
		rules, err = os.ReadFile(chart)
	}
	if err != nil {
		t.Fatal(err)
	}
	object := bytes.NewBufferString(ruleHeader)
	for line := range bytes.Lines(rules) {
		if len(bytes.TrimSpace(line)) > 0 {
			object.WriteString("  ")
		}
		object.Write(line)
	}
	for path, want := range map[string][]byte{chart: rules, filepath.Join("..", "kubernetes", "monitoring", "prometheusrule.yaml"): object.Bytes()} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Error(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what prometheus/authsome.rules.yml makes of it (%v); run: go -C deploy/check test -run TestRules -update", path, err)
		}
	}
}
