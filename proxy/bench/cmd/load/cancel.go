package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// cancelWorkers break off requests at the same time.
	cancelWorkers = 10
	// breakPatience is how long a request may take, most of which a proxy has
	// to pass on its end.
	breakPatience = 2 * time.Second
)

// breaking measures how long it takes until one side knows that the other has
// broken off a request: the origin, that the client has gone before it was
// answered, or with byOrigin the client, that the origin has gone within its
// answer. Each request is broken off as soon as it is known to have got that
// far, past the proxy: a proxy has no time to settle down to the wait.
func breaking(t *target, n int, byOrigin, h2 bool) (Result, error) {
	open := func(id string) (pending, error) { return openH1(t, byOrigin, id) }
	if h2 {
		client, err := t.h2Client()
		if err != nil {
			return Result{}, err
		}
		defer client.CloseIdleConnections()
		open = func(id string) (pending, error) { return openH2(client, t, byOrigin, id) }
	}
	times := make([][]time.Duration, cancelWorkers)
	errs := make([]error, cancelWorkers)
	var all sync.WaitGroup
	var next atomic.Int64
	for i := range cancelWorkers {
		all.Go(func() {
			c := &control{addr: t.control}
			defer c.close()
			for k := next.Add(1); k <= int64(n) && errs[i] == nil; k = next.Add(1) {
				var took time.Duration
				took, errs[i] = breakOne(c, open, byOrigin, fmt.Sprintf("%d-%d", time.Now().UnixNano(), k))
				times[i] = append(times[i], took)
			}
		})
	}
	all.Wait()
	var r Result
	r.fill(slices.Concat(times...))
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return r, errs[i] // the others' is the same
	}
	return r, nil
}

// pending is a request under way.
type pending interface {
	leave()           // breaks it off
	begin() error     // returns when the answer has begun
	end() (cut error) // returns when it ends; nil when it looks whole
}

func breakOne(c *control, open func(id string) (pending, error), byOrigin bool, id string) (time.Duration, error) {
	p, err := open(id)
	if err != nil {
		return 0, err
	}
	defer p.leave()
	if _, err := c.ask("/arrived?" + id); err != nil {
		return 0, fmt.Errorf("the request did not arrive: %w", err)
	}
	if byOrigin {
		return brokenByOrigin(c, p, id)
	}
	left := time.Now()
	p.leave()
	noticed, err := c.ask("/over?" + id)
	if err != nil {
		return 0, fmt.Errorf("the origin did not notice that the client had gone: %w", err)
	}
	return noticed.Sub(left), nil
}

func brokenByOrigin(c *control, p pending, id string) (time.Duration, error) {
	if err := p.begin(); err != nil {
		return 0, fmt.Errorf("the answer did not begin: %w", err)
	}
	var cut error
	noticed := make(chan time.Time, 1)
	go func() {
		cut = p.end()
		noticed <- time.Now()
	}()
	left, err := c.ask("/break?" + id)
	if err != nil {
		return 0, err
	}
	at := <-noticed
	var late net.Error
	switch {
	case cut == nil:
		return 0, errors.New("an answer that was cut looks whole")
	case errors.As(cut, &late) && late.Timeout():
		return 0, errors.New("the client did not notice that the origin had gone")
	}
	return at.Sub(left), nil
}

// control asks the origin about requests, past the proxy.
type control struct {
	addr string
	c    *client
}

func (c *control) close() {
	if c.c != nil {
		c.c.close()
	}
}

// ask returns the time that the answer tells, if it tells one.
func (c *control) ask(path string) (time.Time, error) {
	if c.c == nil {
		t := &target{addr: c.addr, host: "control"}
		var err error
		if c.c, err = t.dial(); err != nil {
			return time.Time{}, err
		}
	}
	if _, err := io.WriteString(c.c.nc, "GET "+path+" HTTP/1.1\r\nHost: control\r\n\r\n"); err != nil {
		return time.Time{}, err
	}
	if err := c.c.readHead(); err != nil {
		return time.Time{}, err
	}
	if c.c.head.status != 200 {
		return time.Time{}, errors.New("not in time")
	}
	digits := make([]byte, c.c.head.length)
	if _, err := io.ReadFull(c.c.br, digits); err != nil || len(digits) == 0 {
		return time.Time{}, err
	}
	at, err := strconv.ParseInt(string(digits), 10, 64)
	return time.Unix(0, at), err
}

// brokenPath is what to ask for.
func brokenPath(byOrigin bool, id string) string {
	if byOrigin {
		return "/broken?" + id
	}
	return "/pending?" + id
}

// h1Pending is a request on a connection of its own.
type h1Pending struct{ *client }

func openH1(t *target, byOrigin bool, id string) (pending, error) {
	c, err := t.dial()
	if err != nil {
		return nil, err
	}
	c.nc.SetDeadline(time.Now().Add(breakPatience))
	request := bytes.Replace(t.request, []byte("GET "+t.path+" "), []byte("GET "+brokenPath(byOrigin, id)+" "), 1)
	if _, err := c.nc.Write(request); err != nil {
		c.close()
		return nil, err
	}
	return h1Pending{c}, nil
}

func (p h1Pending) leave() { p.close() }

func (p h1Pending) begin() error {
	if err := p.readHead(); err != nil {
		return err
	}
	if p.head.status != 200 {
		return fmt.Errorf("status %d", p.head.status)
	}
	_, err := p.br.Peek(1)
	return err
}

func (p h1Pending) end() error {
	_, err := p.discard()
	return err
}

// h2Client returns a client that has one HTTP/2 connection.
func (t *target) h2Client() (*http.Client, error) {
	tr := &http.Transport{TLSClientConfig: t.config.Clone(), ForceAttemptHTTP2: true}
	tr.TLSClientConfig.NextProtos = nil // HTTP/2 and HTTP/1.1
	if t.proxy != "" {
		u := &url.URL{Scheme: "http", Host: t.proxy}
		if t.token != "" {
			u.User = url.UserPassword("run", t.token)
		}
		tr.Proxy = http.ProxyURL(u)
	} else {
		tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, t.addr)
		}
	}
	c := &http.Client{Transport: tr, Timeout: breakPatience}
	resp, err := t.h2Get(context.Background(), c, "/1k")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return nil, err
	}
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("spoke %s to an HTTP/2 client, with status %d", resp.Proto, resp.StatusCode)
	}
	return c, nil
}

func (t *target) h2Get(ctx context.Context, c *http.Client, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+t.host+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", t.credential)
	return c.Do(req)
}

// h2Pending is a request on a stream.
type h2Pending struct {
	cancel context.CancelFunc
	begun  chan error
	ended  chan error
}

func openH2(c *http.Client, t *target, byOrigin bool, id string) (pending, error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &h2Pending{cancel, make(chan error, 1), make(chan error, 1)}
	go func() {
		resp, err := t.h2Get(ctx, c, brokenPath(byOrigin, id))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		p.begun <- err
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		p.ended <- err
	}()
	return p, nil
}

func (p *h2Pending) leave()       { p.cancel() }
func (p *h2Pending) begin() error { return <-p.begun }
func (p *h2Pending) end() error   { return <-p.ended }
