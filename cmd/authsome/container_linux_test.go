package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
)

// container is what the OCI runtime is told to run: a program in an image's
// file system, with the rights that a manifest gives it.
type container struct {
	t            *testing.T
	rootfs       string
	args, env    []string
	user, group  int
	groups       []int
	capabilities []string // all that it has
	mounts       []mount
	writable     bool // its root
	mayGain      bool // privileges, by a set-user-ID program
	network      *netns

	state, id string // of the running one
}

// mount is a directory or file of the host's, or a tmpfs with options.
type mount struct {
	source, target string
	options        []string
}

var containers atomic.Int32

// volume makes a directory of the host's, as a container engine or the kubelet
// does.
func volume(t *testing.T, user, group int, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(openDir(t), "volume")
	for _, err := range []error{os.Mkdir(dir, 0o700), os.Chown(dir, user, group), os.Chmod(dir, mode)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// command prepares the runtime. What it starts gets the signals that it gets,
// and is removed when the test ends.
func (c *container) command() *exec.Cmd {
	t := c.t
	t.Helper()
	c.state, c.id = t.TempDir(), fmt.Sprintf("authsome-test-%d-%d", os.Getpid(), containers.Add(1))
	bundle := t.TempDir()
	b, err := json.Marshal(c.spec())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), tool(t, "runc"), "--root", c.state, "run", "--bundle", bundle, c.id)
}

// remove ends the container, if it runs.
func (c *container) remove() {
	exec.Command(tool(c.t, "runc"), "--root", c.state, "delete", "--force", c.id).Run()
}

// serve runs a proxy in the container until the test ends.
func (c *container) serve(home string) *service {
	s := &service{t: c.t, w: &world{t: c.t, home: home}, done: make(chan struct{})}
	s.begin(c.command())
	c.t.Cleanup(c.remove)
	return s
}

// exec runs a program inside, with the container's own rights.
func (c *container) exec(args ...string) (string, error) {
	out, err := exec.CommandContext(c.t.Context(), tool(c.t, "runc"), append([]string{"--root", c.state, "exec", c.id}, args...)...).CombinedOutput()
	return string(out), err
}

// spec is config.json of the OCI runtime specification.
func (c *container) spec() map[string]any {
	type m = map[string]any
	capabilities := slices.Clip(append([]string{}, c.capabilities...))
	mounts := []m{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "strictatime", "mode=755", "size=64k"}},
	}
	for _, file := range []string{"hosts", "resolv.conf"} {
		mounts = append(mounts, bind(mount{"/etc/netns/" + c.network.name + "/" + file, "/etc/" + file, []string{"ro"}}))
	}
	for _, at := range c.mounts {
		if at.source == "tmpfs" {
			mounts = append(mounts, m{"destination": at.target, "type": "tmpfs", "source": "tmpfs", "options": at.options})
		} else {
			mounts = append(mounts, bind(at))
		}
	}
	return m{
		"ociVersion": "1.0.0",
		"process": m{
			"user": m{"uid": c.user, "gid": c.group, "additionalGids": c.groups},
			"args": c.args, "env": c.env, "cwd": "/", "noNewPrivileges": !c.mayGain,
			// As container engines do: a user other than root starts with none.
			"capabilities": m{"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
		},
		"root":   m{"path": c.rootfs, "readonly": !c.writable},
		"mounts": mounts,
		"linux": m{
			"namespaces":    []m{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network", "path": "/run/netns/" + c.network.name}},
			"maskedPaths":   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

func bind(m mount) map[string]any {
	return map[string]any{"destination": m.target, "type": "bind", "source": m.source, "options": append([]string{"rbind", "nosuid", "nodev"}, m.options...)}
}
