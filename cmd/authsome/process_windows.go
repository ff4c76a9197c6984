package main

import (
	"os"
	"os/exec"
)

// forwarded are the signals that a run passes on to its child. The console
// sends Ctrl-C to every process that it has.
var forwarded = []os.Signal{os.Interrupt}

func fromTerminal(os.Signal) bool { return true }

func exitCode(cmd *exec.Cmd, _ error) int {
	if cmd.ProcessState == nil {
		return exitOwn
	}
	return cmd.ProcessState.ExitCode()
}

func processAlive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	p.Release()
	return true
}
