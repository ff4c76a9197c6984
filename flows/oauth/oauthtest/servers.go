package oauthtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// StartOIDCProvider starts npm's oidc-provider, which is certified by the OpenID Foundation. Its
// clients are in testdata/oidc-provider/server.mjs. Any login and password is accepted.
func StartOIDCProvider(t testing.TB, options Options) *Server {
	t.Helper()
	node := tool(t, "node", "the tests run against npm's oidc-provider and need Node.js 20 or later with npm")
	npm := tool(t, "npm", "the tests run against npm's oidc-provider, which it installs")
	source := testdata(t, "oidc-provider")
	dir := prepared(t, source, []string{"package.json", "package-lock.json", "server.mjs"}, func(dir string) ([]byte, error) {
		cmd := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = dir
		return cmd.CombinedOutput()
	})
	return start(t, options, node, filepath.Join(dir, "server.mjs"))
}

// StartZitadel starts the example server of zitadel/oidc, which is written in Go. It is a module of its
// own, so that its dependencies are none of ours. Its clients are in testdata/zitadel/main.go; the
// user is "test-user2", password "verysecure".
func StartZitadel(t testing.TB, options Options) *Server {
	t.Helper()
	compiler := tool(t, "go", "the tests build zitadel/oidc's example server")
	source := testdata(t, "zitadel")
	dir := prepared(t, source, []string{"go.mod", "go.sum", "main.go"}, func(dir string) ([]byte, error) {
		cmd := exec.Command(compiler, "build", "-o", "server", ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
		return cmd.CombinedOutput()
	})
	return start(t, options, filepath.Join(dir, "server"))
}
