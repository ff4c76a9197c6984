package main_test

import (
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// imageVersion is what the image is built as.
const imageVersion = "v0.0.1-test"

// images builds and holds images, out of reach of any registry.
type images struct {
	t   *testing.T
	dir string
}

func newImages(t *testing.T) *images {
	t.Helper()
	i := &images{t, t.TempDir()}
	t.Cleanup(func() {
		i.buildah("rm", "--all")
		i.buildah("rmi", "--all", "--force")
	})
	return i
}

func (i *images) buildah(args ...string) string {
	i.t.Helper()
	cmd := exec.Command(tool(i.t, "buildah"), append([]string{"--storage-driver", "vfs", "--root", filepath.Join(i.dir, "root"), "--runroot", filepath.Join(i.dir, "run")}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+i.dir, "BUILDAH_ISOLATION=chroot")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		i.t.Fatalf("buildah %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// base makes an image whose programs are this machine's: they are mounted, Go
// among them, and so are what Go has downloaded and compiled before.
func (i *images) base() {
	i.t.Helper()
	context := filepath.Join(i.dir, "base")
	for _, dir := range []string{"usr", "tmp", "root", "proc", "dev", "mnt", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(context, dir), 0o755); err != nil {
			i.t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(context, dir)); err != nil {
			i.t.Fatal(err)
		}
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(context, name), []byte(text), 0o644); err != nil {
			i.t.Fatal(err)
		}
	}
	write("etc/ssl/certs/ca-certificates.crt", readFile(i.t, "/etc/ssl/certs/ca-certificates.crt"))
	write("Dockerfile", fmt.Sprintf("FROM scratch\nCOPY . /\nENV PATH=%s/bin:/usr/bin:/bin HOME=/root GOPROXY=%s GOMODCACHE=/mnt/mod GOCACHE=/mnt/cache\n",
		goEnv(i.t, "GOROOT"), goEnv(i.t, "GOPROXY")))
	i.buildah("build", "--tag", "localhost/base", context)
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command(tool(t, "go"), "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// build builds the Dockerfile at the top of a copy of the sources.
func (i *images) build(sources, tag string) {
	i.t.Helper()
	args := []string{"build", "--pull-never", "--format", "docker", "--timestamp", "0", "--build-arg", "BUILD_IMAGE=localhost/base", "--build-arg", "VERSION=" + imageVersion,
		"--volume", "/usr:/usr:ro", "--volume", goEnv(i.t, "GOMODCACHE") + ":/mnt/mod", "--volume", goEnv(i.t, "GOCACHE") + ":/mnt/cache"}
	if root := goEnv(i.t, "GOROOT"); !strings.HasPrefix(root, "/usr/") {
		args = append(args, "--volume", root+":"+root+":ro")
	}
	i.buildah(append(args, "--tag", tag, sources)...)
}

// rootfs unpacks an image.
func (i *images) rootfs(tag string) string {
	i.t.Helper()
	return i.buildah("mount", i.buildah("from", "--pull-never", tag))
}

// imageConfig is what an image says about itself.
type imageConfig struct {
	Docker struct {
		Config struct {
			User        string
			Entrypoint  []string
			Cmd         []string
			Env         []string
			Labels      map[string]string
			Healthcheck struct{ Test []string }
			StopSignal  string
		}
		RootFS struct {
			Layers []string `json:"diff_ids"`
		}
	}
}

func (i *images) inspect(tag string) (c imageConfig) {
	i.t.Helper()
	if err := json.Unmarshal([]byte(i.buildah("inspect", "--type", "image", tag)), &c); err != nil {
		i.t.Fatal(err)
	}
	return c
}

// copySources copies what a clone would hold. Every file gets a new time.
func copySources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("bash", "-c", `set -o pipefail; git ls-files -z --cached --others --exclude-standard --deduplicate | tar --create --null --files-from=- | tar --extract --touch --directory "$0"`, dir)
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("copy the sources: %v: %s", err, out)
	}
	return dir
}

// The image is what the Dockerfile promises, and what the manifests make of it
// works.
func TestImage(t *testing.T) {
	t.Parallel()
	i := newImages(t)
	i.base()
	i.build(filepath.Join("..", ".."), "localhost/authsome")
	root := i.rootfs("localhost/authsome")
	program := filepath.Join(root, "usr/bin/authsome")

	t.Run("config", func(t *testing.T) { checkImageConfig(t, i.inspect("localhost/authsome")) })
	t.Run("files", func(t *testing.T) { checkImageFiles(t, root) })
	t.Run("static", func(t *testing.T) { checkStatic(t, program) })
	t.Run("sbom", func(t *testing.T) { checkSBOM(t, program, filepath.Join(root, "usr/share/doc/authsome/sbom.cdx.json")) })
	t.Run("reproducible", func(t *testing.T) {
		i.build(copySources(t), "localhost/again")
		first, again := i.inspect("localhost/authsome").Docker.RootFS.Layers, i.inspect("localhost/again").Docker.RootFS.Layers
		// The compiler's own cache is shared: what it makes is Go's promise. Time, place and order are ours.
		if len(first) == 0 || !slices.Equal(first, again) {
			t.Errorf("layers built from a copy elsewhere: got %q, want %q", again, first)
		}
	})
	agent := i.rootfs("localhost/base")
	t.Run("compose", func(t *testing.T) { runCompose(t, root, agent) })
	t.Run("kubernetes", func(t *testing.T) { runPod(t, root, agent) })
}

func checkImageConfig(t *testing.T, image imageConfig) {
	c := image.Docker.Config
	for what, pair := range map[string][2]string{
		"user":        {c.User, "65532:65532"},
		"entrypoint":  {strings.Join(c.Entrypoint, " "), "/usr/bin/authsome"},
		"command":     {strings.Join(c.Cmd, " "), "proxy"},
		"healthcheck": {strings.Join(c.Healthcheck.Test, " "), "CMD /usr/bin/authsome proxy --healthcheck"},
		"stop signal": {c.StopSignal, "SIGTERM"},
		"environment": {strings.Join(c.Env, " "), "PATH=/usr/bin AUTHSOME_HOME=/var/lib/authsome"},
		"title":       {c.Labels["org.opencontainers.image.title"], "authsome"},
		"version":     {c.Labels["org.opencontainers.image.version"], imageVersion},
		"licenses":    {c.Labels["org.opencontainers.image.licenses"], "MIT"},
	} {
		if got, want := pair[0], pair[1]; got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
}

// checkImageFiles holds the image to a list: there is no shell in it, and
// nothing that its user can write to but its own directories.
func checkImageFiles(t *testing.T, root string) {
	want := map[string]string{
		"etc/ssl/certs/ca-certificates.crt": "-rw-r--r-- 0", "usr/bin/authsome": "-rwxr-xr-x 0",
		"usr/share/doc/authsome/LICENSE": "-rw-r--r-- 0", "usr/share/doc/authsome/sbom.cdx.json": "-rw-r--r-- 0",
		"var/lib/authsome": "drwx------ 65532", "run/authsome": "drwxr-xr-x 65532",
	}
	got := map[string]string{}
	out, err := exec.Command("find", root, "-mindepth", "1", "(", "!", "-type", "d", "-o", "-uid", "+0", ")", "-printf", "%P\t%M %U\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		name, attributes, _ := strings.Cut(strings.TrimSpace(line), "\t")
		got[name] = attributes
	}
	if !maps.Equal(got, want) {
		t.Errorf("files: got %q, want %q", got, want)
	}
}

func checkStatic(t *testing.T, program string) {
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the program is not static: it has %s", p.Type)
		}
	}
	out, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), imageVersion) {
		t.Errorf("--version: got %q, %v, want %s", out, err, imageVersion)
	}
}

// checkSBOM compares the list with what the linker wrote into the program.
func checkSBOM(t *testing.T, program, list string) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"std " + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		want = append(want, m.Path+" "+m.Version)
	}
	var bom struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component struct{ Name, Version string }
		}
		Components []struct {
			Name, Version, PURL string
			Hashes              []struct{ Alg, Content string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, list)), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.Metadata.Component.Name != "authsome" || bom.Metadata.Component.Version != imageVersion {
		t.Errorf("the list is of %s %+v", bom.BOMFormat, bom.Metadata.Component)
	}
	var got []string
	for _, c := range bom.Components {
		got = append(got, c.Name+" "+c.Version)
		if !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@") || c.Name != "std" && len(c.Hashes) == 0 {
			t.Errorf("%s: purl %q, %d hashes", c.Name, c.PURL, len(c.Hashes))
		}
	}
	if len(info.Deps) < 10 || !slices.Equal(got, want) {
		t.Errorf("components: got %q, want %q", got, want)
	}
}
