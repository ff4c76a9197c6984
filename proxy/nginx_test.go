package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"authsome/ca"
	"authsome/proxy"
)

// nginxConfig says where a request ended up, and whether it had a credential.
const nginxConfig = `
daemon off;
master_process off;
worker_processes 1;
pid PREFIX/pid;
error_log PREFIX/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path PREFIX/1; proxy_temp_path PREFIX/2; fastcgi_temp_path PREFIX/3; uwsgi_temp_path PREFIX/4; scgi_temp_path PREFIX/5;
	ssl_certificate CERT;
	ssl_certificate_key KEY;
	map $http_authorization $has { default none; ~CANARY credential; }
	default_type text/plain;
	keepalive_requests 1000000;
	server {
		listen 127.0.0.1:PORT0 ssl;
		location /api/ { return 200 "inside $has"; }
		location = /api { return 200 "inside $has"; }
		location / { return 200 "outside $has"; }
	}
	server {
		listen 127.0.0.1:PORT1 ssl;
		merge_slashes off;
		location /api/ { return 200 "inside $has"; }
		location = /api { return 200 "inside $has"; }
		location / { return 200 "outside $has"; }
	}
	server {
		listen 127.0.0.1:PORT2 ssl http2;
		location ~ ^/api(/|$) { return 200 "inside $has"; }
		location / { return 200 "outside $has"; }
	}
}
`

// startNginx runs nginx with its certificate from authority and returns the
// addresses of its servers.
func startNginx(t *testing.T, authority *ca.Authority) []string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program = "/usr/sbin/nginx"; !exists(program) {
			t.Fatal("nginx is needed; run: make deps")
		}
	}
	dir := t.TempDir()
	cert, key := certificate(t, authority, apiHost)
	replace := []string{"PREFIX", dir, "CANARY", canary, "CERT", cert, "KEY", key}
	var addrs []string
	for i := range 3 {
		port := freePort(t)
		addrs = append(addrs, "127.0.0.1:"+port)
		replace = append(replace, fmt.Sprint("PORT", i), port)
	}
	config := strings.NewReplacer(replace...).Replace(nginxConfig)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, program, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log"))
	for _, addr := range addrs {
		awaitPort(t, addr)
	}
	return addrs
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// pathPieces are what the paths of the differential are made of.
var pathPieces = []string{"api", "admin", "", ".", "..", "%2e%2e", ".%2e", "%2E", "..;", ";x=1", "..%2f", "%2f", "%5c..", `\..`,
	"%252e%252e", "%61pi", "API", "api;x", "api%2f..", "%2e%2e%2fapi", "...", "x", "api%00", "%c0%ae%c0%ae", "api%20", "api."}

// PITFALLS 3: whatever a path looks like, nginx must not serve it from outside
// the prefix with a credential in the request.
func TestPathsAgainstNginx(t *testing.T) {
	authority, err := ca.New(t.Context(), ca.Config{PermittedDNS: []string{"example.test"}})
	if err != nil {
		t.Fatal(err)
	}
	addrs := startNginx(t, authority)
	var paths []string
	for _, a := range pathPieces {
		for _, b := range pathPieces {
			paths = append(paths, "/"+a+"/"+b, "/api/"+a+"/"+b, "/"+a+"/"+b+"/api/ok", "/api/"+a+"/"+b+"/api/ok")
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := ""
		for range 3 + random.IntN(5) {
			p += "/" + pathPieces[random.IntN(len(pathPieces))]
		}
		paths = append(paths, p)
	}
	for i, name := range []string{"slashes merged", "slashes kept", "expression, h2"} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, client h2=%v", name, h2), func(t *testing.T) {
				r := newRig(t, false, whoami, func(r *rig, c *proxy.Config) {
					c.RootCAs = x509.NewCertPool()
					c.RootCAs.AppendCertsFromPEM(authority.RootPEM())
					c.Logger = nil
				})
				r.redirect(func(string) string { return addrs[i] })
				r.route("https://" + apiHost + "/api")
				ask := r.asker()
				if h2 {
					ask = r.h2Asker()
				}
				seen := map[string]int{}
				for _, path := range paths {
					where := ask(path)
					if where == "outside credential" {
						t.Errorf("%s was served from outside the prefix with a credential", path)
					}
					seen[where]++
				}
				t.Log(seen)
				for _, want := range []string{"inside credential", "outside none", "400 ambiguous_path"} {
					if seen[want] < 10 {
						t.Errorf("%q came %d times: the differential shows nothing", want, seen[want])
					}
				}
			})
		}
	}
}

// asker returns what says where a path ends up, over HTTP/1.1: what nginx says
// of it, or the status and code of a refusal.
func (r *rig) asker() func(path string) string {
	var c *tls.Conn
	var br *bufio.Reader
	return func(path string) string {
		if c == nil {
			c, br = r.tls(apiHost + ":443")
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, apiHost)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			r.t.Fatalf("%s: %v", path, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			r.t.Fatalf("%s: %v", path, err)
		}
		if resp.Close {
			c.Close()
			c = nil
		}
		if resp.StatusCode != 200 {
			return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Authsome-Error"))
		}
		return string(body)
	}
}

// h2Asker is the same over HTTP/2.
func (r *rig) h2Asker() func(path string) string {
	var h *h2Client
	return func(path string) string {
		if h == nil || h.next > 1000 { // the deadline of a connection is for fewer than all
			if h != nil {
				h.conn.Close()
			}
			h = r.h2(apiHost + ":443")
		}
		a := h.wait(h.open(true, get(path)))
		if !a.ended || a.reset != nil {
			r.t.Fatalf("%s: got %+v", path, a)
		}
		if a.status != "200" {
			return a.status + " " + a.first("authsome-error")
		}
		return string(a.body)
	}
}
