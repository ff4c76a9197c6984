//go:build linux

package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nowhere are environments in which nobody can be asked: neither a terminal nor a
// display that somebody looks at.
var nowhere = map[string][]string{
	"bare":                    nil,
	"ssh":                     {"SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22", "SSH_CLIENT=192.0.2.1 5 22"},
	"ssh, display left there": {"SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22", "DISPLAY=:0", "WAYLAND_DISPLAY=wayland-0"},
	"ci with a display":       {"CI=true", "DISPLAY=:99"},
}

const oauthDefinition = `{"schema_version": 1, "name": "acme", "display_name": "Acme", "auth_type": "oauth2", "flow": "pkce", "host_url": "api.example.test",
	"oauth": {"authorization_url": "https://auth.example.test/authorize", "token_url": "https://auth.example.test/token",
		"device_authorization_url": "https://auth.example.test/device", "registration_endpoint": "https://auth.example.test/register",
		"supports_device_flow": true, "supports_dcr": true},
	"client": {"client_id_env": "ACME_ID", "client_secret_env": "ACME_SECRET"}, "export": {"env": {"access_token": "ACME_TOKEN"}}}`

// Every flow either works where nobody can be asked, or says at once, in one line,
// what to do instead.
func TestLoginWithNobody(t *testing.T) {
	t.Parallel()
	id, both := []string{"ACME_ID=app"}, []string{"ACME_ID=app", "ACME_SECRET=client-" + canary}
	tests := []struct {
		name string
		env  []string
		args []string
		code int
		says string // a pattern
	}{
		{"key", nil, []string{"example"}, 5, `^error: no secret for example: there is neither a terminal nor a display to ask on \(set EXAMPLE_API_KEY, or pipe the secret into: authsome login example --secret-file -\)$`},
		{"key in its variable", []string{"EXAMPLE_API_KEY=" + canary}, []string{"example"}, 0, `Logged in`},
		{"pkce", nil, []string{"acme"}, 5, `^error: no OAuth client for acme: .*\(set ACME_ID and ACME_SECRET, or give --client-id ID and its secret by --secret-file FILE\)$`},
		{"pkce, client known", id, []string{"acme"}, 5, `^error: a login to acme needs a browser: .*\(run: authsome login acme --flow device_code, which can be approved on any device\)$`},
		{"registration", nil, []string{"acme", "--flow", "dcr_pkce"}, 5, `^error: a login to acme needs a browser: .*--flow device_code`},
		{"device", nil, []string{"acme", "--flow", "device_code"}, 5, `^error: no OAuth client for acme: .*\(set ACME_ID`},
		{"device, client known", id, []string{"acme", "--flow", "device_code"}, 0, `^Open https://auth\.example\.test/go and enter the code ABCD-1234$`},
		{"machine", nil, []string{"acme", "--flow", "client_credentials"}, 5, `^error: no OAuth client for acme: .*\(set ACME_ID and ACME_SECRET`},
		{"machine, secret missing", id, []string{"acme", "--flow", "client_credentials"}, 5, `^error: no OAuth client for acme: .*\(set ACME_ID and ACME_SECRET`},
		{"machine, client known", both, []string{"acme", "--flow", "client_credentials"}, 0, `Logged in`},
	}
	for where, env := range nowhere {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.register(exampleDefinition)
			w.register(oauthDefinition)
			for _, test := range tests {
				args := append([]string{"login"}, test.args...)
				if strings.HasPrefix(test.name, "pkce") || test.name == "registration" {
					args = append(args, "--callback-port", freePort(t))
				}
				got := w.closed(append(env, test.env...), args...)
				for _, problem := range checkOutput(args, got.code, got.stdout, got.stderr) {
					t.Errorf("%s: %s", test.name, problem)
				}
				if got.code != test.code || got.stdout != "" || !regexp.MustCompile(`(?m)`+test.says).MatchString(got.stderr) {
					t.Errorf("%s: exit %d, want %d and %s\n%s%s", test.name, got.code, test.code, test.says, got.stdout, got.stderr)
				}
				if test.code == 0 {
					w.must("revoke", test.args[0])
					continue
				}
				args = append(args, "--json")
				got = w.closed(append(env, test.env...), args...)
				for _, problem := range checkOutput(args, got.code, got.stdout, got.stderr) {
					t.Errorf("%s in JSON: %s\n%s%s", test.name, problem, got.stdout, got.stderr)
				}
			}
			for _, request := range w.requests() {
				if strings.Contains(request, "/register") {
					t.Error("a client was registered for a login that cannot be")
				}
			}
			w.noSecret()
		})
	}
}

