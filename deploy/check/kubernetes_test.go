package check_test

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func bufferOf(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

// kustomize returns what a kustomization.yaml with resources alone makes. It
// fails when a manifest beside it is left out.
func kustomize(t *testing.T, leftOut ...string) (all []runtime.Object) {
	t.Helper()
	for _, dir := range []string{"kubernetes", "kubernetes/monitoring"} {
		var k struct {
			APIVersion, Kind string
			Resources        []string
		}
		if err := yaml.UnmarshalStrict(read(t, dir, "kustomization.yaml"), &k); err != nil {
			t.Fatal(err)
		}
		if k.APIVersion != "kustomize.config.k8s.io/v1beta1" || k.Kind != "Kustomization" || len(k.Resources) == 0 {
			t.Errorf("%s/kustomization.yaml: %+v", dir, k)
		}
		entries, err := os.ReadDir(filepath.Join("..", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !e.IsDir() && e.Name() != "kustomization.yaml" && !slices.Contains(k.Resources, e.Name()) && !slices.Contains(leftOut, e.Name()) {
				t.Errorf("%s/kustomization.yaml leaves %s out", dir, e.Name())
			}
		}
		for _, name := range k.Resources {
			objects, err := decode(read(t, dir, name))
			if err != nil || len(objects) == 0 {
				t.Errorf("%s/%s: %d objects, %v", dir, name, len(objects), err)
			}
			all = append(all, objects...)
		}
	}
	return all
}

func TestKubernetes(t *testing.T) {
	objects := kustomize(t, "secret.yaml")
	if len(objects) != 7 {
		t.Errorf("got %d objects, want 7", len(objects))
	}
	deployments := 0
	for _, o := range objects {
		switch o := o.(type) {
		case *apps.Deployment:
			deployments++
			checkPod(t, o.Spec.Template.Spec)
		case *core.ServiceAccount:
			if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
				t.Error("the service account's token is mounted")
			}
		}
	}
	if deployments != 1 {
		t.Errorf("got %d Deployments, want 1", deployments)
	}
	secrets, err := decode(read(t, "kubernetes", "secret.yaml"))
	if err != nil || len(secrets) != 1 {
		t.Fatalf("secret.yaml: %d objects, %v", len(secrets), err)
	}
	// The sidecar is not to start with what stands in for a key.
	if key := secrets[0].(*core.Secret).StringData["openai_api_key"]; key == "" || strings.HasPrefix(key, "sk-") {
		t.Errorf("secret.yaml holds %q, want what is no key", key)
	}
}

// checkPod holds every container of a pod to the rights that it needs.
func checkPod(t *testing.T, pod core.PodSpec) {
	t.Helper()
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken || pod.HostNetwork || pod.HostPID || pod.HostIPC ||
		pod.ShareProcessNamespace != nil && *pod.ShareProcessNamespace {
		t.Error("the pod shares what it should not, or mounts a token")
	}
	if pod.SecurityContext.SeccompProfile == nil || pod.SecurityContext.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Error("the pod has no seccomp profile")
	}
	secrets := map[string]bool{}
	for _, v := range pod.Volumes {
		secrets[v.Name] = v.Secret != nil || v.Name == "state"
	}
	for _, c := range append(slices.Clone(pod.InitContainers), pod.Containers...) {
		s := c.SecurityContext
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.Privileged != nil && *s.Privileged ||
			!slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || s.ReadOnlyRootFilesystem == nil {
			t.Errorf("container %s keeps rights that it does not need", c.Name)
		}
		if redirects := c.Name == "redirect"; redirects != (*s.RunAsUser == 0) || redirects != slices.Equal(s.Capabilities.Add, []core.Capability{"NET_ADMIN"}) {
			t.Errorf("container %s: user %d, capabilities %v", c.Name, *s.RunAsUser, s.Capabilities.Add)
		}
		if sidecar := c.Name == "authsome"; sidecar != (*s.RunAsUser == 65532) {
			t.Errorf("container %s runs as the sidecar's user: it would go round the redirection", c.Name)
		} else if sidecar && (c.RestartPolicy == nil || *c.RestartPolicy != core.ContainerRestartPolicyAlways || c.StartupProbe == nil) {
			t.Error("the sidecar is not one, or the agent does not wait for it")
		} else {
			for _, m := range c.VolumeMounts {
				if secrets[m.Name] && !sidecar || m.Name == "handout" && !sidecar && !m.ReadOnly {
					t.Errorf("container %s mounts %s", c.Name, m.Name)
				}
			}
		}
	}
}
