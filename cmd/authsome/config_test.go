//go:build linux

package main_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a configuration is said with its line and its path, all of
// it at once.
func TestSidecarConfigMistakes(t *testing.T) {
	w := newWorld(t)
	cases := []struct{ name, text, want string }{
		{"unknown key", "egress: deny\nlisten_to: x\n", ":2: configuration: listen_to: unknown key; did you mean listen?"},
		{"flag spelling", "token-file: x\n", "did you mean token_file?"},
		{"no such thing", "colour: red\n", ":1: configuration: colour: unknown key; known are advertise, "},
		{"a port alone", "listen: 8080\n", `listen: want an address such as 127.0.0.1:8080`},
		{"a port alone in a list", "listen: [8080]\n", `listen[0]: want an address such as 127.0.0.1:8080`},
		{"number", "ca_dir: 5\n", `ca_dir: want text: write "5", in quotes`},
		{"list for text", "ca_dir: [a]\n", "ca_dir: want text"},
		{"number in a list", "listen: [a, 5]\n", "listen[1]: want an address"},
		{"choice", "store: disk\n", `store: "disk" is not file or memory`},
		{"duration", "ca_lifetime: soon\n", `ca_lifetime: "soon" is not a duration`},
		{"too short a duration", "ca_lifetime: 1ns\n", "ca_lifetime: 1ns: want 10s to 8784h0m0s"},
		{"too long a duration", "ca_lifetime: 100000h\n", "ca_lifetime: 100000h: want "},
		{"set twice", "egress: deny\negress: allow\n", ":2: configuration: egress: set twice"},
		{"not an object", "- a\n- b\n", "want keys and values"},
		{"alias", "allow_host: &a [x]\nprovider: *a\n", "aliases (*a) are not supported"},
		{"two documents", "egress: deny\n---\negress: allow\n", ":2: configuration: a second document"},
		{"not YAML", "egress: [\n", "yaml: line"},
		{"credential not an object", "credentials: {openai: key}\n", "credentials.openai: want keys and values"},
		{"credential key", "credentials:\n  openai:\n    - secret: x\n", ":3: configuration: credentials.openai[0].secret: unknown key; did you mean secret_file?"},
		{"credential of an odd name", "credentials: {a.b: {x: y}}\n", `credentials["a.b"].x: unknown key`},
		{"provider twice", "credentials:\n  openai: {}\n  openai: {}\n", ":3: configuration: credentials.openai: set twice"},
		{"two client ids", "credentials: {github: {client_id: a, client_id_file: b}}\n", "credentials.github: client_id and client_id_file exclude each other"},
		{"stdin", "credentials: {openai: {secret_file: '-'}}\n", "credentials.openai: a file, not stdin"},
		{"stdin for a client", "credentials: {acme: {client_id_file: '-'}}\n", "credentials.acme: a file, not stdin"},
		{"JSON", "{\n\t\"egress\": true\n}\n", `:2: configuration: egress: want text: write "true", in quotes`},
		{"too large", "# " + strings.Repeat("x", 1<<20), "larger than 1 MiB"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := file(t, t.TempDir(), "proxy.yaml", c.text)
			r := w.authsome("--json", "proxy", "--config", path)
			var failure struct{ Error, Message, Hint string }
			if err := json.Unmarshal([]byte(r.stdout), &failure); err != nil {
				t.Fatalf("exit %d: %v: %s%s", r.code, err, r.stdout, r.stderr)
			}
			if r.code == 0 || failure.Hint == "" || !strings.Contains(failure.Message, c.want) {
				t.Errorf("got exit %d %q (%s), want %q in it", r.code, failure.Message, failure.Hint, c.want)
			}
		})
	}
	path := file(t, t.TempDir(), "proxy.yaml", "egress: no\nstore: disk\n")
	if r := w.authsome("proxy", "--config", path); !strings.Contains(r.stderr, "egress: ") || !strings.Contains(r.stderr, "store: ") {
		t.Errorf("two mistakes: got %q, want both", r.stderr)
	}
}

// Every flag has its key, and the flag wins.
func TestSidecarConfigMirrorsTheFlags(t *testing.T) {
	w := newWorld(t)
	help := w.must("proxy", "--help").stdout
	global := w.must("whoami", "--help").stdout
	keys := w.authsome("proxy", "--config", file(t, t.TempDir(), "proxy.yaml", "nosuch: x\n")).stderr
	for line := range strings.Lines(help) {
		for _, word := range strings.Fields(line)[:min(2, len(strings.Fields(line)))] {
			flag, ok := strings.CutPrefix(strings.TrimSuffix(word, ","), "--")
			if !ok || strings.Contains(global, "--"+flag) || flag == "config" || flag == "healthcheck" {
				continue
			}
			if key := strings.ReplaceAll(flag, "-", "_"); !strings.Contains(keys, " "+key+",") && !strings.Contains(keys, " "+key+" ") {
				t.Errorf("--%s has no key %s: %s", flag, key, keys)
			}
		}
	}
	env := filepath.Join(t.TempDir(), "from-file.env")
	config := file(t, t.TempDir(), "proxy.yaml", "metrics_addr: 127.0.0.1:1\nlisten: [127.0.0.1:1]\nenv_out: "+env+"\n")
	s := w.serve("--config", config) // 127.0.0.1:1 could not be listened on by --listen 127.0.0.1:0
	if s.addr == "127.0.0.1:1" || s.metrics == "127.0.0.1:1" {
		t.Errorf("the file won over the flags: %s, %s", s.addr, s.metrics)
	}
}
