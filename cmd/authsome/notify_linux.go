package main

import (
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// inherited returns the sockets that systemd passed (sd_listen_fds(3)). Those
// named "metrics" and "transparent" are for that; any other is for proxy
// clients.
func inherited() (s sockets, err error) {
	for _, f := range activation.Files(true) {
		to := &s.proxy
		switch f.Name() {
		case "metrics":
			to = &s.metrics
		case "transparent":
			to = &s.transparent
		}
		l, listenErr := net.FileListener(f)
		f.Close() // the listener has its own descriptor
		if listenErr != nil {
			err = &fault{code: "Listen", exit: exitOther, msg: fmt.Sprintf("the service manager passed %q, which is not a stream socket: %v", f.Name(), bareListen(listenErr)),
				hint: "use ListenStream= in the socket unit", err: listenErr}
			continue
		}
		*to = append(*to, l)
	}
	if err != nil {
		s.close()
	}
	return s, err
}

// notify tells the service manager what we are at (sd_notify(3)). Without one
// it does nothing.
func (s *sidecar) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.app.logger().Warn("tell the service manager", "error", err)
	}
}

func (s *sidecar) notifyReloading() {
	s.notify("RELOADING=1\n" + daemon.SdNotifyMonotonicUsec())
}

// startWatchdog tells the service manager that we are alive, as often as it
// asked for (WatchdogSec=), while readiness can be answered.
func (s *sidecar) startWatchdog() (stop func()) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return func() {}
	}
	tick := time.NewTicker(interval / 3)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				s.mu.Lock() // a deadlock is what the watchdog is for
				s.mu.Unlock()
				s.notify("WATCHDOG=1")
			}
		}
	}()
	return func() { tick.Stop(); close(done) }
}
