package proxy

import (
	"context"
	"sync"
	"sync/atomic"

	"authsome/injector"
)

// aborter can be broken off from another goroutine.
type aborter interface{ abort() }

// canceller ends what a request waits for when its client has gone or nothing
// has moved for too long. It is a context without the allocations: most
// requests are over before anybody thinks of cancelling them.
type canceller struct {
	mu      sync.Mutex // guards all below
	waiting aborter    // what the request waits for now, or nil
	gone    bool

	route     atomic.Pointer[injector.Route] // whose credential the request was given, or nil
	withdrawn atomic.Bool                    // cancelled because that is not granted any more
}

// on says what is waited for. It is false, and a is not kept, when the request
// was cancelled already.
func (k *canceller) on(a aborter) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return false
	}
	k.waiting = a
	return true
}

// off says that nothing is waited for any more. It is false when the request
// was cancelled, and so what was waited for may have been broken off.
func (k *canceller) off() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = nil
	return !k.gone
}

func (k *canceller) cancel() {
	k.mu.Lock()
	k.gone = true
	a := k.waiting
	k.waiting = nil
	k.mu.Unlock()
	if a != nil {
		a.abort()
	}
}

func (k *canceller) cancelled() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gone
}

// abort makes a context's cancel function an aborter.
type cancelFunc context.CancelFunc

func (f cancelFunc) abort() { f() }

// context returns a context that ends with the canceller, for what needs one.
// end must be called when it has been used.
func (k *canceller) context(parent context.Context) (ctx context.Context, end func() bool) {
	ctx, cancel := context.WithCancel(parent)
	if !k.on(cancelFunc(cancel)) {
		cancel()
	}
	return ctx, func() bool {
		ok := k.off()
		cancel()
		return ok
	}
}
