package ca_test

import (
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"authsome/ca"
)

const testProxy = "http://run:t0ken@127.0.0.1:4321"

// environ looks variables up in a map.
func environ(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func writeTrust(t testing.TB, root []byte, in ca.TrustInput) *ca.Trust {
	t.Helper()
	if in.Environ == nil {
		in.Environ = environ(nil)
	}
	if in.ProxyURL == "" {
		in.ProxyURL = testProxy
	}
	trust, err := ca.WriteTrust(filepath.Join(t.TempDir(), "trust"), root, in)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// PITFALL 36: the child's variables say less than the parent's did.
func TestEnv(t *testing.T) {
	trust := writeTrust(t, newAuthority(t).RootPEM(), ca.TrustInput{Environ: environ(map[string]string{
		"NO_PROXY": "internal.test, localhost", "SSL_CERT_DIR": "/somewhere",
	})})
	bundle := filepath.Join(trust.Dir, "bundle.pem")
	want := map[string]string{
		"NO_PROXY": "internal.test,localhost,127.0.0.1,::1", "no_proxy": "internal.test,localhost,127.0.0.1,::1",
		"NODE_USE_ENV_PROXY": "1", "AUTHSOME_PROXY_MODE": "true",
		"WGETRC":           filepath.Join(trust.Dir, "wgetrc"),
		"PHP_INI_SCAN_DIR": ":" + filepath.Join(trust.Dir, "php.d"),
		"JAVA_TOOL_OPTIONS": "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=4321 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=4321" +
			" -Dhttp.nonProxyHosts=localhost|127.*|[::1]|internal.test|*.internal.test" +
			" -Djavax.net.ssl.trustStore=" + filepath.Join(trust.Dir, "truststore.p12") +
			" -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit",
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		want[name] = testProxy
	}
	for name := range strings.FieldsSeq(`SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO AWS_CA_BUNDLE
		PIP_CERT CARGO_HTTP_CAINFO CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE GRPC_DEFAULT_SSL_ROOTS_FILE_PATH HTTPLIB2_CA_CERTS
		NIX_SSL_CERT_FILE npm_config_cafile DENO_CERT CODEX_CA_CERTIFICATE NODE_EXTRA_CA_CERTS`) {
		want[name] = bundle
	}
	got := trust.Env()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%s:\n got %q\nwant %q", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("unexpected %s=%q", name, got[name])
		}
	}
	if trust.Bundle != bundle || len(trust.Warnings) != 0 {
		t.Errorf("got bundle %q, warnings %q", trust.Bundle, trust.Warnings)
	}
}

func TestNoProxy(t *testing.T) {
	for _, test := range []struct {
		name     string
		env      map[string]string
		in       ca.TrustInput
		want     string
		java     string
		warnings int
	}{
		{"nothing inherited", nil, ca.TrustInput{}, "127.0.0.1,localhost,::1", "", 0},
		{"either case", map[string]string{"no_proxy": "a.test", "NO_PROXY": "b.test,A.test"}, ca.TrustInput{},
			"a.test,b.test,127.0.0.1,localhost,::1", "|a.test|*.a.test|b.test|*.b.test", 0},
		{"loopback in it", map[string]string{"NO_PROXY": "::1,LOCALHOST"}, ca.TrustInput{}, "::1,LOCALHOST,127.0.0.1", "", 0},
		{"networks and ports", map[string]string{"NO_PROXY": ".corp.test,10.0.0.0/8,192.168.4.0/22,172.16.0.9,fd00::1,h.test:8080,*.x.test"}, ca.TrustInput{},
			".corp.test,10.0.0.0/8,192.168.4.0/22,172.16.0.9,fd00::1,h.test:8080,*.x.test,127.0.0.1,localhost,::1",
			"|*.corp.test|10.*|172.16.0.9|[fd00::1]|*.x.test", 0},
		{"everything", map[string]string{"NO_PROXY": "*"}, ca.TrustInput{}, "127.0.0.1,localhost,::1", "", 1},
		{"the caller's own", nil, ca.TrustInput{NoProxy: []string{"db", "localhost"}}, "127.0.0.1,localhost,::1,db", "|db|*.db", 0},
		{"around the proxy", map[string]string{"NO_PROXY": ".corp.test"}, ca.TrustInput{Intercepted: []string{"api.test", "git.corp.test"}},
			".corp.test,127.0.0.1,localhost,::1", "|*.corp.test", 1},
		{"the loopback itself", nil, ca.TrustInput{Intercepted: []string{"api.test", "localhost", "127.0.0.1"}}, "127.0.0.1,localhost,::1", "", 2},
		{"not a list", map[string]string{"NO_PROXY": "a|b'c\"d"}, ca.TrustInput{}, "a|b'c\"d,127.0.0.1,localhost,::1", "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Environ = environ(test.env)
			trust := writeTrust(t, newAuthority(t).RootPEM(), test.in)
			env := trust.Env()
			if env["NO_PROXY"] != test.want || env["no_proxy"] != test.want {
				t.Errorf("got %q and %q, want %q", env["NO_PROXY"], env["no_proxy"], test.want)
			}
			if want := "-Dhttp.nonProxyHosts=localhost|127.*|[::1]" + test.java + " "; !strings.Contains(env["JAVA_TOOL_OPTIONS"], want) {
				t.Errorf("java: got %q, want %q in it", env["JAVA_TOOL_OPTIONS"], want)
			}
			if len(trust.Warnings) != test.warnings {
				t.Errorf("got warnings %q, want %d", trust.Warnings, test.warnings)
			}
		})
	}
}

