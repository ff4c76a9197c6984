package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// escapesVariable makes the test binary a hostile program: its value is what it
// knows of the world outside.
const escapesVariable = "AUTHSOME_TEST_ESCAPES"

// outside is what a hostile program knows.
type outside struct {
	Home      string // of authsome
	Alias     string // where else the home's files are mounted
	Proc      string // where else /proc is mounted
	Neighbour int    // a process of the same user
	Proxy     int    // authsome, or 0 when it is the parent
	Loopback  string // a service on the machine's loopback, host:port
	Own       string // the same on its address
	Abstract  string // an abstract socket that somebody listens on
	Socket    string // a socket in the file system
	Netns     string // a file of the machine's network namespace
	Program   string // authsome
	Writable  string // a directory
	Disk      string // a block device, or ""
}

func init() {
	known := os.Getenv(escapesVariable)
	if known == "" {
		return
	}
	var o outside
	if err := json.Unmarshal([]byte(known), &o); err != nil {
		panic(err)
	}
	for _, e := range escapes {
		result := "REACHED"
		if err := e.try(&o); err != nil {
			result = "stopped: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Printf("%s\t%s\n", e.way, result)
	}
	os.Exit(0)
}

// open says what a program without isolation comes through with.
type open int

const (
	never     open = iota // the way is closed to ordinary users in any case, or on some machines
	always                // it is open, or the test shows nothing
	rootsOnly             // it is open for root
)

// wayOut is a way out. It was gone if try returns nil.
type wayOut struct {
	way  string
	open open
	try  func(*outside) error
}

var errNothing = errors.New("nothing there")

// escapes are all ways that we could think of.
var escapes = []wayOut{
	// Before we have opened any ourselves.
	{"an inherited descriptor", always, func(*outside) error { _, err := unix.Write(7, []byte("out")); return err }},
	{"any inherited descriptor", always, func(*outside) error { return inherited() }},

	// The network, directly.
	{"TCP to another port", always, func(*outside) error { return tlsTo(apiAddr4+":8443", "api.example.test", "api.example.test") }},
	{"TCP to another port, IPv6", always, func(*outside) error { return tlsTo("["+apiAddr6+"]:8443", "api.example.test", "api.example.test") }},
	{"UDP", always, func(*outside) error { return datagramTo(apiAddr4 + ":4433") }},
	{"UDP, IPv6", always, func(*outside) error { return datagramTo("[" + apiAddr6 + "]:443") }},
	{"UDP to a name server", always, func(*outside) error { return datagramTo("10.77.0.1:53") }},
	{"the machine's loopback", always, func(o *outside) error { return plainTo(o.Loopback) }},
	{"the machine's address", always, func(o *outside) error { return plainTo(o.Own) }},
	{"a raw socket", rootsOnly, func(*outside) error { return rawSocket() }},
	{"a packet socket", rootsOnly, func(*outside) error { return socketOf(unix.AF_PACKET, unix.SOCK_RAW) }},
	{"ping", rootsOnly, func(*outside) error { return rawPing() }},
	{"the host of this virtual machine", never, func(*outside) error { return socketOf(unix.AF_VSOCK, unix.SOCK_STREAM) }},
	{"Bluetooth", never, func(*outside) error { return socketOf(unix.AF_BLUETOOTH, unix.SOCK_RAW) }},
	{"io_uring, which makes sockets too", never, func(*outside) error { return ring() }},
	{"changing the routes", rootsOnly, func(*outside) error { return routeAdd() }},

	// The network, by way of the proxy.
	{"CONNECT to the machine's loopback", always, func(o *outside) error { return throughProxy(o.Loopback) }},
	{"CONNECT to the machine's loopback, as IPv6 writes it", always, func(o *outside) error {
		_, port, _ := net.SplitHostPort(o.Loopback)
		return throughProxy("[::ffff:127.0.0.1]:" + port)
	}},
	{"CONNECT to no address", always, func(o *outside) error {
		_, port, _ := net.SplitHostPort(o.Loopback)
		return throughProxy("0.0.0.0:" + port)
	}},
	{"CONNECT to the machine's address", always, func(o *outside) error { return throughProxy(o.Own) }},
	{"CONNECT to a name of the loopback", always, func(o *outside) error {
		_, port, _ := net.SplitHostPort(o.Loopback)
		return throughProxy("rebind.example.test:" + port)
	}},
	{"http:// to the machine's loopback", always, func(o *outside) error { return plainThroughProxy("http://" + o.Loopback + "/") }},
	{"http:// to a name of the loopback", always, func(o *outside) error {
		_, port, _ := net.SplitHostPort(o.Loopback)
		return plainThroughProxy("http://rebind.example.test:" + port + "/")
	}},
	{"plaintext to the machine's port 80", always, func(*outside) error { return plainTo("127.0.0.1:80") }},
	{"plaintext to port 80 of its address", always, func(*outside) error { return plainTo("10.77.0.2:80") }},
	{"another server name at the machine's port 443", always, func(*outside) error {
		return tlsTo("127.0.0.1:443", "www.elsewhere.example.test", "www.elsewhere.example.test")
	}},

	// Sockets of other kinds.
	{"an abstract socket", always, func(o *outside) error { return unixTo("@" + o.Abstract) }},
	{"a socket in the file system", always, func(o *outside) error { return unixTo(o.Socket) }},
	{"the same by /proc", always, func(o *outside) error { return unixTo("/proc/self/root" + o.Socket) }},

	// Processes.
	{"seeing other processes", always, func(o *outside) error { return readable(fmt.Sprintf("/proc/%d/cmdline", o.Neighbour)) }},
	{"seeing them in another /proc", always, func(o *outside) error { return readable(fmt.Sprintf("%s/%d/cmdline", o.Proc, o.Neighbour)) }},
	{"seeing the proxy", always, func(*outside) error { return seeProxy() }},
	{"signals outside", always, func(o *outside) error { return unix.Kill(o.Neighbour, 0) }},
	{"a descriptor of a process", always, func(o *outside) error { return pidfd(o.Neighbour) }},
	{"the environment of pid 1", never, func(*outside) error { return readable("/proc/1/environ") }},
	{"the memory of pid 1", never, func(*outside) error { return readable("/proc/1/maps") }},
	{"the descriptors of pid 1", never, func(*outside) error { return anyDescriptor(1) }},
	{"the root of pid 1", never, func(*outside) error { _, err := os.ReadDir("/proc/1/root/"); return err }},
	{"ptrace of pid 1", never, func(*outside) error { return attach(1) }}, // without isolation it would stop the machine
	{"reading the memory of pid 1", never, func(*outside) error { return peek(1) }},

	// The vault.
	{"the home", always, func(o *outside) error { return listable(o.Home) }},
	{"the key", always, func(o *outside) error { return readable(o.Home + "/master.key") }},
	{"the store", always, func(o *outside) error { return readable(o.Home + "/profiles/default/store.db") }},
	{"the key where else it is mounted", always, func(o *outside) error { return readable(o.Alias + "/master.key") }},
	{"the key by the root of any process", always, func(o *outside) error { return byAnyRoot("/proc", o.Home+"/master.key") }},
	{"the key by another /proc", always, func(o *outside) error { return byAnyRoot(o.Proc, o.Home+"/master.key") }},
	{"a hard link to the key", always, func(o *outside) error { return link(o.Home+"/master.key", o.Writable+"/linked") }},
	{"the key by dots", always, func(o *outside) error { return readable(o.Home + "/../" + filepath.Base(o.Home) + "/./master.key") }},
	{"asking authsome", always, askAuthsome},
	{"the disk", never, func(o *outside) error { return readable(o.Disk) }},
	{"a device of one's own", rootsOnly, func(o *outside) error {
		return unix.Mknod(o.Writable+"/disk", unix.S_IFBLK|0o600, int(unix.Mkdev(1, 0)))
	}},
	{"unmounting", never, func(o *outside) error { unix.Unmount(o.Home, unix.MNT_DETACH); return readable(o.Home + "/master.key") }},
	{"moving the mount", never, func(o *outside) error {
		unix.Mount(o.Home, o.Writable, "", unix.MS_MOVE, "")
		return readable(o.Home + "/master.key")
	}},

	// Further namespaces.
	{"a user namespace and its mounts", always, func(o *outside) error { return nested(o, `cat "$HOME_DIR/master.key"`) }},
	{"unmounting there", always, func(o *outside) error { return nested(o, `umount -l "$HOME_DIR"; cat "$HOME_DIR/master.key"`) }},
	{"a bind mount there", never, func(o *outside) error { return nested(o, `mount --bind / "$W" && cat "$W$HOME_DIR/master.key"`) }},
	{"all bind mounts there", always, func(o *outside) error { return nested(o, `mount --rbind / "$W" && cat "$W$HOME_DIR/master.key"`) }},
	{"a bind mount of the directory above", always, func(o *outside) error {
		return nested(o, `mount --bind "$HOME_DIR/.." "$W" && cat "$W/${HOME_DIR##*/}/master.key"`)
	}},
	{"an overlay there", always, func(o *outside) error {
		return nested(o, `mount -t overlay overlay -o "lowerdir=$HOME_DIR/..:/var/empty-none" "$W" 2>/dev/null || mount -t overlay overlay -o "lowerdir=$HOME_DIR/..:/usr" "$W"; cat "$W/${HOME_DIR##*/}/master.key"`)
	}},
	{"a change of root there", always, func(o *outside) error { return nested(o, `chroot / cat "$HOME_DIR/master.key"`) }},
	{"the machine's network namespace", rootsOnly, func(o *outside) error { return joinNamespace(o.Netns, unix.CLONE_NEWNET) }},
	{"the machine's network namespace, as root there", never, func(o *outside) error { return nested(o, `nsenter --net="$NETNS" cat /etc/hostname`) }},
	{"the mounts of pid 1", never, func(*outside) error { return joinNamespace("/proc/1/ns/mnt", unix.CLONE_NEWNS) }},

	// The kernel.
	{"what the kernel runs at a crash", rootsOnly, func(*outside) error { return writable("/proc/sys/kernel/core_pattern") }},
	{"the magic keys", never, func(*outside) error { return writable("/proc/sysrq-trigger") }},
	{"settings of devices", rootsOnly, func(*outside) error { return writable("/sys/kernel/mm/ksm/run") }},
	{"the kernel's memory", never, func(*outside) error { return readable("/proc/kcore") }},
	{"becoming root", never, func(*outside) error { return gain() }},
}

func socketOf(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func rawPing() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func ring() error {
	var params [120]byte // struct io_uring_params
	_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func routeAdd() error {
	return exec.Command("ip", "route", "add", "10.99.0.0/24", "dev", "lo").Run()
}

// throughProxy asks the proxy that the environment names for a tunnel.
func throughProxy(target string) error {
	u, err := url.Parse(os.Getenv("HTTPS_PROXY"))
	if err != nil {
		return err
	}
	c, err := net.DialTimeout("tcp", u.Host, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(8 * time.Second))
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	password, _ := u.User.Password()
	basic := &http.Request{Header: http.Header{}}
	basic.SetBasicAuth(u.User.Username(), password)
	r.Header.Set("Proxy-Authorization", basic.Header.Get("Authorization"))
	if err := r.Write(c); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy answered %s %s", resp.Status, resp.Header.Get("Authsome-Error"))
	}
	return ask(c, "api.example.test")
}

func plainThroughProxy(target string) error {
	u, err := url.Parse(os.Getenv("HTTP_PROXY"))
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 8 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(u)}}
	resp, err := client.Get(target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if bytes.Contains(b, []byte("who are you?")) {
		return nil
	}
	return fmt.Errorf("answered %.80q, %v", b, err)
}

func unixTo(address string) error {
	c, err := net.DialTimeout("unix", address, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

// inherited finds descriptors that we did not open.
func inherited() error {
	for fd := 3; fd < 64; fd++ {
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err == nil && !strings.HasPrefix(link, "anon_inode:") && !strings.HasPrefix(link, "/proc/") && !strings.HasPrefix(link, "/sys/") {
			return nil
		}
	}
	return errNothing
}

// anyDescriptor opens what another process has open.
func anyDescriptor(pid int) error {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	err := errNothing
	for _, link := range links {
		var f *os.File
		if f, err = os.Open(link); err == nil {
			f.Close()
			return nil
		}
	}
	return err
}

func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := f.Read(make([]byte, 16)); n == 0 {
		return errors.Join(errNothing, err)
	}
	return nil
}

func writable(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	return err
}

func listable(dir string) error {
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) == 0 {
		err = errNothing
	}
	return err
}

// seeProxy looks for the process that serves the proxy.
func seeProxy() error {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		b, _ := os.ReadFile(file)
		if argv := bytes.Split(b, []byte{0}); slices.ContainsFunc(argv, func(a []byte) bool { return string(a) == "run" }) {
			return nil
		}
	}
	return errNothing
}

