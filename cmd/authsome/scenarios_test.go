//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// scenarioFiles are in the directory that scenarios run in.
var scenarioFiles = map[string]string{
	"example.json": exampleDefinition,
	"bad.json":     `{"schema_version": 1, "name": "bad", "display_name": "Bad", "auth_type": "api_key", "flow": "api_key", "host_url": "regex:.*googleapis.*"}`,
	"shaped.json": `{"schema_version": 1, "name": "shaped", "display_name": "Shaped", "auth_type": "api_key", "flow": "api_key",
 "host_url": "shaped.example.test", "api_key": {"key_pattern": "sk-[0-9]{10}", "key_pattern_hint": "a key begins with sk-"}}`,
	"oauth.json": `{"schema_version": 1, "name": "oauth", "display_name": "OAuth", "auth_type": "oauth2", "flow": "device_code",
 "host_url": "api.example.test", "oauth": {"token_url": "https://auth.example.test/token", "device_authorization_url": "https://auth.example.test/device",
 "revocation_url": "https://auth.example.test/revoke", "supports_device_flow": true},
 "client": {"client_id_env": "OAUTH_CLIENT_ID", "client_secret_env": "OAUTH_CLIENT_SECRET"}, "export": {"env": {"access_token": "OAUTH_TOKEN"}}}`,
	"nameless.json": `{"schema_version": 1, "name": "nameless", "display_name": "Nameless", "auth_type": "api_key", "flow": "api_key", "host_url": "nameless.example.test", "api_key": {}}`,
	"robot.json": `{"schema_version": 1, "name": "robot", "display_name": "Robot", "auth_type": "oauth2", "flow": "client_credentials",
 "host_url": "robot.example.test", "oauth": {"token_url": "https://auth.example.test/token"},
 "client": {"client_id_env": "ROBOT_ID", "client_secret_env": "ROBOT_SECRET"}, "export": {"env": {"access_token": "ROBOT_TOKEN"}}}`,
	"key":          canary + "\n",
	"secret":       "client-" + canary + "\n",
	"keys.env":     "EXAMPLE_API_KEY=" + canary + "\nSHAPED=nothing\nANTHROPIC_API_KEY=${ELSEWHERE}\n",
	"nothing.env":  "DATABASE_URL=postgres://localhost\n",
	"wrong.env":    "OPENAI_API_KEY=not-the-shape-of-a-key\n",
	"passphrase":   "correct horse battery staple\n",
	"no-home":      "a file\n",
	"no-database":  "no database\n",
	"no-program":   "#!/no/such/interpreter\n",
	"bin/curl":     "#!/bin/sh\necho 'curl: (60) certificate verify failed' >&2\necho 'More details here: https://curl.se' >&2\nexit 60\n",
	"proxy.txt":    "short\n",
	"definition":   "{",
	"config-typo":  `{"spec_version": 1, "default_profile": "default",`,
	"scanned/.env": "EXAMPLE_API_KEY=" + canary + "\nGITHUB_CLIENT_SECRET=0123456789abcdef0123456789abcdef01234567\n",
}

// storeUnavailable is how every command ends whose home is a file.
func storeUnavailable(run string) invocation {
	return invocation{outcome: "store-unavailable", run: run, env: []string{"AUTHSOME_HOME=$DIR/no-home"}, code: 7}
}

// unknownFlag is how every command ends that is given a flag which it does not
// know.
func unknownFlag(run string) invocation {
	return invocation{outcome: "unknown-flag", run: run + " --no-such-flag", code: 2}
}

var (
	register = invocation{run: "register example.json --yes"}
	login    = invocation{run: "login example --secret-file key"}
	loginAt  = invocation{run: "login example --secret-file key --connection work"}
)

