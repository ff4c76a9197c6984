//go:build linux

package soak_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// load is everything that clients do to one proxy.
type load struct {
	w       *world
	workers sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context // ends when no new work is to be begun
	serial  atomic.Int64
	clients []*http.Client // that keep connections

	mu         sync.Mutex // guards all below
	counts     map[string]int
	unexpected []string
	failures   int
	refusals   map[string]int     // that were to be expected, by code
	permitted  map[string][]*span // by code
	effect     []time.Duration    // until a login or logout had its effect
}

// span is a stretch of time; an open one has no end yet.
type span struct{ from, to time.Time }

func newLoad(w *world) *load {
	l := &load{w: w, counts: map[string]int{}, refusals: map[string]int{}, permitted: map[string][]*span{}}
	l.ctx, l.stop = context.WithCancel(w.t.Context())
	w.t.Cleanup(l.end)
	return l
}

// every does work again and again, with a pause in between. Work that was begun
// is finished.
func (l *load) every(kind string, interval time.Duration, workers int, work func(context.Context) error) {
	l.mu.Lock()
	l.counts[kind] += 0 // that nothing was done shows, too
	l.mu.Unlock()
	for range workers {
		l.workers.Go(func() {
			for pause(l.ctx, interval/2+rand.N(interval)) {
				began := time.Now()
				l.note(kind, began, work(context.WithoutCancel(l.ctx)))
			}
		})
	}
}

// note counts what was done, and keeps what was not to be expected.
func (l *load) note(kind string, began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var r *refused
	switch {
	case err == nil:
		l.counts[kind]++
	case errors.As(err, &r) && l.mayRefuse(r.code, began):
		l.refusals[r.code]++
	default:
		l.failures++
		if len(l.unexpected) < 20 {
			l.unexpected = append(l.unexpected, fmt.Sprintf("%s, begun %s ago: %s: %v", time.Now().UTC().Format("15:04:05.000"), time.Since(began).Round(time.Millisecond), kind, err))
		}
	}
}

// mayRefuse reports whether a refusal was permitted at any time since began.
// The caller holds mu.
func (l *load) mayRefuse(code string, began time.Time) bool {
	for _, s := range l.permitted[code] {
		if s.to.IsZero() || s.to.After(began) {
			return true
		}
	}
	return false
}

// permit lets clients be refused with any of the codes until the function that
// it returns is called.
func (l *load) permit(codes ...string) (forbid func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &span{from: time.Now()}
	for _, code := range codes {
		l.permitted[code] = append(l.permitted[code], s)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.to = time.Now()
	}
}

// expected counts a refusal that a client provoked.
func (l *load) expected(code string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusals[code]++
}

// end stops the load and waits until all work that was begun is done.
func (l *load) end() {
	l.stop()
	l.workers.Wait()
	for _, c := range l.clients {
		c.CloseIdleConnections()
	}
}

// client makes one that keeps its connections until the end.
func (l *load) client(h2 bool) *http.Client {
	c := l.w.newClient(h2)
	l.clients = append(l.clients, c)
	return c
}

// report fails the test for what was unexpected.
func (l *load) report(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures > 0 {
		t.Errorf("%d unexpected answers:\n%s", l.failures, strings.Join(l.unexpected, "\n"))
	}
}

func (l *load) next() uint64 { return uint64(l.serial.Add(1)) }

// requests are what agents send all day, over either version to origins of
// either version.
func (l *load) requests(busy int) {
	kept, second := l.client(false), l.client(true)
	hosts := []string{"api", "h2"}
	l.every("HTTP/1.1, kept alive", 100*time.Millisecond, 2*busy, func(ctx context.Context) error {
		n := l.next()
		return fetch(ctx, kept, hosts[n%2], "the key", n, int64(rand.IntN(20_000)))
	})
	l.every("HTTP/1.1, new connection", 400*time.Millisecond, busy, func(ctx context.Context) error {
		fresh := l.w.dropping()
		defer fresh.CloseIdleConnections()
		n := l.next()
		return fetch(ctx, fresh, hosts[n%2], "the key", n, 1000)
	})
	l.every("HTTP/2, new connection", time.Second, 1, func(ctx context.Context) error {
		fresh := l.w.newClient(true)
		defer fresh.CloseIdleConnections()
		return fetch(ctx, fresh, "api", "the key", l.next(), 1000)
	})
	l.every("HTTP/2, 20 streams at once", 600*time.Millisecond, busy, func(ctx context.Context) error {
		errs := make(chan error)
		for range 20 {
			go func() {
				n := l.next()
				errs <- fetch(ctx, second, hosts[n%2], "the key", n, int64(rand.IntN(20_000)))
			}()
		}
		var all error
		for range 20 {
			if err := <-errs; err != nil {
				all = err
			}
		}
		return all
	})
	l.every("http://, no credential", 300*time.Millisecond, 1, func(ctx context.Context) error {
		n := l.next()
		a, err := ask(ctx, kept, http.MethodGet, fmt.Sprintf("http://plain.%s/bytes?seed=%d&n=3000", domain, n), nil, 0)
		return wantBody(a, wantFrom(a, err, ""), n, 3000)
	})
}

