package proxy_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"authsome/proxy"
)

// PITFALLS 10: without the token, only the sockets of a run's own processes are
// let in, however far below it they are.
func TestProcessTree(t *testing.T) {
	var root atomic.Int64
	r := newRig(t, false, whoami, func(_ *rig, c *proxy.Config) {
		c.TrustPeer = func(client, server net.Addr) bool {
			return proxy.ProcessTree(int(root.Load()))(client, server)
		}
	})
	_, port, _ := net.SplitHostPort(r.addr)
	// ask connects from a process of its own, deep below a first one, and returns
	// the status line.
	ask := func(trusted bool) string {
		script := fmt.Sprintf(`read go; (bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s; printf "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n\r\n" >&3; head -n 1 <&3'; true); true`, port, apiHost)
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer in.Close()
		bystander := exec.CommandContext(t.Context(), "sleep", "60")
		if err := bystander.Start(); err != nil {
			t.Fatal(err)
		}
		defer bystander.Wait()
		defer bystander.Process.Kill()
		if root.Store(int64(bystander.Process.Pid)); trusted {
			root.Store(int64(cmd.Process.Pid))
		}
		fmt.Fprintln(in, "go")
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Errorf("no answer: %v", err)
		}
		return strings.TrimSpace(line)
	}
	if got := ask(true); !strings.Contains(got, " 200 ") {
		t.Errorf("a process of the run: got %q", got)
	}
	if got := ask(false); !strings.Contains(got, " 407 ") {
		t.Errorf("a process beside it: got %q", got)
	}
	root.Store(int64(os.Getpid()))
	if resp, err := r.raw("CONNECT " + apiHost + ":443 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil || resp.StatusCode != 407 { // it is the proxy
		t.Errorf("the root itself: got %v, %v", resp, err)
	}
}

// Who another user's socket belongs to is not asked of every process: the table
// of sockets says whose it is, and a flood of theirs stays cheap.
func TestProcessTreeAsksTheSocketsUserFirst(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	raw, err := client.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var link string
	if err := raw.Control(func(fd uintptr) { link, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	const root, another = 42, 54321
	for _, test := range []struct {
		name   string
		user   int
		looked bool
	}{{"its user", os.Geteuid(), true}, {"root", 0, true}, {"another user", another, false}} {
		var asked []string
		admits := proxy.TrustPeerOf(root, test.user, func(root int, inode string) bool {
			asked = append(asked, fmt.Sprintf("%d socket:[%s]", root, inode))
			return true
		})
		if got := admits(client.LocalAddr(), client.RemoteAddr()); got != test.looked {
			t.Errorf("%s: admitted %v, want %v", test.name, got, test.looked)
		}
		if want := fmt.Sprintf("%d %s", root, link); test.looked && (len(asked) != 1 || asked[0] != want) || !test.looked && len(asked) > 0 {
			t.Errorf("%s: descriptors were looked through for %q, want %q: %v", test.name, asked, want, test.looked)
		}
	}
}
