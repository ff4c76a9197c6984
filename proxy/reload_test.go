package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"authsome/proxy"
	"authsome/vault/secret"
)

func TestSetTokenShutsOutTheOldOne(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, false, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/slow" {
			<-release
		}
		io.WriteString(w, "hello")
	})
	idle, _ := r.tls(apiHost + ":443") // waits for a first request
	busy, busyReader := r.tls(apiHost + ":443")
	io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: "+apiHost+"\r\n\r\n")
	tunnel, _ := r.connect("elsewhere.test:443")
	time.Sleep(50 * time.Millisecond) // for the slow request to be on its way

	const grace = 400 * time.Millisecond
	if err := r.proxy.SetToken(secret.New("the-next-token"), grace); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an idle connection of the old token: got %v, want it closed", err)
	}
	if took := time.Since(began); took > grace/2 {
		t.Errorf("an idle connection was closed after %v, want at once", took)
	}
	close(release)
	resp, err := http.ReadResponse(busyReader, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("a request in flight: got %v, %v, want it answered", resp, err)
	}
	if _, err := tunnel.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a tunnel of the old token: got %v, want it closed", err)
	}

	old := r.dial()
	io.WriteString(old, "CONNECT "+apiHost+":443 HTTP/1.1\r\nHost: "+apiHost+"\r\n"+r.authHeader()+"\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(old), nil); err != nil || resp.StatusCode != http.StatusProxyAuthRequired {
		t.Errorf("the old token: got %v, %v, want 407", resp, err)
	}
	client := r.client(false)
	client.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.addr, User: url.UserPassword("run", "the-next-token")})
	resp, err = client.Get("https://" + apiHost + "/")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the new token: got %v, %v, want 200", resp, err)
	}
	resp.Body.Close()
}

func TestSetTokenKeepsTheKindOfProxy(t *testing.T) {
	r := newRig(t, false, func(http.ResponseWriter, *http.Request) {})
	if err := r.proxy.SetToken(secret.Text{}, 0); err == nil {
		t.Error("the token was taken away from a proxy that has one")
	}
	c, _ := r.connect(apiHost + ":443")
	if err := r.proxy.SetToken(secret.New(proxyToken), 0); err != nil {
		t.Errorf("the same token again: %v", err)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection after the same token was set again: got %v, want it open", err)
	}
}

func TestSetEgress(t *testing.T) {
	r := newRig(t, false, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	status := func() int {
		c := r.dial()
		io.WriteString(c, "CONNECT elsewhere.test:443 HTTP/1.1\r\nHost: elsewhere.test\r\n"+r.authHeader()+"\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if got := status(); got != http.StatusOK {
		t.Fatalf("before: got %d, want 200", got)
	}
	deny, err := proxy.NewEgress(true, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.proxy.SetEgress(deny)
	if got := status(); got != http.StatusForbidden {
		t.Errorf("denied: got %d, want 403", got)
	}
	r.proxy.SetEgress(proxy.Egress{})
	if got := status(); got != http.StatusOK {
		t.Errorf("allowed again: got %d, want 200", got)
	}
}
