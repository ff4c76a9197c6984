package main_test

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The proxy takes the sockets that a service manager opened, and tells it when
// it can serve (sd_listen_fds(3), sd_notify(3)).
func TestSidecarUnderAServiceManager(t *testing.T) {
	w := newWorld(t)
	w.login(exampleDefinition, "example")
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	told := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		for {
			manager.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("the service manager was not told %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	proxySocket, proxyAddr := socket(t)
	metricsSocket, metricsAddr := socket(t)
	// The variables name the process that the sockets are for.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$0" proxy --listen 127.0.0.1:1 --metrics-addr 127.0.0.1:1`, binary)
	cmd.Env = w.env("LISTEN_FDS=2", "LISTEN_FDNAMES=authsome.socket:metrics", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=600000")
	cmd.ExtraFiles = []*os.File{proxySocket, metricsSocket}
	s := &service{t: t, w: w, done: make(chan struct{})}
	s.begin(cmd)
	told("READY=1")
	s.metrics = metricsAddr
	if status, body := s.probe("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz once told ready: got %d %q", status, body)
	}
	if !strings.Contains(s.stderr.String(), "proxy: http://"+proxyAddr) {
		t.Errorf("the socket that was passed is not served: %s", s.stderr.String())
	}
	told("WATCHDOG=1")
	s.signal(syscall.SIGHUP)
	told("RELOADING=1\nMONOTONIC_USEC=")
	told("READY=1")
	s.signal(syscall.SIGTERM)
	told("STOPPING=1")
	<-s.done
}

// A socket that cannot take connections is not passed over: the configured
// address, which the unit replaces, would be served instead.
func TestSidecarRefusesADatagramSocket(t *testing.T) {
	w := newWorld(t)
	w.must("init")
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$0" proxy --listen 127.0.0.1:0 --metrics-addr 127.0.0.1:0`, binary)
	cmd.Env = w.env("LISTEN_FDS=1", "LISTEN_FDNAMES=authsome.socket")
	cmd.ExtraFiles = []*os.File{f}
	ended := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
	defer ended.Stop()
	if r := w.run(cmd, ""); r.code != 1 || !strings.Contains(r.stderr, "ListenStream=") {
		t.Errorf("got exit %d %q, want it refused", r.code, r.stderr)
	}
}

func socket(t *testing.T) (f *os.File, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if f, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}
