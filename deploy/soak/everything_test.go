//go:build linux

package soak_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// global are the faults that concern every host.
func (c *chaos) global() []incident {
	return []incident{
		{"DNS answers with failures", func(t *testing.T) { c.noDNS(t, dnsFails, "upstream_unreachable") }},
		{"DNS does not answer", func(t *testing.T) { c.noDNS(t, dnsSilent, "upstream_timeout") }},
		{"disk full", c.diskFull},
		{"vault held", c.vaultHeld},
		{"vault restored", c.restored},
		{"vault directory replaced", c.directoryReplaced},
	}
}

// noDNS takes the resolver away: hosts that are connected to go on, others do
// not, with a credential or without one.
func (c *chaos) noDNS(t *testing.T, mode dnsMode, code string) {
	covered, tunnelled := c.unseen(c.client()), c.fetching(c.client(), "elsewhere", "")
	forbid := c.load.permit(code, "refresh_failed") // tokens come from a host, too
	c.w.net.dns.set(mode)
	c.shows(t, code, true, "wild", atOnce(covered, enough))
	c.shows(t, code, true, "elsewhere", atOnce(tunnelled, enough))
	c.w.net.dns.set(dnsAnswers)
	c.heals(t, code, covered)
	c.heals(t, code, tunnelled)
	c.heals(t, "refresh_failed", c.fetching(c.client(), "machine", "a token"))
	forbid()
}

// mountHome puts the home on a small disk of its own.
func (w *world) mountHome() {
	w.t.Helper()
	if err := unix.Mount("tmpfs", w.home, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=32m,mode=0700"); err != nil {
		w.t.Fatalf("mount a small disk: %v", err)
	}
	w.t.Cleanup(func() { unix.Unmount(w.home, unix.MNT_DETACH) })
}

// fill takes what is left of the home's disk.
func (w *world) fill(t *testing.T) (free func()) {
	t.Helper()
	path := filepath.Join(w.home, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, chunk := range []int{1 << 20, 4 << 10} {
		for err == nil {
			_, err = f.Write(make([]byte, chunk))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
		err = nil
	}
	return func() { os.Remove(path) }
}

// diskFull leaves no room for a line of the audit log, and so for no injection.
// Hosts without a credential are none of the log's business.
func (c *chaos) diskFull(t *testing.T) {
	probe := c.fetching(c.client(), "api", "the key")
	forbid := c.load.permit("audit_unavailable", "refresh_failed")
	free := c.w.fill(t)
	c.shows(t, "audit_unavailable", false, "api", probe)
	if err := fetch(t.Context(), c.client(), "elsewhere", "", c.load.next(), 1000); err != nil {
		t.Errorf("a tunnel while the disk is full: %v", err)
	}
	// At first there is room for few at a time: what the log had set aside.
	eventually(t, "the proxy is not ready", time.Minute, func() bool {
		var r *refused
		if err := probe(t.Context()); err != nil && !(errors.As(err, &r) && r.code == "audit_unavailable") {
			t.Error(err)
		}
		return c.w.probe("/readyz") == ""
	})
	if c.w.probe("/healthz") == "" {
		t.Error("the proxy is not alive while the disk is full")
	}
	out, code := c.w.login(1)
	if long() { // until tokens have expired
		c.shows(t, "audit_unavailable", false, "machine", c.patiently(c.fetching(c.client(), "machine", "a token"), chaosLife))
	}
	free()
	c.heals(t, "audit_unavailable", probe)
	c.heals(t, "refresh_failed", c.fetching(c.client(), "machine", "a token"))
	forbid()
	eventually(t, "the proxy is ready again", time.Minute, func() bool { return c.w.probe("/readyz") != "" })
	// The login was told how it went: it is there, or it is not.
	if code == 0 {
		c.arrives(t, 1)
	} else if a, err := ask(t.Context(), c.client(), http.MethodGet, "https://turn."+domain+"/bytes", nil, 0); err != nil || a.came != "" {
		t.Errorf("a login failed (exit %d: %s), and then %q comes to the origin, %v", code, out, a.came, err)
	}
}

// patiently probes with a pause before.
func (c *chaos) patiently(probe func(context.Context) error, wait time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		pause(ctx, wait)
		return probe(ctx)
	}
}

// turns logs in with the nth key and waits for it to arrive.
func (c *chaos) turns(t *testing.T, n int) {
	t.Helper()
	if out, code := c.w.login(n); code != 0 {
		t.Fatalf("login: exit %d: %s", code, out)
	}
	c.arrives(t, n)
}

func (c *chaos) arrives(t *testing.T, n int) {
	t.Helper()
	probe := c.fetching(c.client(), "turn", fmt.Sprintf("key %d", n))
	eventually(t, fmt.Sprintf("key %d comes to the origin", n), time.Minute, func() bool { return probe(t.Context()) == nil })
}

// vaultHeld has another process hold the vault's lock. What is known goes on,
// and what has to be written waits.
func (c *chaos) vaultHeld(t *testing.T) {
	hold := 3 * chaosLife / 2
	if long() { // longer than what was granted is tried to be stored
		hold = 20 * time.Second
	}
	held := exec.CommandContext(t.Context(), "flock", "-x", c.w.store(), "sh", "-c", "echo held; cat")
	in, _ := held.StdinPipe()
	out, _ := held.StdoutPipe()
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("hold the vault: %q, %v", line, err)
	}
	forbid := c.load.permit("refresh_failed") // new tokens that wait to be stored are not used
	released := time.Now().Add(hold)
	if text, code := c.w.login(1); code != 7 {
		t.Errorf("a login while the vault is held: exit %d, want 7: %s", code, text)
	}
	probe := c.fetching(c.client(), "api", "the key")
	for good := 0; good == 0 || time.Now().Before(released); good++ {
		if err := probe(t.Context()); err != nil {
			t.Fatalf("a key that is known, while the vault is held: %v", err)
		}
		pause(t.Context(), 50*time.Millisecond)
	}
	in.Close()
	held.Wait()
	c.heals(t, "refresh_failed", c.fetching(c.client(), "machine", "a token"))
	forbid()
	c.turns(t, 1)
}