// With --no-browser the page is printed, and something else may drive the browser.
func TestNoBrowserWithNobody(t *testing.T) {
	t.Parallel()
	for where, env := range nowhere {
		for _, flow := range []string{"pkce", "dcr_pkce"} {
			t.Run(where+" "+flow, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.register(oauthDefinition)
				args := []string{"login", "acme", "--flow", flow, "--no-browser", "--callback-port", freePort(t), "--json"}
				cmd := w.command(append(env, "ACME_ID=app"), args...)
				var stdout, stderr lockedBuffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				page := regexp.MustCompile(`(?m)^  (https://auth\.example\.test/authorize\?\S+)$`)
				eventually(t, "the page is printed", func() bool { return page.MatchString(stderr.String()) }, stderr.String)
				curl := exec.Command("curl", "-sSL", "--noproxy", "127.0.0.1", "--cacert", w.roots, page.FindStringSubmatch(stderr.String())[1])
				curl.Env = w.env()
				if out, err := curl.CombinedOutput(); err != nil || !strings.Contains(string(out), "You are logged in") && !strings.Contains(string(out), "is connected") {
					t.Errorf("the page says %s, %v", out, err)
				}
				late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
				defer late.Stop()
				if err := cmd.Wait(); err != nil {
					t.Errorf("login: %v\n%s", err, stderr.String())
				}
				if hint := strings.Contains(stderr.String(), "ssh -L"); hint != strings.HasPrefix(where, "ssh") {
					t.Errorf("a hint about forwarding: %v\n%s", hint, stderr.String())
				}
				got := result{0, stdout.String(), stderr.String()}
				if status := field(t, got, "status"); status != "success" {
					t.Errorf("got %s", got.stdout)
				}
			})
		}
	}
}

// closed runs the binary without a terminal and with stdin closed, as some
// supervisors do.
func (w *world) closed(env []string, args ...string) result {
	w.t.Helper()
	inner := w.command(env, args...)
	cmd := exec.CommandContext(w.t.Context(), "setsid", append([]string{"--wait", "sh", "-c", `exec "$@" <&-`, "sh"}, inner.Args...)...)
	cmd.Env = inner.Env
	return w.run(cmd, "")
}

// A pipe that nobody writes to does not outwait a Ctrl-C, when it is opened and when
// it is read.
func TestPipesAreNotWaitedForInVain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(exampleDefinition)
	w.register(oauthDefinition)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"login", "example", "--secret-file", pipe}, {"login", "acme", "--client-id", "app", "--secret-file", pipe}, {"register", pipe, "--yes"},
	} {
		for _, opened := range []bool{false, true} {
			if opened {
				writer, err := os.OpenFile(pipe, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer writer.Close()
			}
			code, said := w.interrupted(nil, args...)
			if code != 8 || !strings.Contains(said, "cancelled") {
				t.Errorf("%v, opened %v: exit %d: %s", args, opened, code, said)
			}
		}
	}
}

// Nor does one for the vault's key, of which run would be told no other way.
func TestPipeForTheKeyIsNotWaitedForInVain(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mode, variable string
		args           []string
	}{
		{"env", "AUTHSOME_MASTER_KEY_FILE", []string{"init"}},
		{"env", "AUTHSOME_MASTER_KEY_FILE", []string{"run", "--", "true"}},
		{"passphrase", "AUTHSOME_PASSPHRASE_FILE", []string{"init"}},
	} {
		w := newWorld(t)
		if err := os.MkdirAll(w.home, 0o700); err != nil {
			t.Fatal(err)
		}
		file(t, w.home, "config.json", `{"spec_version": 1, "encryption": {"mode": "`+test.mode+`"}, "default_profile": "default"}`)
		code, said := w.interrupted([]string{test.variable + "=" + pipe}, test.args...)
		if code != 8 || !strings.Contains(said, "cancelled") {
			t.Errorf("%s, %v: exit %d: %s", test.variable, test.args, code, said)
		}
	}
}

