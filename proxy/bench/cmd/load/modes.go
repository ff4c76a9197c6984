package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// phases of a closed loop.
const (
	warming int32 = iota
	measuring
	over
)

// loop runs work on n goroutines and measures the runs that begin and end
// within the measured time. Each goroutine opens what it needs by start.
func loop(n int, w *watched, warm, d time.Duration, start func() (work func() error, err error)) (Result, error) {
	var phase atomic.Int32
	var open, all sync.WaitGroup
	times := make([][]time.Duration, n)
	errs := make([]error, n)
	begin := make(chan struct{})
	open.Add(n)
	for i := range n {
		all.Go(func() {
			work, err := start()
			open.Done()
			<-begin
			for err == nil && phase.Load() != over {
				before, t0 := phase.Load(), time.Now()
				if err = work(); err != nil {
					break
				}
				if before == measuring && phase.Load() == measuring {
					times[i] = append(times[i], time.Since(t0))
				}
			}
			errs[i] = err
		})
	}
	open.Wait()
	close(begin)
	time.Sleep(warm)
	from := w.look()
	t0 := time.Now()
	phase.Store(measuring)
	time.Sleep(d)
	phase.Store(over)
	took := time.Since(t0)
	to := w.look()
	all.Wait()
	r := to.since(from)
	r.Seconds = took.Seconds()
	r.fill(slices.Concat(times...))
	return r, errors.Join(append(errs, from.err, to.err)...)
}

func (r *Result) fill(times []time.Duration) {
	r.Count = len(times)
	if r.Count == 0 {
		return
	}
	slices.Sort(times)
	at := func(q float64) float64 { return float64(times[int(q*float64(len(times)-1))]) / 1e3 }
	r.P50, r.P99 = at(.5), at(.99)
}

// keep repeats one request on n connections.
func keep(t *target, w *watched, n int, warm, d time.Duration) (Result, error) {
	var last atomic.Pointer[client]
	r, err := loop(n, w, warm, d, func() (func() error, error) {
		c, err := t.dial()
		if err != nil {
			return nil, err
		}
		last.Store(c)
		work := func() error { _, err := c.get(t); return err }
		return work, work() // the proxy has its connection to the origin by now
	})
	if c := last.Load(); c != nil {
		r.Protocol = c.head.protocol
	}
	return r, err
}

// fresh makes one request on each of many connections, n at a time.
func fresh(t *target, w *watched, n int, warm, d time.Duration) (Result, error) {
	return loop(n, w, warm, d, func() (func() error, error) {
		return func() error {
			c, err := t.dial()
			if err != nil {
				return err
			}
			defer c.close()
			_, err = c.get(t)
			return err
		}, nil
	})
}

// bulk downloads once on each of n connections that have been used before.
func bulk(t *target, w *watched, n int) (Result, error) {
	clients := make([]*client, n)
	small := *t
	small.path = "/1k"
	if err := small.prepare(); err != nil {
		return Result{}, err
	}
	for i := range clients {
		var err error
		if clients[i], err = t.dial(); err != nil {
			return Result{}, err
		}
		if _, err = clients[i].get(&small); err != nil {
			return Result{}, err
		}
	}
	var all sync.WaitGroup
	var total atomic.Int64
	errs := make([]error, n)
	from, t0 := w.look(), time.Now()
	for i, c := range clients {
		all.Go(func() {
			n, err := c.get(t)
			total.Add(n)
			errs[i] = err
		})
	}
	all.Wait()
	took := time.Since(t0)
	r := w.look().since(from)
	r.Count, r.Seconds, r.Bytes, r.Protocol = n, took.Seconds(), total.Load(), clients[0].head.protocol
	return r, errors.Join(errs...)
}

const uploadBytes = 100 << 20

// upload sends as much as bulk downloads.
func upload(t *target, w *watched) (Result, error) {
	c, err := t.dial()
	if err != nil {
		return Result{}, err
	}
	if _, err := c.get(t); err != nil { // t.path is a small download
		return Result{}, err
	}
	head := bytes.Replace(t.request, []byte("GET "+t.path), []byte("POST /sink"), 1)
	head = append(head[:len(head)-2:len(head)-2], "Content-Length: "+strconv.Itoa(uploadBytes)+"\r\n\r\n"...)
	chunk := make([]byte, 128<<10)
	from, t0 := w.look(), time.Now()
	_, err = c.nc.Write(head)
	for left := uploadBytes; left > 0 && err == nil; left -= len(chunk) {
		_, err = c.nc.Write(chunk)
	}
	if err == nil {
		err = c.readHead()
	}
	if err == nil && c.head.status != 200 {
		err = fmt.Errorf("status %d", c.head.status)
	}
	took := time.Since(t0)
	r := w.look().since(from)
	r.Count, r.Seconds, r.Bytes, r.Protocol = 1, took.Seconds(), uploadBytes, c.head.protocol
	return r, err
}

// sse measures, for n streams in turn on one connection, how long the first
// event was under way. The event says when it was sent; the clock is the
// machine's, and so the same.
func sse(t *target, n int) (Result, error) {
	c, err := t.dial()
	if err != nil {
		return Result{}, err
	}
	defer c.close()
	var times []time.Duration
	for range n + 1 { // the first one warms up
		late, err := c.firstEvent(t)
		if err != nil {
			return Result{}, err
		}
		times = append(times, late)
	}
	var r Result
	r.fill(times[1:])
	return r, nil
}

func (c *client) firstEvent(t *target) (time.Duration, error) {
	if _, err := c.nc.Write(t.request); err != nil {
		return 0, err
	}
	if err := c.readHead(); err != nil {
		return 0, err
	}
	if c.head.status != 200 {
		return 0, fmt.Errorf("status %d", c.head.status)
	}
	body, err := c.body()
	if err != nil {
		return 0, err
	}
	event := make([]byte, 0, 4096)
	for {
		n, err := body.Read(event[len(event):cap(event)])
		if event = event[:len(event)+n]; bytes.Contains(event, []byte("\n\n")) {
			break // the end may have come with it, from a proxy that collects
		}
		if err != nil {
			return 0, err
		}
	}
	now := time.Now()
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(event, []byte("data: ")), []byte("\n"))
	sent, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return 0, err
	}
	if c.head.chunked {
		_, err = c.br.Discard(2)
	}
	return now.Sub(time.Unix(0, sent)), err
}

// hold opens n connections, makes a request on each, says so, and keeps them
// until its standard input ends.
func hold(t *target, n int) error {
	clients := make([]*client, n)
	for i := range clients {
		c, err := t.dial()
		if err != nil {
			return err
		}
		if _, err := c.get(t); err != nil {
			return err
		}
		clients[i] = c
	}
	fmt.Println("{}")
	io.Copy(io.Discard, os.Stdin)
	for _, c := range clients {
		c.close()
	}
	return nil
}