// scenarios are the runs of TestJSON. Each has a home of its own.
var scenarios = map[string][]invocation{
	"authsome": {
		{outcome: "success", run: "--version"},
		{outcome: "help", run: "--help"},
		{outcome: "no-command", run: "", code: 2},
		{outcome: "no-such-command", run: "lgoin", code: 2},
		{outcome: "no-such-profile", run: "list --profile wrok", code: 1},
		{outcome: "bad-config", run: "list", code: 1, before: func(d *goldenDesk) { d.write("config.json", []byte(scenarioFiles["config-typo"])) }},
	},
	"help": {{outcome: "success", run: "help profile use"}, {outcome: "no-such-command", run: "help profile sue", code: 2}},
	"init": {
		{outcome: "success", run: "init"}, {outcome: "exists", run: "init"},
		unknownFlag("init"), storeUnavailable("init"),
	},
	"list": {
		{outcome: "empty", run: "list --connected"}, register, login, loginAt,
		{outcome: "success", run: "list --connected"}, {outcome: "search", run: "list --search mailch"},
		{outcome: "contradiction", run: "list --connected --available", code: 2},
		unknownFlag("list"), storeUnavailable("list"),
		{outcome: "locked-with-passphrase", run: "list", code: 7, env: []string{"AUTHSOME_HOME=$DIR/other"}, before: otherMode("passphrase")},
	},
	"inspect": {
		register, login, {outcome: "success", run: "inspect example"},
		{outcome: "no-such-provider", run: "inspect exmaple", code: 3}, {outcome: "no-argument", run: "inspect", code: 2},
		unknownFlag("inspect example"), storeUnavailable("inspect example"),
	},
	"login": {
		register, {run: "register shaped.json --yes"},
		{outcome: "success", run: "login example --secret-file key"},
		{outcome: "already-connected", run: "login example --secret-file key", code: 1},
		{outcome: "if-needed", run: "login example --if-needed"},
		{outcome: "nobody-to-ask", run: "login shaped", code: 5},
		{outcome: "wrong-shape", run: "login shaped --secret-file key", code: 4},
		{outcome: "no-such-file", run: "login shaped --secret-file nowhere", code: 5},
		{outcome: "no-such-provider", run: "login exmaple", code: 3},
		{outcome: "bad-name", run: "login example --connection a:b --secret-file key", code: 2},
		{outcome: "bad-port", run: "login example --callback-port 70000", code: 2},
		{outcome: "not-oauth", run: "login shaped --flow pkce", code: 2},
		unknownFlag("login example"), storeUnavailable("login example"),
	},
	"login with OAuth": {
		{run: "register robot.json --yes"}, {run: "register oauth.json --yes"},
		{outcome: "client-refused", run: "login robot --client-id bot --secret-file key", code: 4},
		{outcome: "client-credentials", run: "login robot --client-id bot --secret-file secret"},
		{outcome: "no-client", run: "login oauth", code: 5},
		{outcome: "oauth-record", run: "get robot"},
		{outcome: "expired-record", run: "list --connected --search oauth", before: func(d *goldenDesk) { d.expire("dead") }},
		{outcome: "refresh-failed", run: "export oauth", code: 6},
		{outcome: "invalid", run: "export oauth", code: 5},
		{outcome: "invalid-connections", run: "connection list oauth"},
		{outcome: "failed-checks", run: "doctor --no-clients", code: 1},
		{outcome: "not-taken-back", run: "revoke oauth", code: 4, before: func(d *goldenDesk) {
			d.must("login", "oauth", "--force", "--client-id", "stubborn", "--quiet")
		}},
	},
	"logout": {
		register, login,
		{outcome: "success", run: "logout example"}, {outcome: "no-such-connection", run: "logout example", code: 5},
		{outcome: "no-such-provider", run: "logout exmaple", code: 3}, unknownFlag("logout example"), storeUnavailable("logout example"),
	},
	"revoke": {
		register, login, loginAt,
		{outcome: "success", run: "revoke example"}, {outcome: "no-such-connection", run: "revoke example", code: 5},
		{outcome: "no-such-provider", run: "revoke exmaple", code: 3}, unknownFlag("revoke example"), storeUnavailable("revoke example"),
	},
	"remove": {
		register, login, {outcome: "success", run: "remove example"},
		{outcome: "no-such-provider", run: "remove example", code: 3}, unknownFlag("remove example"), storeUnavailable("remove example"),
	},
	"get": {
		register, login, loginAt,
		{outcome: "success", run: "get example"}, {outcome: "field", run: "get example --field status"},
		{outcome: "redacted", run: "get example --field api_key"}, {outcome: "secret", run: "get example --field api_key --show-secret"},
		{outcome: "no-such-field", run: "get example --field nope", code: 2},
		{outcome: "all-secrets", run: "get example --show-secret", code: 2},
		{outcome: "no-such-connection", run: "get example --connection wrok", code: 5},
		{outcome: "no-connection", run: "get openai", code: 5},
		{outcome: "no-such-provider", run: "get exmaple", code: 3},
		{outcome: "inside-run", run: "get example --field api_key --show-secret", env: []string{"AUTHSOME_PROXY_MODE=true"}, code: 4},
		unknownFlag("get example"), storeUnavailable("get example"),
		{outcome: "damaged", run: "get example", code: 7, before: func(d *goldenDesk) { d.damage(`"api_key":\{[^}]*`) }},
	},
	"export": {
		{outcome: "empty", run: "export"}, register, login, loginAt,
		{outcome: "success", run: "export example"}, {outcome: "all", run: "export --prefix X_"},
		{outcome: "no-such-format", run: "export --format yaml", code: 2},
		{run: "register nameless.json --yes"}, {run: "login nameless --secret-file key"}, {outcome: "no-variable", run: "export nameless", code: 1}, {run: "remove nameless"},
		{outcome: "no-connection", run: "export openai", code: 5}, {outcome: "no-such-provider", run: "export exmaple", code: 3},
		{outcome: "inside-run", run: "export", env: []string{"AUTHSOME_PROXY_MODE=true"}, code: 4},
		unknownFlag("export"), storeUnavailable("export"),
		{run: "register robot.json --yes"}, {run: "login robot --client-id bot --secret-file secret"},
		{outcome: "one-fails", run: "export", code: 5, before: func(d *goldenDesk) { os.Remove(filepath.Join(d.home, "providers", "robot.json")) }},
	},
	"run": {
		register, login,
		{outcome: "success", run: "run -- printf {}"}, {outcome: "no-command", run: "run", code: 2},
		{outcome: "no-such-provider", run: "run --provider exmaple true", code: 3},
		{outcome: "no-such-connection", run: "run --connection example=wrok true", code: 5},
		{outcome: "bad-connection", run: "run --connection example true", code: 2},
		{outcome: "bad-egress", run: "run --egress maybe true", code: 2},
		{outcome: "bad-metrics-address", run: "run --metrics-addr nowhere:nothing true", code: 125},
		{outcome: "not-executable", run: "run ./key", code: 126}, {outcome: "not-found", run: "run no-such-program", code: 127},
		{outcome: "unknown-flag", run: "run --no-such-flag -- true", code: 2}, storeUnavailable("run true"),
		{outcome: "audit-unavailable", run: "run true", code: 7, before: func(d *goldenDesk) {
			path := filepath.Join(d.home, "audit.log")
			os.Remove(path)
			os.Mkdir(path, 0o700)
		}},
	},
	"proxy": {
		{run: "init"},
		{outcome: "success", run: "proxy --healthcheck", before: func(d *goldenDesk) { d.serveAt("proxy.yaml") }, how: func(cmd *exec.Cmd) {
			cmd.Args = append(cmd.Args, "--config", "proxy.yaml")
		}},
		{outcome: "not-ready", run: "proxy --healthcheck --metrics-addr 127.0.0.1:1", code: 1},
		{outcome: "no-listener", run: "proxy --listen=", code: 2}, {outcome: "open-listener", run: "proxy --listen 0.0.0.0:0", code: 2},
		{outcome: "no-config", run: "proxy --config nowhere.yaml", code: 1},
		{outcome: "short-token", run: "proxy --listen 127.0.0.1:0 --metrics-addr= --token-file proxy.txt", code: 1},
		{outcome: "no-such-provider", run: "proxy --listen 127.0.0.1:0 --metrics-addr= --provider exmaple", code: 3},
		unknownFlag("proxy"), storeUnavailable("proxy --listen 127.0.0.1:0 --metrics-addr="),
	},
	"register": {
		{outcome: "success", run: "register example.json"}, {outcome: "exists", run: "register example.json", code: 1},
		{outcome: "force", run: "register example.json --force"}, {outcome: "invalid", run: "register bad.json", code: 2},
		{outcome: "no-json", run: "register definition", code: 2}, {outcome: "no-such-file", run: "register nowhere.json", code: 2},
		{outcome: "stdin", run: "register - --force", stdin: exampleDefinition},
		unknownFlag("register example.json"), storeUnavailable("register example.json"),
	},
	"profile": {
		{outcome: "no-subcommand", run: "profile", code: 2}, {outcome: "no-such-subcommand", run: "profile lst", code: 2},
		{outcome: "success", run: "profile create work --description work"}, {outcome: "exists", run: "profile create work", code: 1},
		{outcome: "bad-name", run: "profile create a:b", code: 2}, unknownFlag("profile create other"), storeUnavailable("profile create other"),
		{outcome: "success", run: "profile list"}, {outcome: "chosen", run: "profile list", env: []string{"AUTHSOME_PROFILE=work"}},
		unknownFlag("profile list"), storeUnavailable("profile list"),
		{outcome: "in-use", run: "profile delete default", code: 1}, {outcome: "no-such-profile", run: "profile delete wrok", code: 1},
		{outcome: "success", run: "profile use work"}, {outcome: "no-such-profile", run: "profile use wrok", code: 1},
		{outcome: "no-argument", run: "profile use", code: 2}, unknownFlag("profile use work"), storeUnavailable("profile use work"),
		{outcome: "not-asked", run: "profile delete default", code: 2},
		{outcome: "success", run: "profile delete default --yes"}, unknownFlag("profile delete default"), storeUnavailable("profile delete default"),
	},
	"connection": {
		{outcome: "no-subcommand", run: "connection", code: 2}, {outcome: "empty", run: "connection list"}, register, login, loginAt,
		{outcome: "success", run: "connection list"}, {outcome: "of-one-provider", run: "connection list example"},
		{outcome: "no-such-provider", run: "connection list exmaple", code: 3}, {outcome: "too-many", run: "connection list a b", code: 2},
		{outcome: "success", run: "connection default example work"}, {outcome: "no-such-connection", run: "connection default example wrok", code: 5},
		{outcome: "no-argument", run: "connection default example", code: 2},
		{outcome: "success", run: "connection rename example work job"}, {outcome: "no-such-connection", run: "connection rename example work x", code: 5},
		{outcome: "taken", run: "connection rename example job default", code: 2}, {outcome: "bad-name", run: "connection rename example job a:b", code: 2},
		unknownFlag("connection list"), storeUnavailable("connection list"), unknownFlag("connection default example work"),
		storeUnavailable("connection default example work"), unknownFlag("connection rename example job x"), storeUnavailable("connection rename example job x"),
	},
	"ca": {
		{outcome: "no-subcommand", run: "ca", code: 2},
		{outcome: "success", run: "ca export"}, {outcome: "success", run: "ca bundle"}, {outcome: "success", run: "ca rotate"},
		{outcome: "no-directory", run: "ca export --ca-dir key", code: 1}, {outcome: "no-directory", run: "ca bundle --ca-dir key", code: 1},
		{outcome: "no-directory", run: "ca rotate --ca-dir key", code: 1},
		{outcome: "success", run: "ca install --dry-run"}, {outcome: "success", run: "ca uninstall --dry-run"},
		{outcome: "no-directory", run: "ca install --dry-run --ca-dir key", code: 1},
		unknownFlag("ca uninstall"), storeUnavailable("ca export"), storeUnavailable("ca rotate"),
	},
	"vault": {
		{outcome: "no-subcommand", run: "vault", code: 2}, register, login,
		{outcome: "success", run: "vault check"}, {outcome: "success", run: "vault compact"},
		{outcome: "success", run: "vault backup backup.db"}, {outcome: "exists", run: "vault backup backup.db", code: 1},
		{outcome: "not-asked", run: "vault restore backup.db", code: 2}, {outcome: "success", run: "vault restore backup.db --yes"}, {outcome: "no-such-file", run: "vault restore nowhere.db", code: 2},
		{outcome: "no-backup", run: "vault restore no-database", code: 7},
		{outcome: "nothing-to-do", run: "vault rekey", code: 2}, {outcome: "no-such-mode", run: "vault rekey --mode rot13", code: 2},
		{outcome: "success", run: "vault rekey --new-data-key"},
		unknownFlag("vault check"), unknownFlag("vault compact"), unknownFlag("vault backup x"), unknownFlag("vault restore x"), unknownFlag("vault rekey"),
		storeUnavailable("vault check"), storeUnavailable("vault compact"), storeUnavailable("vault backup x"), storeUnavailable("vault restore x"), storeUnavailable("vault rekey --new-data-key"),
		{outcome: "damaged", run: "vault check", code: 7, before: func(d *goldenDesk) { d.damage(`"api_key":\{[^}]*`) }},
		{outcome: "keys-damaged", run: "vault check", code: 7, before: func(d *goldenDesk) { d.damage("") }},
		{outcome: "truncated", run: "vault compact", code: 7, before: func(d *goldenDesk) { d.write("profiles/default/store.db", []byte("short")) }},
	},
	"log": {
		{outcome: "no-log", run: "log verify", code: 1}, register, login, {run: "run -- curl -sS --http1.1 https://api.example.test/v1/me"},
		{outcome: "success", run: "log -n 3"}, {outcome: "of-one-event", run: "log --event login --provider example --since 1h"},
		{outcome: "empty", run: "log --event rekey"}, {outcome: "no-such-event", run: "log --event injct", code: 2},
		{outcome: "bad-since", run: "log --since yesterday", code: 2}, {outcome: "bad-lines", run: "log -n x", code: 2},
		{outcome: "no-such-subcommand", run: "log verfy", code: 2}, unknownFlag("log"), storeUnavailable("log"),
		{outcome: "success", run: "log verify"}, unknownFlag("log verify"),
		{outcome: "tampered", run: "log verify", code: 1, before: func(d *goldenDesk) {
			b := readFile(d.t, filepath.Join(d.home, "audit.log"))
			d.write("audit.log", []byte(strings.Replace(b, "example", "exempla", 1)))
		}},
	},
	"whoami": {register, login, {outcome: "success", run: "whoami"}, unknownFlag("whoami"), storeUnavailable("whoami")},
	"doctor": {
		register, login, {outcome: "success", run: "doctor --no-clients"},
		{outcome: "client-fails", run: "doctor", code: 1, how: func(cmd *exec.Cmd) {
			bin := filepath.Join(cmd.Dir, "bin")
			os.Chmod(filepath.Join(bin, "curl"), 0o755)
			cmd.Env = append(cmd.Env, "PATH="+bin)
		}},
		{outcome: "home-is-open", run: "doctor --no-clients", code: 1, before: func(d *goldenDesk) { os.Chmod(d.home, 0o755) }},
		unknownFlag("doctor"),
		{outcome: "no-home", run: "doctor --no-clients", env: []string{"AUTHSOME_HOME=$DIR/no-home"}, code: 1},
	},
	"demo": {
		{outcome: "success", run: "demo", env: []string{"PATH=/nowhere"}}, // with no curl there
		unknownFlag("demo"), {outcome: "no-room", run: "demo", env: []string{"TMPDIR=$DIR/nowhere"}, code: 1},
	},
	"completion": {
		{outcome: "success", run: "completion bash"}, {outcome: "no-such-shell", run: "completion tcsh", code: 2},
		{outcome: "no-argument", run: "completion", code: 2}, unknownFlag("completion bash"),
	},
	"import": {
		register, {outcome: "not-asked", run: "import keys.env", code: 2},
		{outcome: "success", run: "import keys.env --yes"}, {outcome: "connected-already", run: "import keys.env --yes"},
		{outcome: "nothing", run: "import nothing.env", code: 5}, {outcome: "no-such-file", run: "import nowhere.env", code: 5},
		{outcome: "wrong-shape", run: "import wrong.env --yes", code: 4}, {outcome: "no-gh", run: "import gh", code: 5},
		{outcome: "no-argument", run: "import", code: 2}, unknownFlag("import keys.env"), storeUnavailable("import keys.env"),
	},
	"scan": {
		register, {outcome: "success", run: "scan bin"}, {outcome: "found", run: "scan scanned", code: 1},
		{outcome: "no-such-directory", run: "scan nowhere", code: 2}, unknownFlag("scan"),
	},
	"redirect": {
		{outcome: "no-subcommand", run: "redirect", code: 2},
		{outcome: "success", run: "redirect up --uid 1000 --port 15002 --strict", how: inNetworkNamespace(0)},
		{outcome: "success", run: "redirect show", how: inNetworkNamespace(0)}, {outcome: "success", run: "redirect down", how: inNetworkNamespace(0)},
		{outcome: "not-permitted", run: "redirect up", how: inNetworkNamespace(1000), code: 1},
		{outcome: "not-permitted", run: "redirect down", how: inNetworkNamespace(1000), code: 1},
		{outcome: "no-port", run: "redirect up --port 0", code: 2}, unknownFlag("redirect show"),
	},
}

