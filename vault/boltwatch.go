package vault

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"authsome/vault/regular"

	"github.com/fsnotify/fsnotify"
)

// pollEvery is how often the file is looked at when no event says so: events
// are lost on network file systems and when the kernel's limits are reached.
const pollEvery = time.Second

// Watch implements Store. It watches the directory, because the file may be
// replaced, and looks at the file every second besides.
func (b *Bolt) Watch(ctx context.Context) (<-chan struct{}, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tokens := make(chan struct{}, 1)
	last := b.look()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		b.log.Debug("no file events, polling only", "err", err)
		watcher = nil
	}
	w := &boltWatch{Bolt: b, watcher: watcher, dir: filepath.Dir(b.path), last: last, tokens: tokens}
	w.subscribe()
	go w.run(ctx)
	return tokens, nil
}

// boltWatch is one Watch.
type boltWatch struct {
	*Bolt
	watcher    *fsnotify.Watcher // nil without events
	dir        string
	subscribed bool
	last       look
	tokens     chan struct{}
}

// subscribe asks for the directory's events, once the directory exists.
func (w *boltWatch) subscribe() {
	if w.watcher != nil && !w.subscribed {
		w.subscribed = w.watcher.Add(w.dir) == nil
	}
}

func (w *boltWatch) run(ctx context.Context) {
	var events <-chan fsnotify.Event
	var failures <-chan error
	if w.watcher != nil {
		defer w.watcher.Close()
		events, failures = w.watcher.Events, w.watcher.Errors
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			if event.Name == w.dir { // the directory itself was removed or renamed
				w.subscribed = false
			}
			if event.Name != w.path {
				continue
			}
		case <-failures: // an overflow: look
		case <-tick.C:
			w.subscribe()
		}
		if now := w.look(); !now.same(w.last) {
			w.last = now
			nudge(w.tokens)
		}
	}
}

// look is what tells one state of the file from another without locking it: a
// commit always changes a meta page. The time of modification does not, when
// two writes fall into one tick of the file system's clock.
type look struct {
	info  os.FileInfo // nil when there is no file
	metas [2][metaBytes]byte
}

func (l look) same(other look) bool {
	if l.info == nil || other.info == nil {
		return l.info == nil && other.info == nil
	}
	return os.SameFile(l.info, other.info) && l.info.Size() == other.info.Size() && l.metas == other.metas
}

// look reads the two meta pages. Read during a commit they may be in between,
// and then the next look differs again.
func (b *Bolt) look() look {
	file, err := regular.Open(b.path)
	if err != nil {
		return look{}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return look{}
	}
	l := look{info: info}
	_, _ = file.ReadAt(l.metas[0][:], pageHeaderBytes) // a short file differs by its size
	pageSize := int64(order.Uint32(l.metas[0][8:]))
	if pageSize == 0 || pageSize > 1<<16 {
		pageSize = int64(os.Getpagesize())
	}
	_, _ = file.ReadAt(l.metas[1][:], pageSize+pageHeaderBytes)
	return l
}