func TestInheritedSettingsStay(t *testing.T) {
	wgetrc := write(t, "rc", "use_proxy = off\nHTTPS-Proxy=http://corporate:1\npassword=x")
	trust := writeTrust(t, newAuthority(t).RootPEM(), ca.TrustInput{Environ: environ(map[string]string{
		"JAVA_TOOL_OPTIONS": "-Xmx64m -Djavax.net.ssl.trustStore=/corporate.jks",
		"PHP_INI_SCAN_DIR":  "/etc/php:", "WGETRC": wgetrc, "HOME": "/nonexistent",
	})})
	env := trust.Env()
	if got := env["JAVA_TOOL_OPTIONS"]; !strings.HasPrefix(got, "-Xmx64m -Djavax.net.ssl.trustStore=/corporate.jks -Dhttp.proxyHost=") {
		t.Errorf("java: got %q", got)
	}
	if len(trust.Warnings) != 1 || !strings.Contains(trust.Warnings[0], "JAVA_TOOL_OPTIONS") {
		t.Errorf("got warnings %q, want one for the trust store", trust.Warnings)
	}
	if got, want := env["PHP_INI_SCAN_DIR"], "/etc/php::"+filepath.Join(trust.Dir, "php.d"); got != want {
		t.Errorf("php: got %q, want %q", got, want)
	}
	want := "use_proxy = off\nHTTPS-Proxy=http://corporate:1\npassword=x\n" +
		"use_proxy = on\nhttp_proxy = " + testProxy + "\nhttps_proxy = " + testProxy + "\n" +
		"ca_certificate = " + trust.Bundle + "\n"
	if got := read(t, env["WGETRC"]); got != want {
		t.Errorf("wgetrc: got %q, want %q", got, want)
	}
}

func TestWgetrcOfHome(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".wgetrc"), []byte("tries = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	trust := writeTrust(t, newAuthority(t).RootPEM(), ca.TrustInput{Environ: environ(map[string]string{"HOME": home})})
	if got, want := read(t, trust.Env()["WGETRC"]), "tries = 3\nca_certificate = "+trust.Bundle+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A pipe that nobody writes to holds nothing up: wget goes without its settings.
func TestWgetrcOfHomeIsAPipe(t *testing.T) {
	home := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(home, ".wgetrc"), 0o600); err != nil {
		t.Fatal(err)
	}
	trust, err := ca.WriteTrust(filepath.Join(t.TempDir(), "trust"), newAuthority(t).RootPEM(),
		ca.TrustInput{Environ: environ(map[string]string{"HOME": home}), ProxyURL: testProxy})
	if err != nil {
		t.Fatal(err)
	}
	if len(trust.Warnings) != 1 || !strings.Contains(trust.Warnings[0], "not a regular file") {
		t.Errorf("got warnings %q, want one that says what .wgetrc is", trust.Warnings)
	}
}

func TestWriteTrustModes(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, ".wgetrc"), []byte("password = canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, shared := range []bool{false, true} {
		dirMode, fileMode := os.FileMode(0o700), os.FileMode(0o600)
		if shared {
			dirMode, fileMode = 0o755, 0o644
		}
		trust := writeTrust(t, newAuthority(t).RootPEM(), ca.TrustInput{
			Environ: environ(map[string]string{"HOME": home}), AllowOtherReaders: shared, ChildDir: "/elsewhere",
		})
		files := 0
		err := filepath.WalkDir(trust.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			want := fileMode
			if d.IsDir() {
				want = dirMode
			} else {
				files++
				if content := read(t, path); strings.Contains(content, "PRIVATE") || shared && strings.Contains(content, "canary") {
					t.Errorf("%s holds a secret", path)
				}
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s: mode %o, want %o", path, got, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if files != 5 {
			t.Errorf("%d files, want 5", files)
		}
		for name, value := range trust.Env() {
			if strings.Contains(value, trust.Dir) {
				t.Errorf("%s=%s is a path of this side", name, value)
			}
		}
		if got := trust.Env()["SSL_CERT_FILE"]; got != "/elsewhere/bundle.pem" {
			t.Errorf("SSL_CERT_FILE: got %q", got)
		}
	}
}

