package proxy

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

const (
	// gcPercent trades a few megabytes for CPU time: the live heap of a proxy
	// is small, and collecting at twice its size would be most of its work.
	gcPercent = 400
	// trimEvery is how often a process looks whether it has become quiet.
	trimEvery = time.Second
	// quietBytes is the most that a quiet process allocates in that time.
	quietBytes = 256 << 10
	// garbageBytes is how much garbage is worth a collection.
	garbageBytes = 1 << 20
)

// TuneMemory sets up the collector of a process whose work is to be a proxy,
// until ctx ends: under load it collects seldom, and once nothing happens any
// more it gives back what the load has left behind. An agent may think for
// minutes, and its proxy should not hold memory meanwhile. keepPercent leaves
// the collector's percentage as it is, for a user who has set GOGC.
func TuneMemory(ctx context.Context, keepPercent bool) {
	if !keepPercent {
		debug.SetGCPercent(gcPercent)
	}
	go trim(ctx)
}

func trim(ctx context.Context) {
	samples := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	read := func(i int) uint64 { return samples[i].Value.Uint64() }
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	var before uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		runtimemetrics.Read(samples)
		quiet := read(0)-before < quietBytes
		before = read(0)
		if quiet && read(1) > read(2)+garbageBytes {
			debug.FreeOSMemory() // nobody is waiting
		}
	}
}
