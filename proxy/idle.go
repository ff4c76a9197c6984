package proxy

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

// idle ends an exchange when no byte of its bodies has moved for the limit.
// Whoever waits for an answer to a whole request is not idle: models think.
type idle struct {
	mu      sync.Mutex // guards all below
	timer   *time.Timer
	up      bool // the request's body is on its way
	down    bool // the answer's body is on its way
	reading bool // the client is being waited for
	late    bool // the limit was reached, and not for the client's fault
	over    bool // the exchange has ended
}

// errStandstill is why a request was broken off when its client kept reading
// and writing.
var errStandstill = errors.New("no byte moved for the idle limit")

// beginUp and beginDown say that a body is on its way.
func (x *exchange) beginUp()   { x.watchIdle(&x.idle.up) }
func (x *exchange) beginDown() { x.watchIdle(&x.idle.down) }

func (x *exchange) watchIdle(direction *bool) {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	if x.idle.over {
		return
	}
	*direction = true
	if x.idle.timer == nil {
		x.idle.timer = time.AfterFunc(x.p.limits.IdleStream, x.standstill)
		return
	}
	x.idle.timer.Reset(x.p.limits.IdleStream)
}

// endUp and endDown say that a body has ended, or will not go on.
func (x *exchange) endUp()   { x.unwatchIdle(&x.idle.up) }
func (x *exchange) endDown() { x.unwatchIdle(&x.idle.down) }

func (x *exchange) unwatchIdle(direction *bool) {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	*direction = false
	if x.idle.timer != nil && !x.idle.up && !x.idle.down {
		x.idle.timer.Stop()
	}
}

// endIdle is for the end of the exchange, after which its connection belongs to
// another.
func (x *exchange) endIdle() {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	x.idle.up, x.idle.down, x.idle.over = false, false, true
	if x.idle.timer != nil {
		x.idle.timer.Stop()
	}
}

// awaits says whether the client is being waited for.
func (x *exchange) awaits(client bool) {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	x.idle.reading = client
}

// moved says that bytes did.
func (x *exchange) moved() {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	if x.idle.timer != nil && (x.idle.up || x.idle.down) {
		x.idle.timer.Reset(x.p.limits.IdleStream)
	}
}

// standstill ends the exchange. A client that stopped sending is told so, if
// it can be: its body fails, and that is answered.
func (x *exchange) standstill() {
	if !x.tooLate() {
		return
	}
	x.cancel.cancel() // without the lock: it may come to stopBody
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	if x.idle.over || x.r.ProtoMajor != 2 {
		return
	}
	x.stopReading()
	if x.idle.down { // else the client is told
		http.NewResponseController(x.w).SetWriteDeadline(time.Unix(1, 0))
	}
}

// tooLate decides whether the exchange has to be broken off.
func (x *exchange) tooLate() bool {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	switch {
	case !x.idle.up && !x.idle.down:
		return false
	case x.idle.up && x.idle.reading && !x.idle.down:
		x.stopReading()
		return false
	}
	x.idle.late = true
	return true
}

// stopReading makes a read of the request's body fail with a timeout.
func (x *exchange) stopReading() {
	if x.r.ProtoMajor == 2 {
		http.NewResponseController(x.w).SetReadDeadline(time.Unix(1, 0))
		return
	}
	x.c.wakeReader()
}

// stopBody makes the request's body fail, if anybody still reads it.
func (x *exchange) stopBody() {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	switch {
	case x.idle.over:
	case x.r.ProtoMajor == 2:
		x.stopReading()
	case x.body != nil:
		x.body.interrupt()
	}
}

// wasLate reports whether the exchange was ended for standing still.
func (x *exchange) wasLate() bool {
	x.idle.mu.Lock()
	defer x.idle.mu.Unlock()
	return x.idle.late
}
