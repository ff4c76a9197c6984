//go:build linux

package soak_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// patience is how long a client waits for a whole exchange. It is long because
// the machine may be busy; a proxy that loses an answer is found all the same.
const patience = 2 * time.Minute

// refused is the answer of the proxy itself.
type refused struct {
	code   string // of Authsome-Error
	status int
}

func (r *refused) Error() string { return fmt.Sprintf("refused: %s (%d)", r.code, r.status) }

// errSecret is returned when a client is shown a credential.
var errSecret = errors.New("the client saw a credential")

// newClient is an agent's: it knows the proxy, its token and its bundle. Its
// idle connections are to be closed.
func (w *world) newClient(h2 bool) *http.Client {
	tr := &http.Transport{
		Proxy:           http.ProxyURL(w.proxyURL()),
		TLSClientConfig: &tls.Config{RootCAs: w.trust},
		Protocols:       new(http.Protocols),
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
			return refusal(resp)
		},
		MaxIdleConnsPerHost: 64,
	}
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetHTTP2(h2)
	return &http.Client{Transport: tr}
}

// refusal is the error of an answer that the proxy gave itself, nil for others.
func refusal(resp *http.Response) error {
	if code := resp.Header.Get("Authsome-Error"); code != "" {
		return &refused{code, resp.StatusCode}
	}
	return nil
}

// answer is what a client got, as far as it matters.
type answer struct {
	status int
	came   string // whose credential came to the origin, by the origin's word
	text   string // of a small body
	sum    []byte // SHA-256 of the body
	n      int64
}

// ask makes a request as an agent would: with a placeholder where its key
// belongs. What the proxy refuses is an error of type *refused.
func ask(ctx context.Context, c *http.Client, method, target string, body io.Reader, length int64) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return a, err
	}
	req.ContentLength = length
	req.Header.Set("Authorization", "Bearer authsome-proxy-managed")
	resp, err := c.Do(req)
	if err != nil {
		return a, cause(err)
	}
	defer resp.Body.Close()
	if strings.Contains(fmt.Sprint(resp.Header), canary) {
		return a, errSecret
	}
	in := &scanner{sum: sha256.New()}
	_, err = io.Copy(in, resp.Body)
	switch {
	case in.found:
		return a, errSecret
	case err != nil:
		return a, fmt.Errorf("%w after %d bytes: %w", errCut, in.n, err)
	}
	a = answer{status: resp.StatusCode, came: resp.Header.Get("Came"), text: string(in.last), sum: in.sum.Sum(nil), n: in.n}
	return a, refusal(resp)
}

// errCut is returned for an answer that ended too early and says so.
var errCut = errors.New("the answer was cut off")

// cause is what of net/http's errors is of interest.
func cause(err error) error {
	var r *refused
	if errors.As(err, &r) {
		return r
	}
	return err
}

// scanner takes a body: its sum, its last bytes, and whether it holds a secret.
type scanner struct {
	sum   hash.Hash
	n     int64
	last  []byte // at most tailBytes
	found bool
}

const tailBytes = 1 << 10

// Write implements io.Writer.
func (s *scanner) Write(p []byte) (int, error) {
	s.sum.Write(p)
	s.n += int64(len(p))
	all := append(s.last, p...)
	s.found = s.found || bytes.Contains(all, []byte(canary))
	s.last = append([]byte(nil), all[max(0, len(all)-tailBytes):]...)
	return len(p), nil
}

// wantFrom is the error of an answer that is not a 200 with the right
// credential at the origin.
func wantFrom(a answer, err error, came string) error {
	switch {
	case err != nil:
		return err
	case a.status != http.StatusOK || a.came != came:
		return fmt.Errorf("status %d, and %q came to the origin, want %q: %.200s", a.status, a.came, came, a.text)
	}
	return nil
}

// fetch gets a body of n bytes and compares it.
func fetch(ctx context.Context, c *http.Client, host, came string, seed uint64, n int64) error {
	a, err := ask(ctx, c, http.MethodGet, fmt.Sprintf("https://%s.%s/bytes?seed=%d&n=%d", host, domain, seed, n), nil, 0)
	return wantBody(a, wantFrom(a, err, came), seed, n)
}

func wantBody(a answer, err error, seed uint64, n int64) error {
	if err != nil {
		return err
	}
	want := sha256.New()
	io.Copy(want, pattern(seed, n))
	if a.n != n || !bytes.Equal(a.sum, want.Sum(nil)) {
		return fmt.Errorf("a body of %d bytes that is not the one of %d bytes that was asked for", a.n, n)
	}
	return nil
}

// upload sends a body of n bytes, without its length if chunked, and compares
// what the origin says about it.
func upload(ctx context.Context, c *http.Client, host string, seed uint64, n int64, chunked bool) error {
	length := n
	if chunked {
		length = -1
	}
	a, err := ask(ctx, c, http.MethodPost, "https://"+host+"."+domain+"/sum", pattern(seed, n), length)
	if err := wantFrom(a, err, "the key"); err != nil {
		return err
	}
	sum := sha256.New()
	io.Copy(sum, pattern(seed, n))
	if want := fmt.Sprintf("%d %s", n, hex.EncodeToString(sum.Sum(nil))); a.text != want {
		return fmt.Errorf("the origin got %q, want %q", a.text, want)
	}
	return nil
}

// dialProxy opens a connection to the proxy and says what head gives.
func (w *world) dialProxy(head string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", w.addr, patience)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, head); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (w *world) connectHead(target string) string {
	return fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Basic %s\r\n\r\n", target, target,
		base64.StdEncoding.EncodeToString([]byte("agent:"+w.token)))
}

// connect opens a tunnel.
func (w *world) connect(target string) (net.Conn, error) {
	c, err := w.dialProxy(w.connectHead(target))
	if err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(onlyHead{c}, 1<<10), nil)
	switch {
	case err != nil:
	case refusal(resp) != nil:
		err = refusal(resp)
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("CONNECT was answered %s", resp.Status)
	default:
		return c, nil
	}
	c.Close()
	return nil, err
}

// onlyHead reads a byte at a time, so that nothing after the head is taken.
type onlyHead struct{ net.Conn }

// Read implements io.Reader.
func (c onlyHead) Read(p []byte) (int, error) { return c.Conn.Read(p[:1]) }
