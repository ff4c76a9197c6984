package main_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// configMap and podSpec are what is understood of the manifests. That they hold
// nothing that Kubernetes does not know is checked in deploy/check.
type configMap struct {
	Data map[string]string
}

type podSpec struct {
	SecurityContext struct {
		FSGroup int `yaml:"fsGroup"`
	} `yaml:"securityContext"`
	InitContainers []podContainer `yaml:"initContainers"`
	Containers     []podContainer
	Volumes        []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
		Secret    struct {
			SecretName  string `yaml:"secretName"`
			DefaultMode int    `yaml:"defaultMode"`
		}
		EmptyDir *struct{} `yaml:"emptyDir"`
	}
}

type podContainer struct {
	Name, Image   string
	RestartPolicy string `yaml:"restartPolicy"`
	Command, Args []string
	Env           []struct{ Name, Value string }
	EnvFrom       []struct {
		ConfigMapRef struct{ Name string } `yaml:"configMapRef"`
	} `yaml:"envFrom"`
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	StartupProbe    *probe `yaml:"startupProbe"`
	ReadinessProbe  *probe `yaml:"readinessProbe"`
	LivenessProbe   *probe `yaml:"livenessProbe"`
	SecurityContext struct {
		User          int   `yaml:"runAsUser"`
		Group         int   `yaml:"runAsGroup"`
		AllowEscalate *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRoot  bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities  struct{ Add, Drop []string }
	} `yaml:"securityContext"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

func readManifest(t *testing.T, name string, to any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join("..", "..", "deploy", "kubernetes", name))), to); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// kubelet makes containers of a pod.
type kubelet struct {
	t       *testing.T
	pod     *pod
	spec    podSpec
	maps    map[string]map[string]string
	volumes map[string]string
}

func newKubelet(t *testing.T, p *pod) *kubelet {
	t.Helper()
	k := &kubelet{t: t, pod: p, maps: map[string]map[string]string{}, volumes: map[string]string{}}
	var deployment struct {
		Spec struct{ Template struct{ Spec podSpec } }
	}
	readManifest(t, "deployment.yaml", &deployment)
	k.spec = deployment.Spec.Template.Spec
	for file, name := range map[string]string{"authsome.yaml": "agent-authsome", "agent-env.yaml": "agent-env"} {
		var m configMap
		readManifest(t, file, &m)
		k.maps[name] = m.Data
	}
	group := k.spec.SecurityContext.FSGroup
	for _, v := range k.spec.Volumes {
		switch {
		case v.EmptyDir != nil: // 0777, then given to fsGroup
			k.volumes[v.Name] = volume(t, 0, group, os.ModeSetgid|0o777)
		case v.ConfigMap.Name != "":
			k.volumes[v.Name] = k.files(k.maps[v.ConfigMap.Name], group, 0o644)
		case v.Secret.SecretName == "authsome-credentials":
			k.volumes[v.Name] = k.files(map[string]string{"openai_api_key": openaiKey + "\n"}, group, os.FileMode(v.Secret.DefaultMode))
		default:
			t.Fatalf("what is volume %s?", v.Name)
		}
	}
	return k
}

func (k *kubelet) files(content map[string]string, group int, mode os.FileMode) string {
	k.t.Helper()
	dir := volume(k.t, 0, group, os.ModeSetgid|0o777)
	for name, text := range content {
		path := filepath.Join(dir, name)
		for _, err := range []error{os.WriteFile(path, []byte(text), 0o600), os.Chown(path, 0, group), os.Chmod(path, mode)} {
			if err != nil {
				k.t.Fatal(err)
			}
		}
	}
	return dir
}

// container is what the kubelet has the runtime run.
func (k *kubelet) container(from podContainer, rootfs string, entrypoint ...string) *container {
	k.t.Helper()
	security := from.SecurityContext
	if security.AllowEscalate == nil || *security.AllowEscalate || strings.Join(security.Capabilities.Drop, " ") != "ALL" {
		k.t.Errorf("container %s keeps rights that it does not need", from.Name)
	}
	c := &container{t: k.t, rootfs: rootfs, network: k.pod.netns, user: security.User, group: security.Group, groups: []int{k.spec.SecurityContext.FSGroup},
		writable: !security.ReadOnlyRoot, args: append(append(entrypoint, from.Command...), from.Args...), env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}}
	for _, capability := range security.Capabilities.Add {
		c.capabilities = append(c.capabilities, "CAP_"+capability)
	}
	for _, source := range from.EnvFrom {
		for name, value := range k.maps[source.ConfigMapRef.Name] {
			c.env = append(c.env, name+"="+value)
		}
	}
	for _, e := range from.Env {
		c.env = append(c.env, e.Name+"="+e.Value)
	}
	for _, m := range from.VolumeMounts {
		options := []string{"rw"}
		if m.ReadOnly {
			options = []string{"ro"}
		}
		c.mounts = append(c.mounts, mount{k.volumes[m.Name], m.MountPath, options})
	}
	return c
}

// probe asks as the kubelet does: from outside, at the pod's address.
func (k *kubelet) probe(c podContainer, p *probe) (status int, body string) {
	for _, port := range c.Ports {
		if port.Name == p.HTTPGet.Port {
			return k.pod.world.get(fmt.Sprintf("http://10.77.0.2:%d%s", port.ContainerPort, p.HTTPGet.Path))
		}
	}
	k.t.Fatalf("container %s has no port %s", c.Name, p.HTTPGet.Port)
	return 0, ""
}

// get asks from within the namespace.
func (n *netns) get(target string) (status int, body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
			err = n.do(func() (err error) { c, err = (&net.Dialer{}).DialContext(ctx, network, address); return err })
			return c, err
		}}}
	resp, err := client.Get(target)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// runPod does what the kubelet does with the Deployment's pod.
func runPod(t *testing.T, image, agentImage string) {
	world := newInternet(t)
	p := newPod(t, world)
	k := newKubelet(t, p)
	if len(k.spec.InitContainers) != 2 || len(k.spec.Containers) != 1 {
		t.Fatalf("got %d init containers and %d containers, want 2 and 1", len(k.spec.InitContainers), len(k.spec.Containers))
	}
	redirect := k.container(k.spec.InitContainers[0], image, "/usr/bin/authsome")
	out, err := redirect.command().CombinedOutput()
	redirect.remove()
	if err != nil {
		t.Fatalf("the init container %q: %v: %s", redirect.args, err, out)
	}
	proxy := k.spec.InitContainers[1]
	sidecar := k.container(proxy, image, "/usr/bin/authsome").trust(world)
	s := sidecar.serve(filepath.Join(k.volumes["state"], "home"))
	for _, probe := range []*probe{proxy.StartupProbe, proxy.ReadinessProbe, proxy.LivenessProbe} {
		s.eventually("the probe "+probe.HTTPGet.Path+" is answered", func() bool {
			if s.hasEnded() {
				t.Fatalf("the proxy ended:\n%s", s.stderr.String())
			}
			status, _ := k.probe(proxy, probe)
			return status == http.StatusOK
		})
	}
	if out, err := sidecar.exec("/usr/bin/authsome", "proxy", "--healthcheck"); err != nil {
		t.Errorf("the image's own health check: %v: %s", err, out)
	}
	agent := func(command ...string) *container {
		c := k.container(k.spec.Containers[0], agentImage)
		if command != nil {
			c.args = command
		}
		return c
	}
	t.Run("the agent as it is", func(t *testing.T) {
		c := agent()
		c.mounts = append(c.mounts, mount{"/usr", "/usr", []string{"ro"}})
		running := c.serve("")
		defer c.remove()
		running.eventually("the agent is welcome", func() bool { return strings.Contains(running.stdout.String(), "welcome api.openai.com") })
	})
	t.Run("its variables", func(t *testing.T) {
		s.env = filepath.Join(k.volumes["handout"], "agent.env")
		got, want := k.maps["agent-env"], s.variables()
		for _, shell := range shellVariables {
			delete(want, shell)
		}
		if !maps.Equal(got, want) {
			t.Errorf("agent-env.yaml: got %q, want what the sidecar writes: %q", got, want)
		}
	})
	t.Run("no way round", func(t *testing.T) {
		for target, want := range map[string]string{
			"https://www.elsewhere.example.test/": "curl: (35)", // the proxy will have none of it
			"https://api.openai.com:8443/":        "curl: (7)",
			"http://www.elsewhere.example.test/":  "egress_denied",
			"file:///run/secrets/authsome":        "curl: (37)",
			"file:///var/lib/authsome/home":       "curl: (37)",
		} {
			if out, _ := agent("curl", "-sSi", "--max-time", "5", target).output(nil); !strings.Contains(out, want) {
				t.Errorf("%s: got %s, want %s", target, out, want)
			}
		}
		if out, err := agent("sh", "-c", "echo >/run/authsome/ca.pem").output(nil); err == nil || !strings.Contains(out, "Read-only") {
			t.Errorf("the agent writes to what it trusts: %v: %s", err, out)
		}
	})
	t.Run("strangers", func(t *testing.T) {
		if status, body := world.get("http://10.77.0.2:15001/"); status == http.StatusOK {
			t.Errorf("another pod uses the transparent listener: %d %s", status, body)
		}
	})
	t.Run("the sidecar alone starts again", func(t *testing.T) {
		root := filepath.Join(k.volumes["handout"], "root.pem")
		before := readFile(t, root)
		sidecar.remove()
		<-s.done
		s = sidecar.serve(filepath.Join(k.volumes["state"], "home"))
		s.eventually("it is ready", func() bool { status, _ := k.probe(proxy, proxy.ReadinessProbe); return status == http.StatusOK })
		if readFile(t, root) != before {
			t.Error("agents that run on trust it no longer")
		}
	})
	t.Run("the end", func(t *testing.T) {
		checkDrain(t, s, sidecar, world, agent, []string{"/usr/bin/authsome", "proxy", "--healthcheck"})
	})
}

// What the chart has agents use when nothing is redirected is what the proxy
// would write for them.
func TestChartVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want map[string]string
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join("..", "..", "deploy", "check", "testdata", "variables.yaml"))), &want); err != nil {
		t.Fatal(err)
	}
	got := w.serve("--advertise", "127.0.0.1:8080", "--agent-dir", "/run/authsome").variables()
	for _, shell := range shellVariables {
		delete(got, shell)
	}
	if !maps.Equal(got, want) {
		t.Errorf("the proxy writes %q, the chart says %q", got, want)
	}
}

// shellVariables are what a shell adds to an environment.
var shellVariables = []string{"PATH", "PWD", "_", "SHLVL", "OLDPWD"}