// interrupted runs the binary and sends it a SIGINT once it waits, and returns how
// it ended. One that came before the binary heeds signals is sent to another.
func (w *world) interrupted(env []string, args ...string) (code int, stderr string) {
	w.t.Helper()
	for pause := 200 * time.Millisecond; ; pause *= 3 {
		cmd := w.command(env, args...)
		var said lockedBuffer
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(pause)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			w.t.Fatal(err)
		}
		late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		cmd.Wait()
		late.Stop()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if tooEarly := status.Signaled() && status.Signal() == syscall.SIGINT; !tooEarly || pause > patience {
			return cmd.ProcessState.ExitCode(), said.String()
		}
	}
}

// A display without a browser: what to open is said, and is there.
func TestBrowserThatDoesNotStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register(exampleDefinition)
	cmd := w.command([]string{"DISPLAY=:99", "PATH=" + t.TempDir()}, "login", "example")
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	page := regexp.MustCompile(`(?m)^The browser did not start\. Open this page yourself:\n  (http://127\.0\.0\.1:\S+)$`)
	eventually(t, "the page is printed", func() bool { return page.MatchString(stderr.String()) }, stderr.String)
	if status, body := get(http.DefaultClient, page.FindStringSubmatch(stderr.String())[1]); status != http.StatusOK || !strings.Contains(body, "Example API key") {
		t.Errorf("the page: %d %s", status, body)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer late.Stop()
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 8 {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
}

// A secret that was given as an argument is refused, and not repeated to whatever
// keeps what is said.
func TestSecretAsAnArgumentIsNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, args := range [][]string{{"login", "openai", canary}, {"vault", "rekey", canary}, {"vault", "rekey", "--mode", "passphrase", canary}} {
		for _, args := range [][]string{args, append([]string{"--json"}, args...)} {
			r := w.authsome(args...)
			if r.code != 2 || !strings.Contains(r.stdout+r.stderr, "--secret-file") {
				t.Errorf("%v: exit %d: %s%s", args, r.code, r.stdout, r.stderr)
			}
			if strings.Contains(r.stdout+r.stderr, canary) {
				t.Errorf("%v repeats the secret: %s%s", args, r.stdout, r.stderr)
			}
		}
	}
}

// A secret that was given where a name belongs is not repeated either. Names are,
// since whoever mistyped one wants to see it.
func TestSecretForANameIsNotRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if r := w.run(w.command(nil, "register", "-", "--yes"), exampleDefinition); r.code != 0 {
		t.Fatal(r.stderr)
	}
	if r := w.run(w.command(nil, "login", "example", "--secret-file", "-"), "ordinary"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	for _, line := range []string{
		"login X", "get X", "inspect X", "export X", "logout X", "revoke X", "remove X", "log --provider X",
		"X", "vault X", "help X", "help vault X", "list X", "export example X", "--profile X list", "--X list", "list -X", "login --callback-port X example",
		"connection list X", "connection default X work", "connection default example X", "connection rename example X b",
		"connection rename example default X/", "get example --connection X", "get example --connection X/", "get example --field X",
		"run --provider X -- true", "run --connection X -- true", "run --connection X=work -- true", "run --connection example=X -- true",
		"login example --force --secret-file X", "import X", "log --event X", "vault rekey --mode X",
	} {
		for _, json := range []bool{false, true} {
			said := func(word string) result {
				args := strings.Fields(strings.ReplaceAll(line, "X", word))
				if json {
					args = append([]string{"--json"}, args...)
				}
				return w.authsome(args...)
			}
			if r := said(canary); strings.Contains(r.stdout+r.stderr, canary) || r.code == 0 && !strings.HasPrefix(line, "log ") {
				t.Errorf("%s: exit %d: %s%s", line, r.code, r.stdout, r.stderr)
			}
			if r := said("nosuchname"); !strings.Contains(r.stdout+r.stderr, "nosuchname") && !strings.Contains(line, " -X") && r.code != 0 {
				t.Errorf("%s does not say what there is none of: %s%s", line, r.stdout, r.stderr)
			}
		}
	}
	w.noSecret()
}
