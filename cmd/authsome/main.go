// Command authsome gives programs API access without giving them credentials:
// a local HTTPS proxy attaches them on the way out.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := context.Background(), func() {}
	// With an empty list, NotifyContext would take every signal.
	if heeded := notIgnored(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT); len(heeded) > 0 {
		ctx, stop = signal.NotifyContext(ctx, heeded...)
		// The second one ends the process, should the first not be heeded.
		context.AfterFunc(ctx, stop)
	}
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

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