// dropping is a client that keeps no connection.
func (w *world) dropping() *http.Client {
	c := w.newClient(false)
	c.Transport.(*http.Transport).DisableKeepAlives = true
	return c
}

// transfers move some megabytes either way.
func (l *load) transfers() {
	for _, h2 := range []bool{false, true} {
		client, version := l.client(h2), map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[h2]
		hosts := []string{"api", "h2"}
		l.every("download of 1 to 4 MB, "+version, 2*time.Second, 1, func(ctx context.Context) error {
			n := l.next()
			return fetch(ctx, client, hosts[n%2], "the key", n, 1<<20+rand.Int64N(3<<20))
		})
		l.every("upload of 1 to 4 MB, "+version, 2*time.Second, 1, func(ctx context.Context) error {
			n := l.next()
			return upload(ctx, client, hosts[n/2%2], n, 1<<20+rand.Int64N(3<<20), n%2 == 0)
		})
	}
}

// streams are what lasts.
func (l *load) streams(busy int) {
	client, second := l.client(false), l.client(true)
	l.every("WebSocket of 30 messages", 500*time.Millisecond, busy, func(ctx context.Context) error { return l.webSocket(ctx, client) })
	l.every("event stream", 500*time.Millisecond, busy, func(ctx context.Context) error { return l.eventStream(ctx, client) })
	l.every("event stream, HTTP/2", 500*time.Millisecond, busy, func(ctx context.Context) error { return l.eventStream(ctx, second) })
}

func (l *load) webSocket(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "wss://api."+domain+"/socket", &websocket.DialOptions{HTTPClient: client})
	if resp != nil && refusal(resp) != nil {
		return refusal(resp)
	}
	if err != nil {
		return cause(err)
	}
	defer c.CloseNow()
	if came := resp.Header.Get("Came"); came != "the key" {
		return fmt.Errorf("%q came to the origin", came)
	}
	c.SetReadLimit(1 << 20)
	for range 30 {
		sent, _ := io.ReadAll(pattern(l.next(), rand.Int64N(8<<10)))
		if err := c.Write(ctx, websocket.MessageBinary, sent); err != nil {
			return err
		}
		_, got, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, sent) {
			return errors.New("another message came back than was sent")
		}
		pause(l.ctx, 50*time.Millisecond)
	}
	return c.Close(websocket.StatusNormalClosure, "")
}

// eventStream reads the first event, and only then lets the origin go on.
func (l *load) eventStream(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	id := fmt.Sprint(l.next())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api."+domain+"/events?id="+id, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return cause(err)
	}
	defer resp.Body.Close()
	if err := refusal(resp); err != nil {
		return err
	}
	lines := bufio.NewScanner(resp.Body)
	for n := range events {
		if want := fmt.Sprintf("data: event %d of %s", n, id); !lines.Scan() || lines.Text() != want {
			return fmt.Errorf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
		}
		lines.Scan() // the empty line
		if n == 0 {
			a, err := ask(ctx, client, http.MethodPost, "https://api."+domain+"/ack?id="+id, nil, 0)
			if err := wantFrom(a, err, "the key"); err != nil {
				return err
			}
		}
	}
	if lines.Scan() || lines.Err() != nil {
		return fmt.Errorf("after the last event: %q, %v", lines.Text(), lines.Err())
	}
	return nil
}

