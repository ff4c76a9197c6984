// Command authsome gives programs API access without giving them credentials:
// a local HTTPS proxy attaches them on the way out.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// impatience is how long after a signal another one ends the process, should the
// first not be heeded. One that comes at once is the same: timeout(1) sends to the
// process, and then to its group.
const impatience = 500 * time.Millisecond

func main() {
	adoptLogger = func(l *slog.Logger) {
		slog.SetLogLoggerLevel(slog.LevelDebug)
		slog.SetDefault(l)
	}
	ctx := context.Background()
	// With an empty list, NotifyContext would take every signal.
	if heeded := notIgnored(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT); len(heeded) > 0 {
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, heeded...)
		context.AfterFunc(ctx, func() { time.AfterFunc(impatience, stop) })
	}
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// adoptLogger has what libraries print go to a logger, as of little interest: to
// net/http every slip of an HTTP/2 origin is worth a line on stderr. Nothing but
// the process as a whole can do that, and main does.
var adoptLogger = func(*slog.Logger) {}

// notIgnored drops the signals that whoever started us has us ignore, as nohup
// does. To ask for one would be to end that, for a child too.
func notIgnored(all ...os.Signal) []os.Signal {
	var heeded []os.Signal
	for _, s := range all {
		if !signal.Ignored(s) {
			heeded = append(heeded, s)
		}
	}
	return heeded
}

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	harden()
	a := &app{args: args, getenv: getenv, stdin: &input{ctx, stdin}, stdout: stdout, stderr: stderr}
	root := newRoot(a)
	root.SetArgs(args)
	code := a.exit(ctx, root.ExecuteContext(ctx))
	a.close()
	return code
}
