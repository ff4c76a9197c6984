package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// A tunnel's bytes go from one socket to the other within the kernel: the proxy
// does not read them.
func TestTunnelsAreSpliced(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	s := w.serve()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(readFile(t, w.roots)))
	client := s.client()
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	read := func() int64 {
		for line := range strings.Lines(readFile(t, fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))) {
			if n, found := strings.CutPrefix(line, "rchar: "); found {
				bytes, err := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				return bytes
			}
		}
		t.Fatal("the kernel does not count what a process reads")
		return 0
	}
	before := read()
	req, _ := http.NewRequest("POST", fmt.Sprintf("https://tunnelled.example.test/?size=%d", size), io.LimitReader(zeros{}, size))
	req.Header.Set("Authorization", "Bearer "+canary) // the client's own
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
		t.Fatalf("got %d %s bytes, %v", n, resp.Status, err)
	}
	if _, metrics := s.probe("/metrics"); !strings.Contains(metrics, `authsome_tunnels_total{outcome="ok"} 1`) {
		t.Error("it was no tunnel")
	}
	if got := read() - before; got > size/8 {
		t.Errorf("the proxy read %d bytes of %d", got, 2*size)
	}
}