// tunnels go to hosts that nothing is attached for.
func (l *load) tunnels() {
	l.every("tunnel, TLS", 400*time.Millisecond, 2, func(ctx context.Context) error {
		client := l.w.dropping()
		defer client.CloseIdleConnections()
		return fetch(ctx, client, "elsewhere", "", l.next(), 30_000)
	})
	l.every("tunnel, not TLS", 400*time.Millisecond, 1, func(context.Context) error {
		c, err := l.w.connect("raw." + domain + ":7")
		if err != nil {
			return err
		}
		defer c.Close()
		sent, _ := io.ReadAll(pattern(l.next(), 50_000))
		go func() {
			c.Write(sent)
			c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err == nil && !bytes.Equal(got, sent) {
			err = fmt.Errorf("%d bytes came back that are not the %d that were sent", len(got), len(sent))
		}
		return err
	})
}

// tokens are requests whose credential is renewed all the time.
func (l *load) tokens(hosts ...string) {
	kept, second := l.client(false), l.client(true)
	for _, host := range hosts {
		l.every("OAuth, "+host, 150*time.Millisecond, 2, func(ctx context.Context) error {
			return fetch(ctx, kept, host, "a token", l.next(), 500)
		})
		l.every("OAuth, "+host, 300*time.Millisecond, 1, func(ctx context.Context) error {
			return fetch(ctx, second, host, "a token", l.next(), 500)
		})
	}
}

// turns logs in and out in processes of their own, while the proxy runs. Each
// must have its effect, a logout on a connection that is open, too.
func (l *load) turns(every time.Duration) {
	client := l.client(false)
	until := func(ctx context.Context, want string) error {
		for began := time.Now(); ; pause(ctx, 20*time.Millisecond) {
			a, err := ask(ctx, client, http.MethodGet, "https://turn."+domain+"/bytes?n=10", nil, 0)
			if err == nil && a.came == want {
				l.mu.Lock()
				l.effect = append(l.effect, time.Since(began))
				l.mu.Unlock()
				return nil
			}
			var r *refused
			if errors.As(err, &r) && r.code == "credential_missing" && want == "" {
				// The request met the logout halfway: routed still, and with
				// nothing to be given.
				l.expected(r.code)
				continue
			}
			if err != nil {
				return err
			}
			if time.Since(began) > patience {
				return fmt.Errorf("%q comes to the origin, want %q", a.came, want)
			}
			if want != "" { // what was tunnelled before the login stays a tunnel while it is in use
				client.CloseIdleConnections()
			}
		}
	}
	n := 0
	l.every("login and logout", every, 1, func(ctx context.Context) error {
		n++
		if out, code := l.w.login(n); code != 0 {
			return fmt.Errorf("login: exit %d: %s", code, out)
		}
		if err := until(ctx, fmt.Sprintf("key %d", n)); err != nil {
			return fmt.Errorf("after login: %w", err)
		}
		if out, code := l.w.run(nil, "logout", "turn"); code != 0 {
			return fmt.Errorf("logout: exit %d: %s", code, out)
		}
		if err := until(ctx, ""); err != nil {
			return fmt.Errorf("after logout: %w", err)
		}
		return nil
	})
}

// badClients do what no client should.
func (l *load) badClients(hold time.Duration) {
	w := l.w
	client, second := l.client(false), l.client(true)
	for name, head := range map[string]string{
		"says nothing":                       "",
		"stops after CONNECT":                w.connectHead("api." + domain + ":443"),
		"stops in the middle of a handshake": w.connectHead("api."+domain+":443") + "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"stops in the middle of a head":      "GET http://plain." + domain + "/ HTTP/1.1\r\nHost:",
	} {
		l.every("client that "+name, 2*time.Second, 1, func(context.Context) error { return l.halfOpen(head, hold) })
	}
	l.every("client that leaves a download", time.Second, 1, func(ctx context.Context) error { return abandon(ctx, client, "h2") })
	l.every("client that leaves a download, HTTP/2", time.Second, 1, func(ctx context.Context) error { return abandon(ctx, second, "api") })
	l.every("client that leaves an upload", time.Second, 1, func(ctx context.Context) error { return l.abandonUpload(ctx, client) })
	l.every("client that leaves an upload, HTTP/2", time.Second, 1, func(ctx context.Context) error { return l.abandonUpload(ctx, second) })
	l.every("client that rejects the certificate", time.Second, 1, func(ctx context.Context) error {
		c, err := w.connect("api." + domain + ":443")
		if err != nil {
			return err
		}
		defer c.Close()
		err = tls.Client(c, &tls.Config{ServerName: "api." + domain, RootCAs: x509.NewCertPool()}).HandshakeContext(ctx)
		if unknown := new(tls.CertificateVerificationError); !errors.As(err, &unknown) {
			return fmt.Errorf("got %w, want the certificate to be rejected", err)
		}
		return nil
	})
	l.every("client without the token", time.Second, 1, func(context.Context) error {
		c, err := w.dialProxy("CONNECT api." + domain + ":443 HTTP/1.1\r\nHost: api." + domain + "\r\n\r\n")
		if err != nil {
			return err
		}
		defer c.Close()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		if resp.Header.Get("Authsome-Error") != "proxy_auth_required" {
			return fmt.Errorf("got %s", resp.Status)
		}
		l.expected("proxy_auth_required")
		return nil
	})
}

// halfOpen says something and then no more. It goes away after hold; with none
// the proxy has to lose patience.
func (l *load) halfOpen(head string, hold time.Duration) error {
	c, err := l.w.dialProxy(head)
	if err != nil {
		return err
	}
	defer c.Close()
	if hold > 0 {
		c.SetDeadline(time.Now().Add(hold))
	}
	b, err := io.ReadAll(c)
	switch {
	case hold > 0 && errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("the proxy keeps a client that says nothing")
	case bytes.Contains(b, []byte("request_timeout")):
		l.expected("request_timeout")
	}
	return nil
}

// abandon begins a download and goes away in the middle.
func abandon(ctx context.Context, c *http.Client, host string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"."+domain+"/bytes?seed=1&n=20000000", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return cause(err)
	}
	defer resp.Body.Close()
	if err := refusal(resp); err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, resp.Body, 100_000)
	return err
}

// abandonUpload goes away in the middle of a request's body. It may be told that
// its body has ended early before it is gone.
func (l *load) abandonUpload(ctx context.Context, c *http.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body := io.MultiReader(pattern(1, 500_000), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, context.Canceled
	}))
	a, err := ask(ctx, c, http.MethodPost, "https://api."+domain+"/sum", body, 4_000_000)
	var r *refused
	if errors.As(err, &r) && r.code == "bad_request" {
		return nil
	}
	if err == nil || !errors.Is(err, context.Canceled) {
		return fmt.Errorf("got %d %w, want the request to be cancelled", a.status, err)
	}
	return nil
}

type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