// otherMode makes a home beside that of the desk, with another encryption mode
// and nothing to unlock it.
func otherMode(mode string) func(*goldenDesk) {
	return func(d *goldenDesk) {
		env := []string{"AUTHSOME_HOME=" + filepath.Join(d.dir, "other"), "AUTHSOME_PASSPHRASE_FILE=" + filepath.Join(d.dir, "passphrase")}
		for _, args := range [][]string{{"init"}, {"vault", "rekey", "--mode", mode}} {
			if r := d.run(d.command(env, args...), ""); r.code != 0 {
				d.t.Fatalf("authsome %v: exit %d: %s", args, r.code, r.stderr)
			}
		}
	}
}

// expire logs in as a client whose token lives a second, and waits until it is
// over.
func (d *goldenDesk) expire(client string) {
	d.t.Helper()
	d.must("login", "oauth", "--client-id", client, "--quiet")
	eventually(d.t, "the token expires", func() bool {
		return strings.Contains(d.must("list", "--connected", "--search", "oauth", "--json").stdout, `"status": "expired"`)
	}, func() string { return "" })
}

// serveAt starts a proxy and writes a configuration by which it is found.
func (d *goldenDesk) serveAt(name string) {
	d.t.Helper()
	s := d.serve()
	file(d.t, d.dir, name, "metrics_addr: "+s.metrics+"\n")
}

// inNetworkNamespace runs a command as a user of a namespace of its own, which
// has no rules yet and ends with it. User 0 may make some there.
func inNetworkNamespace(uid int) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getgid(), Size: 1}}}
	}
}