// PITFALL 37: two runs share one path and overwrite each other's files.
func TestTwoRunsDoNotMeet(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	first := writeTrust(t, a.RootPEM(), ca.TrustInput{})
	before := read(t, first.Bundle)
	second := writeTrust(t, b.RootPEM(), ca.TrustInput{})
	if read(t, first.Bundle) != before {
		t.Error("the second run changed the first one's bundle")
	}
	for name, value := range second.Env() {
		if strings.Contains(value, first.Dir) {
			t.Errorf("%s=%s is the first run's", name, value)
		}
	}
}

func TestWriteTrustAgain(t *testing.T) {
	a := newAuthority(t)
	trust := writeTrust(t, a.RootPEM(), ca.TrustInput{})
	if err := a.Rotate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	// As in a process that was itself told to use the bundle.
	again, err := ca.WriteTrust(trust.Dir, a.RootPEM(), ca.TrustInput{Environ: environ(trust.Env()), ProxyURL: testProxy})
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range rootsOf(t, a.RootPEM()) {
		if n := strings.Count(read(t, again.Bundle), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}))); n != 1 {
			t.Errorf("root %s is in the bundle %d times, want once", root.Subject, n)
		}
	}
}

func TestWriteTrustRefuses(t *testing.T) {
	root := newAuthority(t).RootPEM()
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	file := write(t, "file", "")
	missing := filepath.Join(t.TempDir(), "missing.pem")
	named := func(name string) ca.TrustInput {
		return ca.TrustInput{Environ: environ(map[string]string{name: missing}), ProxyURL: testProxy}
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	piped := func(name string) ca.TrustInput {
		return ca.TrustInput{Environ: environ(map[string]string{name: pipe}), ProxyURL: testProxy}
	}
	plain := ca.TrustInput{Environ: environ(nil), ProxyURL: testProxy}
	for _, test := range []struct {
		name string
		dir  string
		root []byte
		in   ca.TrustInput
		want []string
	}{
		{"open directory", open, root, plain, []string{open, "0777"}},
		{"file for a directory", file, root, plain, []string{file}},
		{"no parent directory", filepath.Join(missing, "x"), root, plain, []string{missing}},
		{"no root", "", nil, plain, []string{"root"}},
		{"SSL_CERT_FILE", "", root, named("SSL_CERT_FILE"), []string{"SSL_CERT_FILE", missing}},
		{"NODE_EXTRA_CA_CERTS", "", root, named("NODE_EXTRA_CA_CERTS"), []string{"NODE_EXTRA_CA_CERTS", missing}},
		{"WGETRC", "", root, named("WGETRC"), []string{"WGETRC", missing}},
		{"a pipe for SSL_CERT_FILE", "", root, piped("SSL_CERT_FILE"), []string{"SSL_CERT_FILE", pipe, "not a regular file"}},
		{"a pipe for NODE_EXTRA_CA_CERTS", "", root, piped("NODE_EXTRA_CA_CERTS"), []string{"NODE_EXTRA_CA_CERTS", pipe, "not a regular file"}},
		{"a pipe for WGETRC", "", root, piped("WGETRC"), []string{"WGETRC", pipe, "not a regular file"}},
		{"extra file", "", root, ca.TrustInput{Environ: environ(nil), ProxyURL: testProxy, ExtraFiles: []string{missing}}, []string{missing}},
		{"no environment", "", root, ca.TrustInput{ProxyURL: testProxy}, []string{"environment"}},
		{"control character", "", root, ca.TrustInput{Environ: environ(nil), ProxyURL: testProxy, ChildDir: "/a\nb"}, []string{`\n`}},
		{"unquotable for PHP", "", root, ca.TrustInput{Environ: environ(nil), ProxyURL: testProxy, ChildDir: "/a'$b"}, []string{"PHP"}},
		{"no port", "", root, ca.TrustInput{Environ: environ(nil), ProxyURL: "http://u:canary@host"}, []string{"proxy URL"}},
		{"https proxy", "", root, ca.TrustInput{Environ: environ(nil), ProxyURL: "https://u:canary@host:1"}, []string{"proxy URL"}},
		{"bad proxy", "", root, ca.TrustInput{Environ: environ(nil), ProxyURL: "http://u:canary@host:x"}, []string{"proxy URL"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := test.dir
			if dir == "" {
				dir = filepath.Join(t.TempDir(), "trust")
			}
			_, err := ca.WriteTrust(dir, test.root, test.in)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want %q in it", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

func TestTruststoreHoldsTheBundle(t *testing.T) {
	trust := writeTrust(t, newAuthority(t).RootPEM(), ca.TrustInput{})
	certs, err := pkcs12.DecodeTrustStore([]byte(read(t, filepath.Join(trust.Dir, "truststore.p12"))), ca.TruststorePassword)
	if err != nil {
		t.Fatal(err)
	}
	if want := rootsOf(t, []byte(read(t, trust.Bundle))); len(certs) != len(want) {
		t.Errorf("%d certificates, want %d", len(certs), len(want))
	}
}
