package check_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(filepath.Join("..", "helm", "authsome-sidecar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// render does what helm install agent does, up to sending it to a cluster.
func render(t *testing.T, c *chart.Chart, values string) ([]runtime.Object, error) {
	t.Helper()
	var v map[string]any
	if err := yaml.UnmarshalStrict([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	if err := chartutil.ProcessDependencies(c, v); err != nil {
		return nil, err
	}
	capabilities := *chartutil.DefaultCapabilities
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.29.0", Major: "1", Minor: "29"}
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: "agent", Namespace: "default"}, &capabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	var objects []runtime.Object
	for name, text := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		some, err := decode([]byte(text))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		objects = append(objects, some...)
	}
	return objects, nil
}

// comparable is an object by its kind and name, without what Helm adds to it.
func comparable(t *testing.T, o runtime.Object) (key string, content map[string]any) {
	t.Helper()
	m, err := meta.Accessor(o)
	if err != nil {
		t.Fatal(err)
	}
	labels := m.GetLabels()
	delete(labels, "helm.sh/chart")
	delete(labels, "app.kubernetes.io/managed-by")
	m.SetLabels(labels)
	switch o := o.(type) {
	case *apps.Deployment:
		o.Spec.Template.Annotations = nil // the checksum
		for _, all := range [][]core.Container{o.Spec.Template.Spec.InitContainers, o.Spec.Template.Spec.Containers} {
			for i := range all {
				all[i].ImagePullPolicy = ""
				if strings.HasPrefix(all[i].Image, "authsome:") {
					all[i].Image = "authsome" // the tag is the chart's
				}
			}
		}
	case *core.ConfigMap: // the configuration, however it is written
		if text, ok := o.Data["proxy.yaml"]; ok {
			var config map[string]any
			if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
				t.Fatal(err)
			}
			b, err := yaml.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			o.Data["proxy.yaml"] = string(b)
		}
	}
	content, err = runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	return o.GetObjectKind().GroupVersionKind().Kind + " " + m.GetName(), content
}

// With the values of testdata/plain.yaml the chart makes the plain manifests.
func TestChartMakesThePlainManifests(t *testing.T) {
	objects, err := render(t, loadChart(t), string(readHere(t, "plain.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	got, want := map[string]map[string]any{}, map[string]map[string]any{}
	for _, o := range objects {
		key, content := comparable(t, o)
		got[key] = content
	}
	for _, o := range kustomize(t, "secret.yaml") {
		key, content := comparable(t, o)
		want[key] = content
	}
	for key := range got {
		if want[key] == nil {
			t.Errorf("the chart makes %s, which is not in kubernetes/", key)
		}
	}
	for key := range want {
		if g, w := dump(t, got[key]), dump(t, want[key]); g != w {
			t.Errorf("%s: the chart makes\n%s\nand in kubernetes/ is\n%s", key, g, w)
		}
	}
}

func dump(t *testing.T, v any) string {
	t.Helper()
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readHere(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestChartValues(t *testing.T) {
	for name, values := range map[string]string{
		"none":       "",
		"no agent":   "agent: {create: false}\npodLabels: {app: mine}\n",
		"many":       string(readHere(t, "many.yaml")),
		"no policy":  "networkPolicy: {enabled: false}\n",
		"by digest":  "image: {digest: 'sha256:" + strings.Repeat("ab", 32) + "'}\n",
		"monitoring": "monitoring: {podMonitor: true, prometheusRule: true, labels: {release: prometheus}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := render(t, loadChart(t), values)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if d, ok := o.(*apps.Deployment); ok {
					checkPod(t, d.Spec.Template.Spec)
				}
			}
			if name == "no agent" == strings.Contains(dump(t, objects), "kind: Deployment") {
				t.Error("a Deployment where there should be none, or none")
			}
		})
	}
}

// The variables that the chart gives an agent when nothing is redirected are held
// in testdata, for the test of the command to compare with what the proxy writes.
func TestChartVariables(t *testing.T) {
	objects, err := render(t, loadChart(t), "redirect: {enabled: false}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if m, ok := o.(*core.ConfigMap); ok && m.Name == "agent-env" {
			got := dump(t, m.Data)
			if *update {
				if err := os.WriteFile("testdata/variables.yaml", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(readHere(t, "variables.yaml")); got != want {
				t.Errorf("got %s, want %s (to accept it: go -C deploy/check test -run TestChartVariables -update)", got, want)
			}
			return
		}
	}
	t.Error("the chart makes no variables")
}

// What would not work, or would not be safe, is refused before it is installed.
func TestChartRefuses(t *testing.T) {
	for values, want := range map[string]string{
		"imagee: {}\n":                                                   "imagee",
		"agent: {runAsUser: 65532}\n":                                    "runAsUser",
		"agent: {runAsUser: 0}\n":                                        "runAsUser",
		"egress: {policy: open}\n":                                       "policy",
		"config: {store: memory, listen: '0.0.0.0:1'}\n":                 "config",
		"image: {digest: latest}\n":                                      "digest",
		"credentials: [{provider: openai}]\n":                            "secretName",
		"credentials: [{provider: ../x, secretName: a, secretKey: b}]\n": "provider",
		"credentials: [{provider: x, secretName: a, secretKey: ../b}]\n": "secretKey",
		"networkPolicy: {ports: [0]}\n":                                  "ports",
	} {
		if _, err := render(t, loadChart(t), values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %s", values, err, want)
		}
	}
}

// A chart of one's own has the sidecar from the templates.
func TestChartAsADependency(t *testing.T) {
	parent := &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: "mine", Version: "1.0.0",
		Dependencies: []*chart.Dependency{{Name: "authsome-sidecar", Version: "0.1.0"}}},
		Values:    map[string]any{"authsome-sidecar": map[string]any{"agent": map[string]any{"create": false}}},
		Templates: []*chart.File{{Name: "templates/job.yaml", Data: readHere(t, "parent.yaml")}}}
	parent.AddDependency(loadChart(t))
	objects, err := render(t, parent, "authsome-sidecar: {credentials: [{provider: openai, secretName: keys, secretKey: openai}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, o := range objects {
		if d, ok := o.(*apps.Deployment); ok {
			found = true
			checkPod(t, d.Spec.Template.Spec)
			if n := len(d.Spec.Template.Spec.InitContainers); n != 2 {
				t.Errorf("got %d init containers, want 2", n)
			}
		}
	}
	if !found || len(objects) != 4 {
		t.Errorf("got %d objects, want a Deployment, two ConfigMaps and a NetworkPolicy", len(objects))
	}
}
