package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watched is what is looked at before and after a measurement.
type watched struct {
	pid, origin int
	control     string // of a Go process, for its allocations
}

// sight is one look.
type sight struct {
	cpu, origin, client time.Duration
	allocs              struct{ Objects, Bytes uint64 }
	err                 error
}

func (w *watched) look() sight {
	var s sight
	if w.control != "" {
		resp, err := http.Get("http://" + w.control + "/allocs")
		if err == nil {
			s.err = json.NewDecoder(resp.Body).Decode(&s.allocs)
			resp.Body.Close()
		}
		s.err = errors.Join(s.err, err)
	}
	for _, p := range []struct {
		pid int
		to  *time.Duration
	}{{w.pid, &s.cpu}, {w.origin, &s.origin}, {os.Getpid(), &s.client}} {
		if p.pid == 0 {
			continue
		}
		var err error
		*p.to, err = cpuTime(p.pid)
		s.err = errors.Join(s.err, err)
	}
	return s
}

// cpuTime returns what a process has used of the CPU, to the nanosecond: the
// kernel numbers the CPU clocks of processes by their ids (see
// clock_getcpuclockid(3)).
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts)
	return time.Duration(ts.Nano()), err
}

func (s sight) since(from sight) Result {
	return Result{CPU: (s.cpu - from.cpu).Seconds(), Origin: (s.origin - from.origin).Seconds(),
		Client:  (s.client - from.client).Seconds(),
		Objects: s.allocs.Objects - from.allocs.Objects, Heap: s.allocs.Bytes - from.allocs.Bytes}
}