func pidfd(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func attach(pid int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Getppid() != 1 {
		return errors.New("not tried on the machine's own")
	}
	return unix.PtraceSeize(pid)
}

func peek(pid int) error {
	if os.Getppid() != 1 {
		return errors.New("not tried on the machine's own")
	}
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	_, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0x400000, Len: len(buf)}}, 0)
	return err
}

func byAnyRoot(proc, path string) error {
	roots, _ := filepath.Glob(proc + "/[0-9]*/root")
	err := errNothing
	for _, root := range roots {
		if err = readable(root + path); err == nil {
			return nil
		}
	}
	return err
}

func link(from, to string) error {
	os.Remove(to)
	if err := os.Link(from, to); err != nil {
		return err
	}
	defer os.Remove(to)
	return readable(to)
}

// askAuthsome has authsome itself open the vault, past the fence.
func askAuthsome(o *outside) error {
	cmd := exec.Command(o.Program, "get", "example", "--field", "api_key", "--show-secret")
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "AUTHSOME_PROXY_MODE=") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// nested runs a script as root of a user namespace with mounts of its own. It
// came through if it printed anything.
func nested(o *outside, script string) error {
	cmd := exec.Command("unshare", "-Urm", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "HOME_DIR="+o.Home, "W="+o.Writable, "NETNS="+o.Netns)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if len(out) > 0 {
		return nil
	}
	return errors.Join(errNothing, err, errors.New(stderr.String()))
}

func joinNamespace(file string, kind int) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		unix.Unshare(unix.CLONE_FS)
		done <- unix.Setns(int(f.Fd()), kind)
	}()
	return <-done
}

// gain looks for a way to have capabilities again.
func gain() error {
	out, err := exec.Command("grep", "-E", "^Cap(Prm|Eff|Bnd|Amb)", "/proc/self/status").Output()
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(out)) {
		if strings.Trim(strings.Split(line, ":")[1], "0 \t\n") != "" {
			return nil
		}
	}
	return errNothing
}
