//go:build linux

package main_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// The proxy's own way out is what its environment says, NO_PROXY included, and
// what it is told itself wins.
func TestUpstreamOfTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	const dead = "http://127.0.0.1:1"
	withPassword := strings.Replace(w.internet, "http://", "http://user:"+canary+"@", 1)
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		want string // part of a refusal's body; "" for the origin's welcome
	}{
		{"HTTPS_PROXY", nil, nil, ""},
		{"https_proxy wins", []string{"https_proxy=" + w.internet, "HTTPS_PROXY=" + dead}, nil, ""},
		{"ALL_PROXY", []string{"ALL_PROXY=" + w.internet, "HTTPS_PROXY="}, nil, ""},
		{"--upstream-proxy wins", []string{"HTTPS_PROXY=" + dead}, []string{"--upstream-proxy", w.internet}, ""},
		{"HTTPS_PROXY with a password", []string{"HTTPS_PROXY=" + withPassword}, nil, ""},
		{"the file with a password", []string{"HTTPS_PROXY=" + dead}, []string{"--config", file(t, t.TempDir(), "proxy.yaml", "upstream_proxy: "+withPassword+"\n")}, ""},
		{"a proxy that is not there", []string{"HTTPS_PROXY=" + dead}, nil, "The upstream proxy did not give a connection."},
		// Nothing but that proxy knows the host's name.
		{"NO_PROXY with the host", []string{"NO_PROXY=localhost,api.example.test"}, nil, "The origin"},
		{"no_proxy with the domain", []string{"no_proxy=.example.test"}, nil, "The origin"},
		{"NO_PROXY with another", []string{"NO_PROXY=example.com,10.0.0.0/8"}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := w.startProxy(tt.env, tt.args...)
			s.waitReady()
			status, body := get(s.client(), apiURL)
			if tt.want == "" && (status != http.StatusOK || !strings.HasPrefix(body, "welcome")) || !strings.Contains(body, tt.want) {
				t.Errorf("got %d %q, want %q", status, body, tt.want)
			}
			s.terminate()
		})
	}
}

// A password on the command line can be read by every user. It is not taken from
// there, and not repeated.
func TestUpstreamPasswordIsNoArgument(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	for _, value := range []string{"http://user:" + canary + "@127.0.0.1:1", "https://" + canary + "@proxy.example:3128", "user:" + canary + "@proxy.example:3128"} {
		for _, args := range [][]string{{"run", "--upstream-proxy", value, "--", "true"}, {"proxy", "--listen", "127.0.0.1:0", "--metrics-addr", "", "--upstream-proxy=" + value}} {
			cmd := w.command(nil, append([]string{"--json"}, args...)...)
			late := time.AfterFunc(patience, func() { cmd.Process.Kill() }) // one that takes it serves
			r := w.run(cmd, "")
			late.Stop()
			if r.code != 2 || !strings.Contains(r.stdout, "HTTPS_PROXY") {
				t.Errorf("%s with %s: exit %d: %s", args[0], value, r.code, r.stdout)
			}
			if strings.Contains(r.stdout+r.stderr, canary) {
				t.Errorf("%s repeats the password: %s%s", args[0], r.stdout, r.stderr)
			}
		}
	}
	w.noSecret()
}