func (w *world) store() string { return filepath.Join(w.home, "profiles", "default", "store.db") }

// restored replaces the vault by an older one while the proxy uses it. Keys are
// what they were then. A refresh token that was spent since is refused by its
// server, with the whole family: that alone takes a person, and is said so.
func (c *chaos) restored(t *testing.T) {
	c.turns(t, 2)
	backup := filepath.Join(c.w.dir, "backup.db")
	c.w.must("vault", "backup", backup)
	spent, issuer := c.fetching(c.client(), "spent", "a token"), c.w.net.issuers["spent"]
	granted, _, _ := issuer.counts()
	eventually(t, "a refresh token that is in the backup is spent", time.Minute, func() bool {
		if err := spent(t.Context()); err != nil {
			t.Error(err)
		}
		n, _, _ := issuer.counts()
		return n > granted
	})
	c.turns(t, 3)
	c.w.must("vault", "restore", backup, "--yes")
	c.arrives(t, 2)
	eventually(t, "the spent token is refused", time.Minute, func() bool {
		var r *refused
		err := spent(t.Context())
		return errors.As(err, &r) && (r.code == "refresh_failed" || r.code == "credential_missing")
	})
	c.shows(t, "credential_missing", true, "spent", spent)
	c.w.approve("spent")
	c.heals(t, "credential_missing", spent)
}

// directoryReplaced puts a copy in the place of the directory that holds the
// vault, as whoever restores a volume does.
func (c *chaos) directoryReplaced(t *testing.T) {
	c.turns(t, 4)
	profile := filepath.Dir(c.w.store())
	next := profile + ".next"
	if err := os.Mkdir(next, 0o700); err != nil {
		t.Fatal(err)
	}
	c.w.must("vault", "backup", filepath.Join(next, "store.db"))
	metadata, err := os.ReadFile(filepath.Join(profile, "metadata.json"))
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.WriteFile(filepath.Join(next, "metadata.json"), metadata, 0o600),
		os.Rename(profile, profile+".old"), os.Rename(next, profile), os.RemoveAll(profile+".old"))
	if err != nil {
		t.Fatal(err)
	}
	c.arrives(t, 4)
	c.turns(t, 5) // the new directory is watched
	for host, came := range map[string]string{"api": "the key", "machine": "a token"} {
		c.heals(t, "", c.fetching(c.client(), host, came))
	}
}

// serveFaultAuth runs the authorization servers at the address that dies.
func (i *internet) serveFaultAuth(t *testing.T) (stop func()) {
	return i.serve(t, faultAuth+":443", i.tokens(), "http/1.1")
}

// listenMute accepts connections and says nothing, until it is stopped.
func listenMute(t *testing.T, address string) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { c.Close() })
			go io.Copy(io.Discard, c)
		}
	}()
	return func() {
		l.Close()
		cancel()
	}
}
