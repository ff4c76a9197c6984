package vault

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
)

// thisProcess describes the running process.
var thisProcess = sync.OnceValue(func() process {
	p := process{PID: os.Getpid()}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return p
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return p
	}
	// A /proc of another namespace would answer for other processes.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(p.PID) {
		return p
	}
	p.Start, _ = startOf(p.PID)
	p.Space = strings.TrimSpace(string(boot)) + "/" + space
	return p
})

// startOf returns when the process started, or "" when there is no such
// process or it is a zombie. known is false when that cannot be told.
func startOf(pid int) (start string, known bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", errors.Is(err, fs.ErrNotExist)
	}
	// The second field is the command in parentheses and may hold anything; the
	// state is the third field and the start time the 22nd (proc_pid_stat(5)).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return "", false
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return "", true
	}
	return string(fields[19]), true
}
