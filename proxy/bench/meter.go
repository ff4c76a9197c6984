package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// meter tells how much of the machine was used, and how much of that by us:
// rates mean little on a machine that has other things to do.
type meter struct {
	began time.Time
	busy  time.Duration
	ours  time.Duration
}

func startMeter() meter { return meter{time.Now(), machineTime(), ownTime()} }

// others returns the share of the processors' time, between 0 and 1, that went
// to other programs. Contestants count once they have ended.
func (m meter) others() float64 {
	busy, ours := machineTime()-m.busy, ownTime()-m.ours
	all := time.Since(m.began) * time.Duration(processors())
	return max(0, float64(busy-ours)/float64(all))
}

// machineTime is how long all processors together were not idle.
func machineTime() time.Duration {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	var ticks int64
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		const idle, iowait, guest = 4, 5, 9 // guest time is in user time already
		if err == nil && i != idle && i != iowait && i < guest {
			ticks += n
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs
	return time.Duration(ticks) * tick
}

func processors() int {
	data, _ := os.ReadFile("/proc/stat")
	return max(1, strings.Count(string(data), "\ncpu"))
}

// ownTime is what this process and those that it has waited for have used.
func ownTime() time.Duration {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return total
}
