package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"time"

	"authsome/proxy/bench/internal/rig"
)

// target says what to ask for and how to get there.
type target struct {
	proxy, token, addr, host, path, roots string
	control                               string // the origin's plain listener
	resume, lazy, real                    bool

	config     *tls.Config // nil: no TLS
	credential string
	request    []byte
	connect    []byte
}

func (t *target) prepare() error {
	if t.roots != "" {
		pool, err := rig.Pool(t.roots)
		if err != nil {
			return err
		}
		// Where connections are counted, checking the contestant's chain each time
		// would take processor time from all contestants alike.
		t.config = &tls.Config{RootCAs: pool, ServerName: t.host, NextProtos: []string{"http/1.1"},
			CurvePreferences: rig.Curves, InsecureSkipVerify: t.lazy}
		if t.resume {
			t.config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		}
	}
	t.credential = rig.Placeholder
	if t.real {
		t.credential = rig.Authorization
	}
	// The head that Python's requests sends.
	t.request = []byte("GET " + t.path + " HTTP/1.1\r\nHost: " + t.host + "\r\nUser-Agent: python-requests/2.32.3\r\n" +
		"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nAuthorization: " + t.credential + "\r\n\r\n")
	port := ":443"
	t.connect = []byte("CONNECT " + t.host + port + " HTTP/1.1\r\nHost: " + t.host + port + "\r\n")
	if t.token != "" {
		t.connect = append(t.connect, "Proxy-Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("run:"+t.token))+"\r\n"...)
	}
	t.connect = append(t.connect, "\r\n"...)
	return nil
}

// patience bounds everything that a broken proxy could make wait for ever.
const patience = 60 * time.Second

// client is one connection.
type client struct {
	nc   net.Conn
	br   *bufio.Reader
	head answer
}

// answer is what matters of a response head.
type answer struct {
	status   int
	length   int64 // -1: chunked, or until the end
	chunked  bool
	protocol string
}

func (t *target) dial() (*client, error) {
	addr := t.addr
	if t.proxy != "" {
		addr = t.proxy
	}
	nc, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(patience))
	c := &client{nc: nc}
	if err := c.open(t); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) open(t *target) error {
	if t.proxy != "" {
		if _, err := c.nc.Write(t.connect); err != nil {
			return err
		}
		if err := c.established(); err != nil {
			return err
		}
	}
	if t.config != nil {
		tc := tls.Client(c.nc, t.config)
		if err := tc.Handshake(); err != nil {
			return err
		}
		c.nc = tc
	}
	c.br = bufio.NewReaderSize(c.nc, 4<<10)
	return nil
}

// established reads the answer to CONNECT, after which nothing can follow
// before the client has spoken.
func (c *client) established() error {
	buf := make([]byte, 0, 1024)
	for !bytes.HasSuffix(buf, []byte("\r\n\r\n")) {
		n, err := c.nc.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return fmt.Errorf("read answer to CONNECT: %w", err)
		}
		if buf = buf[:len(buf)+n]; len(buf) == cap(buf) {
			return errors.New("long answer to CONNECT")
		}
	}
	if len(buf) < 12 || string(buf[9:12]) != "200" {
		return fmt.Errorf("CONNECT answered %.40q", buf)
	}
	return nil
}

// get sends the request and reads the whole answer. It returns the size of the
// body.
func (c *client) get(t *target) (int64, error) {
	if _, err := c.nc.Write(t.request); err != nil {
		return 0, err
	}
	if err := c.readHead(); err != nil {
		return 0, err
	}
	if c.head.status != 200 {
		return 0, fmt.Errorf("status %d", c.head.status)
	}
	return c.discard()
}

func (c *client) readHead() error {
	c.head = answer{length: -1}
	for first := true; ; first = false {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first:
			if len(line) < 12 {
				return fmt.Errorf("status line %q", line)
			}
			if c.head.status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return err
			}
		case len(line) == 0:
			return nil
		default:
			c.field(line)
		}
	}
}

func (c *client) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimSpace(value)
	switch {
	case len(name) == 14 && bytes.EqualFold(name, []byte("content-length")):
		c.head.length, _ = strconv.ParseInt(string(value), 10, 64)
	case len(name) == 17 && bytes.EqualFold(name, []byte("transfer-encoding")):
		c.head.chunked = true
	case len(name) == 17 && bytes.EqualFold(name, []byte("x-origin-protocol")):
		c.head.protocol = string(value)
	}
}

var errNoLength = errors.New("answer without a length")

func (c *client) body() (io.Reader, error) {
	switch {
	case c.head.chunked:
		return httputil.NewChunkedReader(c.br), nil
	case c.head.length >= 0:
		return io.LimitReader(c.br, c.head.length), nil
	}
	return nil, errNoLength
}

func (c *client) discard() (int64, error) {
	if c.head.length >= 0 && c.head.length <= 4<<10 {
		n, err := c.br.Discard(int(c.head.length))
		return int64(n), err
	}
	r, err := c.body()
	if err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 256<<10))
	if err == nil && c.head.chunked {
		_, err = c.br.Discard(2)
	}
	if err == nil && c.head.length > 0 && n != c.head.length {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// close does not say good-bye: the proxy is not to be charged for an alert.
func (c *client) close() {
	if tc, ok := c.nc.(*tls.Conn); ok {
		tc.NetConn().Close()
		return
	}
	c.nc.Close()
}
