package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"authsome/proxy/bench/internal/rig"
)

// startTime is how long a process may take until it listens; mitmproxy loads
// all of its Python in it.
const startTime = 20 * time.Second

// build compiles the programs of the benchmark into dir. It has to run inside
// the module.
func build(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), "authsome/proxy/bench/cmd/...")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// process is something that runs until stop.
type process struct {
	cmd   *exec.Cmd
	ready rig.Ready
	log   string // file with what it wrote to stderr
}

// start runs argv in dir. It does not outlive us, come what may.
func start(dir string, env []string, argv ...string) (*process, io.Reader, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(dir, "stderr.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return &process{cmd: cmd, log: log.Name()}, out, nil
}

// startReady runs one of our own programs and reads its first line.
func startReady(dir string, argv ...string) (*process, error) {
	p, out, err := start(dir, nil, argv...)
	if err != nil {
		return nil, err
	}
	alarm := time.AfterFunc(startTime, func() { p.cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	alarm.Stop()
	if err == nil {
		err = json.Unmarshal(line, &p.ready)
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w: %s", filepath.Base(argv[0]), err, p.said())
	}
	return p, nil
}

// startPort runs a program that listens on addresses which we chose.
func startPort(dir string, env []string, addrs []string, argv ...string) (*process, error) {
	p, out, err := start(dir, env, argv...)
	if err != nil {
		return nil, err
	}
	go io.Copy(io.Discard, out)
	for _, addr := range addrs {
		if err := awaitPort(addr); err != nil {
			p.stop()
			return nil, fmt.Errorf("start %s: %w: %s", filepath.Base(argv[0]), err, p.said())
		}
	}
	return p, nil
}

func awaitPort(addr string) (err error) {
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
	}
	return err
}

// said returns the end of what a process wrote to its stderr.
func (p *process) said() string {
	b, _ := os.ReadFile(p.log)
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends a process, gently at first.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	alarm := time.AfterFunc(3*time.Second, func() { p.cmd.Process.Kill() })
	defer alarm.Stop()
	p.cmd.Wait()
}

// resident returns the memory that a process occupies, in KiB.
func (p *process) resident() (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS")
	}
	return strconv.ParseFloat(fields[0], 64)
}

// freePort returns a loopback address that nobody listens on just now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
