package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ownStore puts copies in the place of what update-ca-certificates changes. Java's
// own store, which a hook would make anew, is left out.
const ownStore = `
set -e
own() { cp -RP "$1" "$COPY/$2"; mount --bind "$COPY/$2" "$1"; }
own /etc/ssl/certs certs
own /etc/ca-certificates hooks
own /usr/local/share/ca-certificates local
rm -f /etc/ca-certificates/update.d/*
set +e
get() { env -i PATH="$PATH" curl -sS --proxy "http://$PROXY" https://api.example.test/v1/me >"$COPY/answer" 2>&1; echo "$1: curl $?"; }
ca() { "$AUTHSOME" ca "$@" >"$COPY/said" 2>&1 || cat "$COPY/said"; }
get before
ca install --ca-dir "$CA"
get installed
ca rotate --ca-dir "$CA"
grep -o 'does not trust the new root yet' "$COPY/said"
ca install --ca-dir "$CA"
ls /usr/local/share/ca-certificates | grep -c '^authsome-'
ca rotate --ca-dir "$CA" --distrust
grep -o 'trusts the old root still' "$COPY/said"
ca uninstall --ca-dir "$CA"
get uninstalled
ca install --ca-dir "$CA"
get "distrusted"
ca uninstall --ca-dir "$CA"
ls /usr/local/share/ca-certificates /etc/ssl/certs | grep '^authsome-'
mount -o remount,bind,ro /usr/local/share/ca-certificates
ca install --ca-dir "$CA"
`

// TestCAInstall has a system, whose trust store is a copy in a mount namespace,
// trust the authority of a proxy and forget it again. What curl trusts there shows
// it.
func TestCAInstall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	dir, copies := filepath.Join(t.TempDir(), "ca"), t.TempDir()
	s := w.serve("--ca-dir", dir)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", ownStore)
	cmd.Env = w.env("COPY="+copies, "CA="+dir, "PROXY="+s.addr, "AUTHSOME="+binary, "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	r := w.run(cmd, "")
	last := "error: write /usr/local/share/ca-certificates/authsome-"
	want := []string{"before: curl 60", "installed: curl 0", "does not trust the new root yet", "2", "trusts the old root still",
		"uninstalled: curl 60", "distrusted: curl 60"}
	got := strings.Split(strings.TrimSpace(r.stdout), "\n")
	end := got[len(got)-1]
	if got = got[:len(got)-1]; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s\n%s%s", strings.Join(got, "\n"), strings.Join(want, "\n"), r.stderr, readFile(t, filepath.Join(copies, "answer")))
	}
	if !strings.HasPrefix(end, last) || !strings.HasSuffix(end, "(most systems want an administrator: sudo authsome ca install)") {
		t.Errorf("a store that cannot be written: %s", end)
	}
	for event, times := range map[string]int{"ca.install": 5, "ca.uninstall": 2, "ca.rotate": 2} { // one of them failed
		if r := w.must("log", "--event", event, "-n", "0"); strings.Count(r.stdout, event+" ") != times {
			t.Errorf("%s is not %d times in the log:\n%s", event, times, r.stdout)
		}
	}
}
