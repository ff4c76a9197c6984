package proxy

import (
	"net/http"
	"sync"
	"time"
)

// headPatience is how long an answer's head waits for the first of its body.
// Most bodies come right after it, and then both cost one write instead of two.
const headPatience = 500 * time.Microsecond

// headFlush sends a head that has waited for long enough.
type headFlush struct {
	timer *time.Timer
	mu    sync.Mutex // held while the head is sent; guards over
	over  bool
}

func flushSoon(w http.Flusher) *headFlush {
	f := &headFlush{}
	f.timer = time.AfterFunc(headPatience, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.over {
			w.Flush()
		}
	})
	return f
}

// settle is called before anybody else writes, and may be called again. A nil
// headFlush has nothing to settle.
func (f *headFlush) settle() {
	if f == nil || f.timer.Stop() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
}
