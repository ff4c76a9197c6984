//go:build linux

package main_test

import (
	"net/http"
	"strings"
	"testing"
)

// The proxy's own way out is what its environment says, NO_PROXY included, and
// what it is told itself wins.
func TestUpstreamOfTheEnvironment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	const dead = "http://127.0.0.1:1"
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
