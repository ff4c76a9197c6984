package main_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A variable that names a pipe does not keep a run from starting: it says what is
// wrong with which.
func TestRunWithPipesForCAFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("init")
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "WGETRC", "SSL_CERT_FILE"} {
		got := w.run(w.command([]string{name + "=" + pipe}, "--json", "run", "--", "true"), "")
		var failure struct{ Error, Message, Hint string }
		if err := json.Unmarshal([]byte(got.stdout), &failure); err != nil {
			t.Fatalf("%s: exit %d, stdout %q: %v\n%s", name, got.code, got.stdout, err, got.stderr)
		}
		if got.code != 125 || failure.Error != "TrustFile" || !strings.Contains(failure.Message, name) ||
			!strings.Contains(failure.Message, pipe+": it is not a regular file but a pipe") || !strings.Contains(failure.Hint, "unset it") {
			t.Errorf("%s: exit %d, %+v", name, got.code, failure)
		}
	}
}

// A login that would have to read one to know whom to trust says so as well: Go's
// own reader waits for a pipe, and fills memory from a device.
func TestLoginWithPipesForRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(`{"schema_version": 1, "name": "machine", "display_name": "Machine", "auth_type": "oauth2", "flow": "client_credentials",
		"host_url": "api.example.test", "oauth": {"token_url": "https://auth.example.test/token"},
		"client": {"client_id_env": "MACHINE_ID", "client_secret_env": "MACHINE_SECRET"}}`)
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for variable, why := range map[string]string{
		"SSL_CERT_FILE=" + pipe:          pipe + ": it is not a regular file but a pipe",
		"SSL_CERT_FILE=/dev/zero":        "/dev/zero: it is not a regular file but a device",
		"SSL_CERT_FILE=" + pipe + ".pem": pipe + ".pem: no such file or directory",
		"SSL_CERT_DIR=" + dir:            pipe + ": it is not a regular file but a pipe",
	} {
		name, _, _ := strings.Cut(variable, "=")
		got := w.run(w.command([]string{variable, "MACHINE_ID=m", "MACHINE_SECRET=" + canary}, "--json", "login", "machine"), "")
		var failure struct{ Error, Message, Hint string }
		if err := json.Unmarshal([]byte(got.stdout), &failure); err != nil {
			t.Fatalf("%s: exit %d, stdout %q: %v\n%s", variable, got.code, got.stdout, err, got.stderr)
		}
		if got.code != 4 || !strings.Contains(failure.Message, name) || !strings.Contains(failure.Message, why) || !strings.Contains(failure.Hint, "unset it") {
			t.Errorf("%s: exit %d, %+v", variable, got.code, failure)
		}
		if name == "SSL_CERT_DIR" { // no bundle has that directory's in it, but the proxy would read them
			if r := w.run(w.command([]string{variable}, "run", "--", "true"), ""); r.code != 125 || !strings.Contains(r.stderr, why) {
				t.Errorf("run with %s: exit %d: %s", variable, r.code, r.stderr)
			}
		}
	}
	w.noSecret()
}

// A secret's file that becomes a pipe does not stall the proxy: the reload fails,
// says why, and the next one works.
func TestSidecarReloadsWithAPipeForASecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(exampleDefinition)
	dir := t.TempDir()
	key := file(t, dir, "key", canary)
	config := file(t, dir, "proxy.yaml", "store: memory\ncredentials: {example: {secret_file: "+key+"}}\n")
	s := w.serve("--config", config)
	client := s.client()
	s.wantWelcome(client)
	if err := errors.Join(os.Remove(key), syscall.Mkfifo(key, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.reload()
	if want := "secret file " + key + ": it is not a regular file but a pipe; the proxy goes on as it was"; !strings.Contains(s.stderr.String(), want) {
		t.Errorf("stderr lacks %q", want)
	}
	s.wantWelcome(client)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	file(t, dir, "key", "not the key")
	s.reload()
	if status, body := get(client, apiURL); status != http.StatusUnauthorized {
		t.Errorf("with another key: got %d %q, want the origin's 401", status, body)
	}
}
